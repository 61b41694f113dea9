"""FedHM: low-rank clients of one full-rank model.

Yao, Pan, O'Neill, Dai, Wan, Jin, Sun: "FedHM: Efficient Federated Learning for Heterogeneous Models via Low-rank
Factorization", arXiv 2111.14655. Each round the server factorizes its kernels once, sends every tier the leading
directions its rank allows, and averages the recovered products of the trained factors.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.aggregation import Contribution, merge, weighted
from fedhm_jax.client_data import Client
from fedhm_jax.decomposition import Factors, RankPlan, factorize_tree, recover_tree, with_factors
from fedhm_jax.strategies.base import Strategy
from fedhm_jax.tree import Params, map_named

Weighting = Literal["uniform", "samples", "rank_softmax"]


class FedHMState(NamedTuple):
    """Server state.

    Attributes:
        params: the full-rank global model W.
        factors: its factorized kernels by path, at the largest rank any tier needs; smaller tiers are slices.
    """

    params: Params
    factors: dict[str, Factors]


def fedhm(
    plans: Sequence[RankPlan],
    rank_factors: Sequence[float],
    *,
    weighting: Weighting = "uniform",
    temperature: float = 1.0,
    history_samples: float | None = 1.0,
    classifier: str | None = None,
) -> Strategy:
    """The FedHM strategy, ``W <- sum_k w_k u_k v_k``.

    Args:
        plans: rank plan of each tier; an empty plan is the full-rank model itself.
        rank_factors: f of each tier, increasing.
        weighting: ``uniform``: w_k equal; ``samples``: by sample count; ``rank_softmax``: ``w_k ~ exp(-f_k /
            temperature)``.
        temperature: T of ``rank_softmax``.
        history_samples: in a round without a client of the first tier, the old model joins as one more client of that
            tier with this many samples (they count in ``samples`` weighting only); None: it never joins.
        classifier: top-level layer whose rows (one a class) are averaged only over the clients that hold the class;
            None averages them over all.

    Returns:
        The strategy.

    Example:
        >>> strategy = fedhm([{}, {"dense/kernel": 1}], [1.0, 8.0])
        >>> state = strategy.init({"dense": {"kernel": jnp.eye(4)}})
        >>> [jax.tree.map(jnp.shape, params) for params in strategy.distribute(state)]
        [{'dense': {'kernel': (4, 4)}}, {'dense': {'kernel': Factors(v=(4, 1), u=(1, 4))}}]

    Source: arXiv 2111.14655; weights, history term and per-class rows as in the authors' published code, the rows'
    weights normalised here.
    """
    largest = {path: max(plan.get(path, 0) for plan in plans) for path in sorted(set().union(*plans))}
    softmax = [math.exp((rank_factors[0] - factor) / temperature) for factor in rank_factors]

    def with_model(params: Params) -> FedHMState:
        return FedHMState(params, factorize_tree(params, largest))

    def distribute(state: FedHMState) -> tuple[Params, ...]:
        return tuple(with_factors(state.params, state.factors, plan) if plan else state.params for plan in plans)

    def contribution(tier: int, params: Params, samples: jax.Array, owned: jax.Array, joins: jax.Array) -> Contribution:
        """Weighs a whole tree; ``joins`` is 0 for one that does not take part."""
        dtype = jax.tree.leaves(params)[0].dtype
        weight = {"uniform": joins, "samples": joins * samples, "rank_softmax": joins * softmax[tier]}[weighting]
        by_class = weight * owned.astype(dtype)
        weights = map_named(lambda path, _: by_class if path.split("/")[0] == classifier else weight, params)
        return weighted(params, weights)

    def contribute(tier: int, trained: Params, client: Client) -> Contribution:
        params = recover_tree(trained)
        dtype = jax.tree.leaves(params)[0].dtype
        return contribution(tier, params, client.size.astype(dtype), client.owned, client.present.astype(dtype))

    def aggregate(state: FedHMState, merged: Contribution, clients: jax.Array) -> FedHMState:
        if history_samples is not None:
            dtype = jax.tree.leaves(state.params)[0].dtype
            every_class = jnp.ones((), bool)
            missing = (clients[0] == 0).astype(dtype)
            old = contribution(0, state.params, jnp.asarray(history_samples, dtype), every_class, missing)
            merged = jax.tree.map(jnp.add, merged, old)
        return with_model(merge(state.params, merged))

    return Strategy(with_model, lambda state: state.params, distribute, contribute, aggregate)
