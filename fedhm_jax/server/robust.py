"""Merges that a few wrong clients cannot steer: the median and the trimmed mean of every coordinate.

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
arXiv 1803.01498. They need every client's value of a coordinate at once, so memory grows with the cohort: one
full-size model a client.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.server.acceptance import Merge
from fedhm_jax.server.aggregation import Contribution, broadcast_weight, merge


def merge_robustly(stacked: Contribution, rule: Merge, trim: float) -> Contribution:
    """All clients' contributions as one, whose mean is the robust value of every coordinate.

    A client takes part in the coordinates where its weight is above zero, and counts once there.

    Args:
        stacked: contributions of all tiers' clients, every leaf with a leading axis (clients,).
        rule: ``median`` or ``trimmed_mean``.
        trim: share of a coordinate's clients cut off at each end by the trimmed mean.

    Returns:
        The contribution, ``(value sum_k w_k, sum_k w_k)``, without the leading axis.

    Example:
        >>> stacked = Contribution(jnp.array([[1.0], [2.0], [90.0]]), jnp.ones(3))
        >>> merge_robustly(stacked, "median", 0.1).total.tolist()  # median 2, of three clients
        [6.0]
    """
    clients = jax.tree.leaves(stacked.weight)[0].shape[0]
    cuts = clients_cut(rule, trim, clients)
    weight = jax.tree.map(lambda leaf: leaf.sum(0), stacked.weight)

    def robust(weights: jax.Array, totals: jax.Array, summed: jax.Array) -> jax.Array:
        values = jax.vmap(lambda total, own: merge(jnp.zeros_like(total), Contribution(total, own)))(totals, weights)
        by_coordinate = jax.vmap(lambda own: broadcast_weight(own, totals.ndim - 1))(weights)
        present = jnp.broadcast_to(by_coordinate > 0, totals.shape)
        return trimmed_mean(values, present, cuts) * broadcast_weight(summed, totals.ndim - 1)

    return Contribution(jax.tree.map(robust, stacked.weight, stacked.total, weight), weight)


def trimmed_mean(values: jax.Array, present: jax.Array, cuts: np.ndarray) -> jax.Array:
    """Mean of every coordinate without its smallest and its largest values.

    Args:
        values: (clients, ...).
        present: (clients, ...) bool, which values count.
        cuts: (clients + 1,) int, how many are cut off at each end, by the number of values that count.

    Returns:
        (...); zero where no value counts.

    Example:
        >>> values = jnp.array([5.0, 1.0, 3.0, 100.0])
        >>> float(trimmed_mean(values, jnp.ones(4, bool), cuts=np.array([0, 0, 0, 1, 1])))
        4.0
    """
    count = present.sum(0, dtype=jnp.int32)
    cut = jnp.asarray(cuts, jnp.int32)[count]
    in_order = jnp.sort(jnp.where(present, values, jnp.full_like(values, jnp.inf)), axis=0)
    places = jnp.arange(values.shape[0], dtype=jnp.int32).reshape(-1, *(1,) * (values.ndim - 1))
    kept = (places >= cut[None]) & (places < (count - cut)[None])
    total = jnp.where(kept, in_order, jnp.zeros_like(in_order)).sum(0)
    return total / jnp.maximum(count - 2 * cut, 1).astype(values.dtype)


def clients_cut(rule: Merge, trim: float, clients: int) -> np.ndarray:
    """How many values are cut off at each end: all but the middle one or two for the median.

    Args:
        rule: ``median`` or ``trimmed_mean``.
        trim: share cut off by the trimmed mean, rounded down to whole clients.
        clients: most values that there can be.

    Returns:
        (clients + 1,) int, by the number of values.

    Example:
        >>> clients_cut("median", 0.1, 5).tolist(), clients_cut("trimmed_mean", 0.2, 5).tolist()
        ([0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 1])
    """
    counts = np.arange(clients + 1)
    if rule == "median":
        return np.maximum(counts - 1, 0) // 2
    # 0.29 * 100 is a little less than 29
    return np.floor(trim * counts + 1e-9).astype(np.int64)
