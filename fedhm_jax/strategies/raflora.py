"""raFLoRA: adapters of unequal rank, merged by rank segments.

Wu, Hu, Min, Wang: "Preventing Rank Collapse in Federated Low-Rank Adaptation with Client Heterogeneity", arXiv
2602.13486. The rank axis is cut where some tier's rank ends, and the products of a segment are averaged over the
clients that hold it. As published models are averaged, so that a segment is zero after a round in which nobody held
it; `fedhm_adapters` averages changes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedhm_jax.data import Client
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.adapters import plan_adapters
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.strategies.fedhm_segments import fedhm_segments
from fedhm_jax.strategies.with_adapters import AdapterState, by_decomposition, with_adapters
from fedhm_jax.tree import Params


def raflora(
    setting: Setting,
    *,
    adapter_ranks: Sequence[int] | None = None,
    alpha: float = 16.0,
) -> Strategy[AdapterState[FedHMState]]:
    """The raFLoRA strategy, ``W <- W0 + sum_s (sum_{k holds s} w_k (alpha / r_k) v_ks u_ks) / (sum_{k holds s} w_k)``.

    The sum is decomposed once and ends at the largest rank of a tier.

    Args:
        setting: what to build for.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2602.13486, section 5.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    changes = fedhm_segments(setting, decomposition="svd", plans=plan.ranks)

    # A model is its change from nothing.
    def contribute(state: FedHMState, tier: int, trained: Params, client: Client) -> Contribution:
        return changes.contribute(_zeros_like(state), tier, trained, client)

    def aggregate(state: FedHMState, contributions: Sequence[Contribution], clients: jax.Array) -> FedHMState:
        return changes.aggregate(state._replace(params=_zeros_like(state.params)), contributions, clients)

    return with_adapters(setting, plan, by_decomposition(changes._replace(contribute=contribute, aggregate=aggregate)))


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
