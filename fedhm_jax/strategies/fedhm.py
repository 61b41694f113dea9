"""FedHM: low-rank clients of one full-rank model.

Yao, Pan, O'Neill, Dai, Wan, Jin, Sun: "FedHM: Efficient Federated Learning for Heterogeneous Models via Low-rank
Factorization", arXiv 2111.14655. Each round the server factorizes its kernels once, sends every tier the leading
directions its rank allows, and averages the recovered products of the trained factors.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.client import supervised
from fedhm_jax.data import Client
from fedhm_jax.lowrank import (
    DecompositionMethod,
    Factors,
    RankPlan,
    factorize_tree,
    largest_ranks,
    recover_tree,
    with_factors,
)
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, rank_plans, sum_tiers, weigh
from fedhm_jax.tree import Params


class FedHMState(NamedTuple):
    """Server state.

    Attributes:
        params: the full-rank global model W.
        factors: its factorized kernels by path, at the largest rank any tier needs; smaller tiers are slices.
    """

    params: Params
    factors: dict[str, Factors]


def fedhm(
    setting: Setting,
    *,
    history: bool = True,
    decomposition: DecompositionMethod = "auto",
    plans: Sequence[RankPlan] | None = None,
) -> Strategy[FedHMState]:
    """The FedHM strategy, ``W <- sum_k w_k u_k v_k``.

    Args:
        setting: what to build for.
        history: in a round without a client of the first tier, the old model joins as one more client, of mean sample
            count and of f = 1, since it has full rank.
        decomposition: how the server factorizes its kernels, as in `lowrank.truncation.truncated`; ``subspace``
            starts from the factors of the round before.
        plans: rank plan of each tier, an empty plan being the full-rank model itself; from the setting's rank factors
            if None.

    Returns:
        The strategy.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> module, images = build_model("mlp", classes=2, hidden=(4,)), jnp.ones((1, 2, 2, 1))
        >>> params = module.init(jax.random.key(0), images)["params"]
        >>> setting = Setting(module, images, params, has_statistics=False, rank_factors=(1.0, 2.0))
        >>> strategy = fedhm(setting)
        >>> weakest = strategy.tier_model(strategy.init(params, jax.random.key(1)), 1)
        >>> jax.tree.map(jnp.shape, weakest["dense_0"])
        {'bias': (4,), 'kernel': Factors(v=(4, 1), u=(1, 4))}

    Source: arXiv 2111.14655; weights, history term and per-class rows as in the authors' published code, the rows'
    weights normalised here.
    """
    factors = setting.rank_factors
    plans = rank_plans(setting) if plans is None else plans
    largest = largest_ranks(plans)
    network = setting.network
    objective = supervised(network, setting.masked_loss, setting.task)

    def with_model(params: Params, earlier: Mapping[str, Factors] | None = None) -> FedHMState:
        return FedHMState(params, factorize_tree(params, largest, decomposition, earlier))

    def tier_model(state: FedHMState, tier: int) -> Params:
        return with_factors(state.params, state.factors, plans[tier]) if plans[tier] else state.params

    def distribute(state: FedHMState, tier: int, client: Client) -> Params:
        return tier_model(state, tier)

    def contribute(state: FedHMState, tier: int, trained: Params, client: Client) -> Contribution:
        return client_contribution(setting, tier, recover_tree(trained), client)

    def aggregate(state: FedHMState, contributions: Sequence[Contribution], clients: jax.Array) -> FedHMState:
        merged = sum_tiers(contributions)
        if history:
            # Alone it would be itself to rounding only; a round of nobody keeps the model to the bit.
            joins = (clients[0] == 0) & (clients.sum(dtype=clients.dtype) > 0)
            samples = jnp.asarray(setting.mean_samples, jax.tree.leaves(state.params)[0].dtype)
            every_class = jnp.ones((), bool)
            merged = sum_tiers([merged, weigh(setting, 1.0, state.params, joins, samples, every_class)])
        return with_model(merge(state.params, merged), state.factors)

    return Strategy(
        init=lambda params, key: with_model(params),
        global_model=lambda state: state.params,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=network,
        networks=(network,) * len(factors),
        objective=lambda state, tier: objective,
        sizes=tuple(
            f"ranks / {factor:g}" if plan else "full model" for factor, plan in zip(factors, plans, strict=True)
        ),
        replace_model=lambda state, params: with_model(params, state.factors),
    )
