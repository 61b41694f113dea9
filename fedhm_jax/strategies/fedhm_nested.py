"""FedHM with nested training: every client trains the models of all weaker tiers inside of its own.

FedHM cuts a weak tier's model out of the server's, but no client has trained it as it stands. Here a client minimises
the mean loss of all truncations up to its own rank, or of one that is drawn anew for every step, as FjORD does with
widths (arXiv 2102.13451) and Maestro with ranks ("Maestro: Uncovering Low-Rank Structures via Trainable Decomposition",
ICML 2024, arXiv 2308.14929). A client of the whole model restricts it to the directions of a weaker tier, ``Q Q^T W``.
The merge is that of `fedhm_segments`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
from jax import lax

from fedhm_jax.client import Objective, supervised
from fedhm_jax.lowrank import DecompositionMethod, Factors, RankPlan, input_basis, is_factors, restrict, truncate
from fedhm_jax.strategies.base import Setting, Strategy, rank_plans
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.strategies.fedhm_segments import fedhm_segments
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params, map_named

Nesting = Literal["all", "drawn", "none"]


def fedhm_nested(
    setting: Setting,
    *,
    nesting: Nesting = "all",
    decomposition: DecompositionMethod = "auto",
    plans: Sequence[RankPlan] | None = None,
) -> Strategy[FedHMState]:
    """`fedhm_segments` whose clients minimise ``(1 / T) sum_t L([W]_{r_t})`` over their own and all weaker tiers t.

    Args:
        setting: what to build for.
        nesting: ``all`` truncations in every step, one of them ``drawn`` for each step, all alike, or ``none`` but the
            client's own model, which is `fedhm_segments`.
        decomposition: how the server factorizes its kernels, as in `fedhm`.
        plans: rank plan of each tier, as in `fedhm`.

    Returns:
        The strategy.

    Source: arXiv 2111.14655, 2602.13486 and 2308.14929.
    """
    plans = rank_plans(setting) if plans is None else plans
    merged = fedhm_segments(setting, decomposition=decomposition, plans=plans)
    return merged._replace(objective=nested_objective(setting, plans, nesting))


def nested_objective(
    setting: Setting, plans: Sequence[RankPlan], nesting: Nesting = "all", plain: Objective | None = None
) -> Callable[[FedHMState, int], Objective]:
    """What a client minimises when it trains the weaker tiers' models inside of its own.

    Args:
        setting: what to build for.
        plans: rank plan of each tier.
        nesting: as in `fedhm_nested`.
        plain: the loss of one of the models; the setting's own if None.

    Returns:
        From FedHM's state and a tier to the objective. Of the state it takes Q, the directions of the factors, which a
        device of the whole model finds by the decomposition of what it received.
    """
    loss_of_one = supervised(setting.network, setting.masked_loss, setting.task) if plain is None else plain

    def objective(state: FedHMState, tier: int) -> Objective:
        bases = {path: input_basis(state.factors[path]) for path in state.factors if path not in plans[tier]}
        inside = [plan for place, plan in enumerate(plans) if place >= tier and plan not in plans[tier:place]]
        trained = inside[:1] if nesting == "none" else inside
        losses = [partial(_loss_of_truncation, loss_of_one, plan, bases) for plan in trained]
        return (_one_of if nesting == "drawn" else _mean_of)(losses)

    return objective


def _loss_of_truncation(
    plain: Objective,
    plan: RankPlan,
    bases: dict[str, jax.Array],
    params: Params,
    batch: Batch,
    owned: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def cut(path: str, kernel: Any) -> jax.Array | Factors:
        if path not in plan:
            return kernel
        rank = plan[path]
        return truncate(kernel, rank) if is_factors(kernel) else restrict(kernel, bases[path][..., :rank])

    return plain(map_named(cut, params, is_leaf=is_factors), batch, owned, key)


def _mean_of(losses: Sequence[Objective]) -> Objective:
    """The mean of the losses; for the records, the first one's sum: that of the client's own model."""

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        means, totals = zip(*(loss(params, batch, owned, key) for loss in losses), strict=True)
        return sum(means[1:], means[0]) / len(losses), totals[0]

    return objective


def _one_of(losses: Sequence[Objective]) -> Objective:
    """One of the losses, drawn for each step."""

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        draw_key, loss_key = jax.random.split(key)
        drawn = jax.random.randint(draw_key, (), 0, len(losses))
        return lax.switch(drawn, losses, params, batch, owned, loss_key)

    return objective
