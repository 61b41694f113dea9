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
    history: bool = True,
    classifier: str | None = None,
) -> Strategy:
    """The FedHM strategy, ``W <- sum_k w_k u_k v_k``.

    Args:
        plans: rank plan of each tier; an empty plan is the full-rank model itself.
        rank_factors: f of each tier, increasing.
        weighting: ``uniform``: w_k equal; ``samples``: by sample count; ``rank_softmax``: ``w_k ~ exp(-f_k /
            temperature)``.
        temperature: T of ``rank_softmax``.
        history: in a round without a client of the first tier, the old model joins as one more client of that tier,
            with the cohort's mean sample count.
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

    def client_weight(tier: int, client: Client, dtype: jnp.dtype) -> jax.Array:
        weight = {"uniform": 1, "samples": client.size, "rank_softmax": softmax[tier]}[weighting]
        return jnp.where(client.present, jnp.asarray(weight, dtype), 0)

    def spread(weight: jax.Array, params: Params, owned: jax.Array) -> Params:
        """One weight a leaf; one a class in the classifier."""

        def of_leaf(path: str, leaf: jax.Array) -> jax.Array:
            by_class = classifier is not None and path.split("/")[0] == classifier
            return weight * owned.astype(weight.dtype) if by_class else weight

        return map_named(of_leaf, params)

    def contribute(tier: int, trained: Params, client: Client) -> Contribution:
        params = recover_tree(trained)
        weight = client_weight(tier, client, jax.tree.leaves(params)[0].dtype)
        return weighted(params, spread(weight, params, client.owned))

    def aggregate(state: FedHMState, contribution: Contribution, clients: jax.Array) -> FedHMState:
        if history:
            contribution = _with_history(state.params, contribution, clients)
        return with_model(merge(state.params, contribution))

    def _with_history(params: Params, contribution: Contribution, clients: jax.Array) -> Contribution:
        dtype = jax.tree.leaves(params)[0].dtype
        missing = (clients[0] == 0).astype(dtype)
        # Weights of classifier rows count owners only; the largest weight of the tree is that of the whole cohort.
        heaviest = jnp.stack([weight.max() for weight in jax.tree.leaves(contribution.weight)]).max()
        mean_weight = heaviest / jnp.maximum(clients.sum(), 1).astype(dtype)
        joins = missing * (mean_weight if weighting == "samples" else jnp.ones((), dtype))
        weights = jax.tree.map(lambda weight: jnp.full_like(weight, joins), contribution.weight)
        return jax.tree.map(jnp.add, contribution, weighted(params, weights))

    return Strategy(with_model, lambda state: state.params, distribute, contribute, aggregate)
