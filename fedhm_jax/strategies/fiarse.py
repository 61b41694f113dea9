"""FIARSE: weak clients train the entries of largest magnitude, wherever in the net they are.

Wu, Wang, Wang, Liu, Su, Gao: "FIARSE: Model-Heterogeneous Federated Learning via Importance-Aware Submodel Extraction",
NeurIPS 2024, arXiv 2407.19389. Every round the server's model says anew which entries a tier holds: as many as it can,
the largest first. A client computes with ``w * (|w| >= t)``, t being its tier's threshold of the round, and lets the
gradient through the mask, so that an entry's magnitude learns how important it is. Each entry moves by the mean change
of the clients that hold it.

Masked are kernels (parameters of two axes and more). Biases and norms are whole in every tier: they are few, and as
they begin at zero their magnitude says nothing at first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import Objective, supervised
from fedhm_jax.data import Client
from fedhm_jax.errors import ConfigError
from fedhm_jax.models import Budget
from fedhm_jax.server import Contribution, merge, weighted
from fedhm_jax.strategies.base import Sent, Setting, Strategy, client_contribution, sum_tiers
from fedhm_jax.strategies.slices import fedhm_budget
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params


class FiarseState(NamedTuple):
    """Server state.

    Attributes:
        params: the model.
        thresholds: (tiers,) smallest magnitude that a kernel's entry of the model must have for the tier to hold it.
    """

    params: Params
    thresholds: jax.Array


def fiarse(
    setting: Setting, *, densities: Sequence[float] | None = None, budget: Budget = "bytes"
) -> Strategy[FiarseState]:
    """The FIARSE strategy.

    A tier of density 1 trains the whole model, without a mask; an entry that is exactly zero is held by no other.
    Multiply-accumulates are those of the whole model in every tier, for a dense product computes zeros too.

    Args:
        setting: what to build for.
        densities: share of the kernels' entries that each tier holds; solved to match FedHM's cost if None.
        budget: unit of that cost, ``parameters`` or ``bytes``, the latter of both ways together: values down and up,
            and down which entries they are, as a bitmap or as 4-byte positions, whichever is shorter.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model has no kernel, or the budget is counted in multiply-accumulates.

    Source: arXiv 2407.19389, and the published code for what the paper leaves open.
    """
    size = _size_of(setting)
    held = _entries_held(setting, size, densities, budget)
    whole = tuple(entries == size.entries for entries in held)
    network = setting.network
    plain = supervised(network, setting.masked_loss, setting.task)

    def with_thresholds(params: Params) -> FiarseState:
        magnitudes = jnp.sort(jnp.concatenate([jnp.abs(leaf).ravel() for leaf in _kernels(params)]))
        found = magnitudes[jnp.array([size.entries - entries for entries in held], jnp.int32)]
        # Entries that are exactly zero are for whole tiers alone: a tie of many would exceed what a tier can hold.
        return FiarseState(params, jnp.maximum(found, jnp.finfo(found.dtype).tiny))

    def tier_model(state: FiarseState, tier: int) -> Params:
        return state.params if whole[tier] else _masked(state.params, state.thresholds[tier])

    def distribute(state: FiarseState, tier: int, client: Client) -> Params:
        return tier_model(state, tier)

    def contribute(state: FiarseState, tier: int, trained: Params, client: Client) -> Contribution:
        threshold = state.thresholds[tier]

        def where_held(weight: jax.Array, leaf: jax.Array) -> jax.Array:
            if leaf.ndim < 2:
                return weight
            everywhere = jnp.broadcast_to(weight, leaf.shape)
            # As it was sent: what training did to an entry does not decide who holds it.
            return everywhere if whole[tier] else jnp.where(jnp.abs(leaf) >= threshold, everywhere, 0)

        weights = client_contribution(setting, tier, trained, client).weight
        return weighted(trained, jax.tree.map(where_held, weights, state.params))

    def objective(state: FiarseState, tier: int) -> Objective:
        # The threshold is the smallest magnitude that a client was sent.
        return plain if whole[tier] else _through_the_mask(plain, state.thresholds[tier])

    def aggregate(state: FiarseState, contributions: Sequence[Contribution], clients: jax.Array) -> FiarseState:
        # The mean of what holders trained is the entry plus the mean of their changes, for all of them were sent it.
        return with_thresholds(merge(state.params, sum_tiers(contributions)))

    return Strategy(
        init=lambda params, key: with_thresholds(params),
        global_model=lambda state: state.params,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=network,
        networks=(network,) * len(held),
        objective=objective,
        sizes=tuple(_in_words(entries, size) for entries in held),
        replace_model=lambda state, params: with_thresholds(params),
        sent=tuple(_sent(entries, size) for entries in held),
    )


def straight_through(weight: jax.Array, threshold: jax.Array) -> jax.Array:
    """``w * (|w| >= t)``, whose gradient takes ``2 t / (|w| + t)^2`` for the mask's derivative by the magnitude.

    On entries that are kept the gradient is therefore that of the product's value times
    ``1 + 2 t |w| / (|w| + t)^2``, from 1 far above the threshold to 1.5 at it; on the others it is zero.

    Args:
        weight: array.
        threshold: t, a scalar above zero.

    Returns:
        Array like ``weight``.

    Example:
        >>> weight, threshold = jnp.array([0.1, -1.0, 3.0]), jnp.array(1.0)
        >>> straight_through(weight, threshold).tolist()
        [0.0, -1.0, 3.0]
        >>> jax.grad(lambda w: straight_through(w, threshold).sum())(weight).tolist()
        [0.0, 1.5, 1.375]

    Source: arXiv 2407.19389.
    """
    magnitude = jnp.abs(weight)
    kept = magnitude >= threshold
    share = threshold / (magnitude + threshold)
    slope = lax.stop_gradient(jnp.where(kept, 1 + 2 * share * (1 - share), 0))
    value = jnp.where(kept, weight, 0)
    return lax.stop_gradient(value) + slope * (weight - lax.stop_gradient(weight))


def _through_the_mask(plain: Objective, threshold: jax.Array) -> Objective:
    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        masked = jax.tree.map(lambda leaf: straight_through(leaf, threshold) if leaf.ndim >= 2 else leaf, params)
        return plain(masked, batch, owned, key)

    return objective


def _kernels(params: Params) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]


def _masked(params: Params, threshold: jax.Array) -> Params:
    return jax.tree.map(lambda leaf: jnp.where(jnp.abs(leaf) >= threshold, leaf, 0) if leaf.ndim >= 2 else leaf, params)


# --- what a tier can hold --------------------------------------------------------------------------------------------


class _Size(NamedTuple):
    """Of a model: entries of its kernels, all other parameters, bytes of one, and bytes of a bit an entry."""

    entries: int
    others: int
    itemsize: int
    bitmap: int


_POSITION = 4
"""Bytes of the position of an entry."""


def _size_of(setting: Setting) -> _Size:
    kernels, leaves = _kernels(setting.shapes), jax.tree.leaves(setting.shapes)
    if not kernels:
        name = type(setting.module).__name__
        raise ConfigError.of("model", name, "a model that has a kernel, whose entries this strategy masks")
    entries = sum(leaf.size for leaf in kernels)
    others = sum(leaf.size for leaf in leaves) - entries
    return _Size(entries, others, kernels[0].dtype.itemsize, bitmap=-(-entries // 8))


def _sent(held: int, size: _Size) -> Sent:
    """Up go the values alone: the server knows which entries it has sent."""
    parameters = held + size.others
    values = parameters * size.itemsize
    where = 0 if held == size.entries else min(size.bitmap, _POSITION * held)
    return Sent(parameters, bytes_down=values + where, bytes_up=values)


def _in_words(held: int, size: _Size) -> str:
    return "full model" if held == size.entries else f"density {held / size.entries:.3f}"


def _entries_held(setting: Setting, size: _Size, densities: Sequence[float] | None, budget: Budget) -> tuple[int, ...]:
    """How many of the kernels' entries each tier holds."""
    if densities is not None:
        return tuple(max(round(density * size.entries), 1) for density in densities)
    if budget == "macs":
        allowed = "'parameters' or 'bytes' for fiarse, whose masked kernels take the multiply-accumulates of whole ones"
        raise ConfigError.of("strategy.budget", budget, allowed)
    return tuple(_matched(setting, size, tier, budget) for tier in range(len(setting.rank_factors)))


def _matched(setting: Setting, size: _Size, tier: int, budget: Budget) -> int:
    """The most entries that cost no more than FedHM's model of the tier, which goes both ways as it is.

    There is room for one at least: that model holds all other parameters too, and factors of more than one entry.
    """
    target = fedhm_budget(setting, tier, budget)

    def cost(held: int) -> float:
        sent = _sent(held, size)
        return sent.parameters if budget == "parameters" else (sent.bytes_down + sent.bytes_up) / 2

    if cost(size.entries) <= target:
        return size.entries
    low, high = 1, size.entries
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    return low
