"""Losses and hits of logits, for one class a sample or one at every place of it."""

import jax
import jax.numpy as jnp
from jax import lax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in nats, ``log sum_c exp(z_c) - z_y``.

    Args:
        logits: (..., classes).
        labels: (...) integers.

    Returns:
        (...).

    Example:
        >>> float(cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0])  # log 4
        1.3862943649291992
    """
    return -_of_labels(jax.nn.log_softmax(logits, axis=-1), labels)


def divergence(logits: jax.Array, answers: jax.Array) -> jax.Array:
    """Kullback-Leibler divergence of what one model predicts from what another does, in nats, ``sum_c q_c log q_c /
    p_c``.

    Args:
        logits: (..., classes), log p up to a constant.
        answers: (..., classes) logits of the other model, log q up to a constant.

    Returns:
        (...).

    Example:
        >>> divergence(jnp.array([0.0, 0.0]), jnp.log(jnp.array([0.5, 0.5]))).tolist()
        0.0
    """
    taught = jax.nn.log_softmax(answers, axis=-1)
    return (jnp.exp(taught) * (taught - jax.nn.log_softmax(logits, axis=-1))).sum(-1)


def mask_absent_classes(logits: jax.Array, owned: jax.Array) -> jax.Array:
    """Sets the logits of classes that the client does not hold to zero, so that its loss does not push them down.

    Args:
        logits: (..., classes).
        owned: (classes,) bool, classes the client holds samples of; (1,) for all alike.

    Returns:
        (..., classes).

    Example:
        >>> mask_absent_classes(jnp.array([[3.0, 5.0]]), jnp.array([True, False])).tolist()
        [[3.0, 0.0]]

    Source: HeteroFL (2010.01264), masked cross-entropy.
    """
    return jnp.where(owned.reshape((1,) * (logits.ndim - 1) + (-1,)), logits, jnp.zeros((), logits.dtype))


def in_top(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether each label is among the k largest logits; ties count against it.

    Args:
        logits: (..., classes).
        labels: (...) integers.
        k: at least 1.

    Returns:
        (...) bool.

    Example:
        >>> in_top(jnp.array([[0.1, 0.5, 0.4]]), jnp.array([2]), 1).tolist()
        [False]
    """
    picked = _of_labels(logits, labels)
    rivals = (logits >= picked[..., None]).sum(axis=-1) - 1
    # A logit that is not a number compares false with everything, and must not count as a hit.
    return (rivals < k) & jnp.isfinite(picked)


def _of_labels(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Each label's own value, not a number where there is no such class. A gather would read fewer numbers, but its
    gradient is a scatter, number after number."""
    # Whole numbers of a byte would begin anew after 256 classes.
    labels, classes = labels.astype(jnp.int32), values.shape[-1]
    own = lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1) == labels[..., None]
    picked = jnp.where(own, values, jnp.zeros((), values.dtype)).sum(-1)
    return jnp.where((labels >= 0) & (labels < classes), picked, jnp.full((), jnp.nan, values.dtype))
