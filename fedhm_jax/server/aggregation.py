"""Weighted means over clients, as running sums: a round's memory does not grow with its cohort."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.tree import Params


class Contribution(NamedTuple):
    """What clients add to the merge. Contributions of disjoint sets of clients add up.

    Attributes:
        total: tree of weighted sums, in the shapes of the server's parameters.
        weight: tree of the weights that went into each sum, broadcastable to the sums' last axes: a scalar, or one
            weight per class.
    """

    total: Params
    weight: Params


def weighted(params: Params, weights: Params) -> Contribution:
    """One client's contribution.

    Args:
        params: tree of arrays.
        weights: tree of weights, each broadcastable against the last axes of its array.

    Returns:
        The contribution.

    Example:
        >>> weighted({"w": jnp.array([2.0, 4.0])}, {"w": jnp.array(3.0)}).total["w"].tolist()
        [6.0, 12.0]
    """
    return Contribution(jax.tree.map(lambda w, p: broadcast_weight(w, p.ndim) * p, weights, params), weights)


def merge(old: Params, contributions: Contribution) -> Params:
    """Weighted mean ``sum_k w_k W_k / sum_k w_k``; what nobody trained keeps its value.

    Args:
        old: the server's parameters before the round.
        contributions: summed over the cohort.

    Returns:
        Tree like ``old``.

    Example:
        >>> old = {"w": jnp.array([1.0, 1.0])}
        >>> summed = Contribution({"w": jnp.array([6.0, 0.0])}, {"w": jnp.array([2.0, 0.0])})
        >>> merge(old, summed)["w"].tolist()
        [3.0, 1.0]
    """

    def mean(weight: jax.Array, total: jax.Array, kept: jax.Array) -> jax.Array:
        weight = broadcast_weight(weight, total.ndim)
        trained = weight > 0
        return jnp.where(trained, total / jnp.where(trained, weight, jnp.ones_like(weight)), kept)

    return jax.tree.map(mean, contributions.weight, contributions.total, old)


def broadcast_weight(weight: jax.Array, ndim: int) -> jax.Array:
    """A weight of a contribution, in the rank of the sum that it belongs to.

    Args:
        weight: broadcastable against the last axes of the sum.
        ndim: rank of the sum.

    Returns:
        The weight with leading axes of length 1.

    Example:
        >>> broadcast_weight(jnp.ones(3), 2).shape
        (1, 3)
    """
    return weight.reshape((1,) * (ndim - weight.ndim) + weight.shape)
