"""FedHM merged by rank segments: a direction is averaged over the clients that hold it, and over no others.

FedHM's mean of recovered products takes what a tier could not hold for zero, so that directions which only strong
clients train are averaged away ("rank collapse"). Here the rank axis is cut where some tier's rank ends, and each
segment of it moves by the mean change of the clients that hold it. The segments are those of raFLoRA (arXiv
2602.13486), which averages models where changes are averaged here, so that a segment which nobody trained stays as it
is. Changes in place of models are FedHL's cure of FedHM's bias (arXiv 2505.18494); FedHM itself is arXiv 2111.14655.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedhm_jax.data import Client
from fedhm_jax.lowrank import (
    DecompositionMethod,
    Factors,
    RankPlan,
    factorize_tree,
    input_basis,
    is_factors,
    largest_ranks,
    rank_segments,
    recover,
    segment_of,
    split,
)
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, rank_plans, sum_tiers
from fedhm_jax.strategies.fedhm import FedHMState, fedhm
from fedhm_jax.tree import Params, map_named, named_leaves


def fedhm_segments(
    setting: Setting, *, decomposition: DecompositionMethod = "auto", plans: Sequence[RankPlan] | None = None
) -> Strategy[FedHMState]:
    """FedHM with ``W <- W + sum_s (sum_{k holds s} w_k d_ks) / (sum_{k holds s} w_k)``.

    The change of a segment s is ``d_ks = u_ks v_ks - u_s v_s`` for a client that trained factors, u and v being those
    that it received. A client that trained the whole kernel and changed it by D holds every segment: ``d_ks = Q_s Q_s^T
    D`` with Q_s the received directions of the segment; the rest of D is averaged over such clients alone.

    A kernel that every tier factorizes ends at its largest rank: what is beyond it, nobody could train.

    Args:
        setting: what to build for.
        decomposition: how the server factorizes its kernels, as in `fedhm`.
        plans: rank plan of each tier, as in `fedhm`.

    Returns:
        The strategy. Its clients contribute changes, by segment, so there is no robust merge of them.

    Source: arXiv 2602.13486, section on rank-partitioned aggregation; arXiv 2505.18494; arXiv 2111.14655.
    """
    plans = rank_plans(setting) if plans is None else plans
    largest = largest_ranks(plans)
    segments = {path: rank_segments(plans, path) for path in largest}
    models = fedhm(setting, decomposition=decomposition, plans=plans)

    def with_model(params: Params, earlier: Mapping[str, Factors] | None = None) -> FedHMState:
        factors = factorize_tree(params, largest, decomposition, earlier)
        nobodys = {path for path in largest if all(path in plan for plan in plans)}
        return FedHMState(
            map_named(lambda path, kernel: recover(factors[path]) if path in nobodys else kernel, params), factors
        )

    def contribute(state: FedHMState, tier: int, trained: Params, client: Client) -> Contribution:
        def change(path: str, new: Any, received: Any) -> Any:
            if not is_factors(new):
                return new - received
            held = [segment for segment in segments[path] if segment[1] <= new.rank]
            return tuple(recover(segment_of(new, part)) - recover(segment_of(received, part)) for part in held)

        changes = map_named(change, trained, models.tier_model(state, tier), is_leaf=is_factors)
        return client_contribution(setting, tier, changes, client)

    def aggregate(state: FedHMState, contributions: Sequence[Contribution], clients: jax.Array) -> FedHMState:
        by_path = [_by_path(contribution) for contribution in contributions]

        def moved(path: str, leaf: jax.Array) -> jax.Array:
            changes = [tier[path] for tier in by_path]
            if path not in largest:
                return leaf + _mean(changes)
            return leaf + _mean_of_segments(changes, input_basis(state.factors[path]), segments[path])

        return with_model(map_named(moved, state.params), state.factors)

    return models._replace(
        init=lambda params, key: with_model(params),
        contribute=contribute,
        aggregate=aggregate,
        replace_model=lambda state, params: with_model(params, state.factors),
    )


def _by_path(contribution: Contribution) -> dict[str, Contribution]:
    """A tier's contribution to each parameter; to a factorized kernel's, with a tuple over segments for each tree."""
    total, weight = (
        named_leaves(tree, is_leaf=lambda node: type(node) is tuple)
        for tree in (contribution.total, contribution.weight)
    )
    return {path: Contribution(total[path], weight[path]) for path in total}


def _mean_of_segments(
    changes: Sequence[Contribution], basis: jax.Array, segments: Sequence[tuple[int, int]]
) -> jax.Array:
    """Mean change of one kernel, from each tier's sum: by segment where it is factorized, else whole."""
    held: list[list[Contribution]] = [[] for _ in segments]
    rests = []
    for total, weight in changes:
        if type(total) is tuple:
            parts = [Contribution(*part) for part in zip(total, weight, strict=True)]
        else:
            pieces, rest = split(total, basis, segments)
            parts = [Contribution(piece, weight) for piece in pieces]
            rests.append(Contribution(rest, weight))
        for holders, part in zip(held, parts, strict=False):
            holders.append(part)
    means = [_mean(holders) for holders in [*held, *([rests] if rests else [])]]
    return sum(means[1:], means[0])


def _mean(changes: Sequence[Contribution]) -> jax.Array:
    """Weighted mean over tiers; zero where nobody trained."""
    summed = sum_tiers(changes)
    mean: jax.Array = merge(jnp.zeros_like(summed.total), summed)
    return mean
