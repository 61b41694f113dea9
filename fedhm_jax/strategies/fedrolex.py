"""FedRolex: the window of channels that narrow clients train rolls on by one every round.

Alam, Liu, Yan, Zhang: "FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction", NeurIPS
2022, arXiv 2212.01548. As HeteroFL, but in round j the slice of an axis with K channels begins at channel j mod K and
wraps around, so that every channel is trained equally often by every tier.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.data import Client
from fedhm_jax.models import Budget, roll_width
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.heterofl import heterofl
from fedhm_jax.strategies.slices import plan_slices
from fedhm_jax.tree import Params


class FedRolexState(NamedTuple):
    """Server state.

    Attributes:
        rolled: the full-width model with the round's window in front; turned so, its windows are leading slices.
        shift: number of rounds so far, int32: by how much ``rolled`` is turned.
    """

    rolled: Params
    shift: jax.Array


def fedrolex(
    setting: Setting, *, widths: Sequence[float] | None = None, budget: Budget = "bytes"
) -> Strategy[FedRolexState]:
    """The FedRolex strategy: HeteroFL on a model that turns by one channel a round.

    Args:
        setting: what to build for.
        widths: share of the channels of each tier; solved to match FedHM's cost if None.
        budget: unit of that cost.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model cannot be sliced, or no width meets a tier's budget.

    Source: arXiv 2212.01548, section 3 and algorithm 1.
    """
    slices = plan_slices(setting, widths, budget)
    leading = heterofl(setting, widths=slices.widths)

    def aggregate(state: FedRolexState, contributions: Sequence[Contribution], clients: jax.Array) -> FedRolexState:
        merged = leading.aggregate(state.rolled, contributions, clients)
        return FedRolexState(roll_width(merged, slices.plan, jnp.int32(-1)), state.shift + 1)

    def distribute(state: FedRolexState, tier: int, client: Client) -> Params:
        return leading.distribute(state.rolled, tier, client)

    def contribute(state: FedRolexState, tier: int, trained: Params, client: Client) -> Contribution:
        return leading.contribute(state.rolled, tier, trained, client)

    return leading._replace(
        init=lambda params, key: FedRolexState(params, jnp.zeros((), jnp.int32)),
        global_model=lambda state: roll_width(state.rolled, slices.plan, state.shift),
        tier_model=lambda state, tier: leading.tier_model(state.rolled, tier),
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        replace_model=lambda state, params: state._replace(rolled=roll_width(params, slices.plan, -state.shift)),
    )
