"""FedHM whose server keeps factors: each rank is averaged as a parameter; nothing is decomposed after the start.

FedHM multiplies the trained factors out, averages the products, and decomposes their mean anew. The mean of products
has a higher rank than each of them, and what lies beyond the largest rank a tier can hold is cut off in every round.
Here a tier of rank r holds the leading r columns of the server's v and rows of its u, and each of these is averaged
over the clients that hold it, as HeteroFL (arXiv 2010.01264) averages channels; then v_j and u_j are made equally long,
without which one side may outgrow the other from round to round. Nested training keeps the ranks in order, as in
Maestro ("Maestro: Uncovering Low-Rank Structures via Trainable Decomposition", ICML 2024, arXiv 2308.14929), which
trains one model. Where all tiers are of one rank this is FedLMT (ICML 2024) but for the lengths.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from fedhm_jax.data import Client
from fedhm_jax.lowrank import (
    DecompositionMethod,
    RankPlan,
    balanced,
    factorize_tree,
    is_factors,
    largest_ranks,
    matrix_shape,
    pad_rank,
    truncate,
    with_factors,
)
from fedhm_jax.models import factorizable_kernels, nominal_rank
from fedhm_jax.server import Contribution, broadcast_weight, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, rank_plans, sum_tiers
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.strategies.fedhm_nested import Nesting, nested_objective
from fedhm_jax.tree import Params, map_named


def fedhm_factors(
    setting: Setting,
    *,
    nesting: Nesting = "all",
    decomposition: DecompositionMethod = "auto",
    plans: Sequence[RankPlan] | None = None,
) -> Strategy[Params]:
    """FedHM with ``v_j <- sum_{k: r_k >= j} w_k v_kj / sum_{k: r_k >= j} w_k``, and u_j alike, for every rank j.

    Then the server makes v_j and u_j equally long, which leaves their product as it is. Clients minimise the mean loss
    of their own and all weaker tiers' models, or one of these drawn anew for each step, or their own alone. A tier of
    f = 1 trains factors too, of the rank that the rule for tiers gives, or a smaller one so that they take no more room
    than the kernel.

    Args:
        setting: what to build for.
        nesting: as in `fedhm_nested`.
        decomposition: how the first model is factorized, as in `fedhm_jax.lowrank.truncation.truncated`.
        plans: rank plan of each tier; from the setting's rank factors if None.

    Returns:
        The strategy; its state is the model with factors of the largest rank, which is the global model too.

    Raises:
        ConfigError: a tier should be smaller, and the module has no layer that it could factorize.

    Source: arXiv 2111.14655 for the tiers, 2308.14929 for the order of ranks, 2010.01264 for the means.
    """
    plans = _factorized_throughout(setting, rank_plans(setting) if plans is None else plans)
    largest = largest_ranks(plans)
    network = setting.network
    objective = nested_objective(setting, plans, nesting)

    def init(params: Params, key: jax.Array) -> Params:
        return with_factors(params, factorize_tree(params, largest, decomposition), largest)

    def tier_model(state: Params, tier: int) -> Params:
        if plans[tier] == largest:
            return state
        return map_named(
            lambda path, leaf: truncate(leaf, plans[tier][path]) if is_factors(leaf) else leaf,
            state,
            is_leaf=is_factors,
        )

    def distribute(state: Params, tier: int, client: Client) -> Params:
        return tier_model(state, tier)

    def contribute(state: Params, tier: int, trained: Params, client: Client) -> Contribution:
        return client_contribution(setting, tier, trained, client)

    def at_largest_rank(tree: Params) -> Params:
        return map_named(
            lambda path, leaf: pad_rank(leaf, largest[path]) if is_factors(leaf) else leaf, tree, is_leaf=is_factors
        )

    def padded(contribution: Contribution) -> Contribution:
        def everywhere(weight: jax.Array, total: jax.Array) -> jax.Array:
            return jnp.broadcast_to(broadcast_weight(weight, total.ndim), total.shape)

        weights = jax.tree.map(everywhere, contribution.weight, contribution.total)
        return Contribution(at_largest_rank(contribution.total), at_largest_rank(weights))

    def aggregate(state: Params, contributions: Sequence[Contribution], clients: jax.Array) -> Params:
        # The mean of what holders trained is the rank plus the mean of their changes, for all of them were sent it.
        merged = merge(state, sum_tiers([padded(contribution) for contribution in contributions]))
        even = jax.tree.map(lambda leaf: balanced(leaf) if is_factors(leaf) else leaf, merged, is_leaf=is_factors)
        # Balanced once more, what nobody trained would move by rounding.
        return jax.tree.map(partial(jnp.where, clients.sum(dtype=clients.dtype) > 0), even, merged)

    return Strategy(
        init=init,
        global_model=lambda state: state,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=network,
        networks=(network,) * len(plans),
        # Nobody holds a whole kernel that others factorize, so there are no directions to restrict one to.
        objective=lambda state, tier: objective(FedHMState(state, {}), tier),
        sizes=tuple(f"ranks / {factor:g}" for factor in setting.rank_factors),
        replace_model=lambda state, params: params,
    )


def _factorized_throughout(setting: Setting, plans: Sequence[RankPlan]) -> tuple[RankPlan, ...]:
    """The plans, and in each of them a rank for every kernel that some other tier factorizes."""
    shapes = factorizable_kernels(setting.module, setting.inputs)

    def rank(path: str, factor: float) -> int:
        rows, columns = matrix_shape(shapes[path])
        no_larger = rows * columns // (rows + columns)
        return max(min(nominal_rank(shapes[path], factor), no_larger), 1)

    paths = sorted({path for plan in plans for path in plan})
    return tuple(
        {path: plan.get(path) or rank(path, factor) for path in paths}
        for plan, factor in zip(plans, setting.rank_factors, strict=True)
    )
