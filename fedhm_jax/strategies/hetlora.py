"""HetLoRA: factors of unequal rank, padded with zeros and averaged each by itself.

Cho, Liu, Xu, Fahrezi, Joshi: "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models", EMNLP 2024,
arXiv 2401.06432. The mean of the v times the mean of the u is not the mean of their products, and the zeros of weak
clients count in the mean, so directions that only strong clients hold shrink; both are the method's. Left out are its
weights by the norm of a client's product, whose size clients would decide by themselves, and the pruning of ranks in
training: a client keeps the rank of its tier, and weighs what `strategy.weighting` says.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from fedhm_jax.data import Client
from fedhm_jax.lowrank import Factors, largest_ranks, pad_rank, recover, truncate
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.adapters import plan_adapters, shapes_of
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, sum_tiers
from fedhm_jax.strategies.with_adapters import AdapterState, DifferenceMethod, with_adapters
from fedhm_jax.tree import Params


def hetlora(
    setting: Setting, *, adapter_ranks: Sequence[int] | None = None, alpha: float = 16.0
) -> Strategy[AdapterState[dict[str, Factors]]]:
    """The HetLoRA strategy, ``W = W0 + v u``, ``v <- sum_k w_k [v_k, 0]``, ``u <- sum_k w_k (alpha / r_k) [u_k; 0]``.

    Args:
        setting: what to build for.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.

    Returns:
        The strategy; a tier's adapter is the leading directions of the server's factors. It has no ``replace_model``:
        the factors of a model that an optimizer moved would be others than those that are averaged.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2401.06432, on aggregation by zero-padding.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    largest = largest_ranks(plan.ranks)
    # Factors have no column for each class.
    by_client = setting._replace(classifier=None)

    def init(difference: Mapping[str, jax.Array], key: jax.Array) -> dict[str, Factors]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes_of(difference, largest))

    def leading(state: dict[str, Factors], tier: int) -> dict[str, Factors]:
        return {path: truncate(factors, plan.ranks[tier][path]) for path, factors in state.items()}

    def contribute(state: dict[str, Factors], tier: int, trained: Params, client: Client) -> Contribution:
        padded = {path: pad_rank(factors, largest[path]) for path, factors in trained.items()}
        return client_contribution(by_client, tier, padded, client)

    def aggregate(
        state: dict[str, Factors], contributions: Sequence[Contribution], clients: jax.Array
    ) -> dict[str, Factors]:
        averaged: dict[str, Factors] = merge(state, sum_tiers(contributions))
        return averaged

    method = DifferenceMethod(
        init=init,
        difference=lambda state: {path: recover(factors) for path, factors in state.items()},
        adapters=leading,
        distribute=leading,
        contribute=contribute,
        aggregate=aggregate,
    )
    return with_adapters(setting, plan, method)
