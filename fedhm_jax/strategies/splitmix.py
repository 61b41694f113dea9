"""Split-Mix: many small base networks; a client trains as many as it can hold, and they predict together.

Hong, Wang, Wang, Zhou: "Efficient Split-Mix Federated Learning for On-Demand and In-Situ Customization", ICLR 2022,
arXiv 2203.09747. The model is split into base networks of the weakest tier's width. Each client trains some of them,
independently of one another, starting with another one every round; each is averaged over the clients that trained it.
A tier predicts with the mean of the logits of as many base networks as it can hold.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import Objective, supervised
from fedhm_jax.data import Client
from fedhm_jax.models import Budget, ensemble, model_cost, slice_width
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, sum_tiers
from fedhm_jax.strategies.slices import Slices, fedhm_budget, plan_slices, sliced_shapes
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params, map_named


class SplitMixState(NamedTuple):
    """Server state.

    Attributes:
        bases: parameters of all base networks, stacked on a leading axis.
        round: number of rounds so far, int32.
    """

    bases: Params
    round: jax.Array


def splitmix(
    setting: Setting, *, widths: Sequence[float] | None = None, budget: Budget = "bytes"
) -> Strategy[SplitMixState]:
    """The Split-Mix strategy.

    Args:
        setting: what to build for.
        widths: share of the channels whose cost each tier may spend, the last one being the base networks' width;
            None to spend what FedHM's model of the tier costs.
        budget: unit of the cost.

    Returns:
        The strategy; its global model is the stack of all base networks.

    Raises:
        ConfigError: the model cannot be sliced, or no width meets the weakest tier's budget.

    Source: arXiv 2203.09747, section 3 and algorithm 1.
    """
    slices = plan_slices(setting, widths, budget)
    width = slices.widths[-1]
    held = _bases_held(setting, slices, widths is not None, budget)
    bases = max(held)
    network = setting.network
    together, objective = ensemble(network), _one_by_one(supervised(network, setting.masked_loss, setting.task))

    def init(params: Params, key: jax.Array) -> SplitMixState:
        images = jnp.zeros(setting.inputs.shape, setting.inputs.dtype)
        keys = [jax.random.fold_in(key, base) for base in range(1, bases)]
        others = [setting.module.init(base_key, images)["params"] for base_key in keys]
        others = [jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), other, params) for other in others]
        members = [_base_network(member, slices, width) for member in (params, *others)]
        return SplitMixState(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members), jnp.zeros((), jnp.int32))

    def tier_model(state: SplitMixState, tier: int) -> Params:
        return state.bases if held[tier] == bases else jax.tree.map(lambda leaf: leaf[: held[tier]], state.bases)

    def first_base(state: SplitMixState, client: Client) -> jax.Array:
        return (state.round + client.id) % bases

    def distribute(state: SplitMixState, tier: int, client: Client) -> Params:
        start = first_base(state, client)
        return jax.tree.map(lambda leaf: jnp.roll(leaf, -start, axis=0)[: held[tier]], state.bases)

    def contribute(state: SplitMixState, tier: int, trained: Params, client: Client) -> Contribution:
        total, weight = client_contribution(setting, tier, trained, client)
        weight = jax.tree.map(jnp.broadcast_to, weight, jax.tree.map(jnp.shape, total))
        start = first_base(state, client)

        def to_place(leaf: jax.Array) -> jax.Array:
            missing = [(0, bases - held[tier])] + [(0, 0)] * (leaf.ndim - 1)
            return jnp.roll(jnp.pad(leaf, missing), start, axis=0)

        return jax.tree.map(to_place, Contribution(total, weight))

    def aggregate(state: SplitMixState, contributions: Sequence[Contribution], clients: jax.Array) -> SplitMixState:
        return SplitMixState(merge(state.bases, sum_tiers(contributions)), state.round + 1)

    return Strategy(
        init=init,
        global_model=lambda state: state.bases,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=together,
        networks=(together,) * len(held),
        objective=lambda state, tier: objective,
        sizes=tuple(f"{count} x width {width:.3f}" for count in held),
        replace_model=lambda state, params: state._replace(bases=params),
    )


def _bases_held(setting: Setting, slices: Slices, widths_given: bool, budget: Budget) -> tuple[int, ...]:
    """How many base networks come nearest to each tier's budget."""

    def cost(width: float) -> int:
        return model_cost(setting.network, sliced_shapes(setting, slices.plan, width), setting.inputs, budget)

    base = cost(slices.widths[-1])
    tiers = range(len(slices.widths))
    targets = [cost(slices.widths[tier]) if widths_given else fedhm_budget(setting, tier, budget) for tier in tiers]
    return tuple(max(round(target / base), 1) for target in targets)


def _base_network(params: Params, slices: Slices, width: float) -> Params:
    """A slice of a freshly initialised model whose kernels have the spread that their own number of inputs asks for."""

    def respread(path: str, leaf: jax.Array, whole: jax.Array) -> jax.Array:
        if not path.endswith("kernel"):
            return leaf
        return leaf * math.sqrt(math.prod(whole.shape[:-1]) / math.prod(leaf.shape[:-1]))

    return map_named(respread, slice_width(params, slices.plan, width), params)


def _one_by_one(objective: Objective) -> Objective:
    """The objective of every member of a stack; members share nothing, so the sum trains each by itself."""

    def objectives(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        means, totals = lax.map(lambda member: objective(member, batch, owned, key), params)
        return means.sum(), totals.mean()

    return objectives
