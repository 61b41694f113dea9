"""Training loss and evaluation metrics, per sample."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of each sample in nats, ``log sum_c exp(z_c) - z_y``.

    Args:
        logits: (batch, classes).
        labels: (batch,) integers.

    Returns:
        (batch,).

    Example:
        >>> float(cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0])  # log 4
        1.3862943649291992
    """
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - picked


def mask_absent_classes(logits: jax.Array, owned: jax.Array) -> jax.Array:
    """Sets the logits of classes that the client does not hold to zero, so that its loss does not push them down.

    Args:
        logits: (batch, classes).
        owned: (classes,) bool, classes the client holds samples of.

    Returns:
        (batch, classes).

    Example:
        >>> mask_absent_classes(jnp.array([[3.0, 5.0]]), jnp.array([True, False])).tolist()
        [[3.0, 0.0]]

    Source: HeteroFL (2010.01264), masked cross-entropy.
    """
    return jnp.where(owned[None, :], logits, jnp.zeros((), logits.dtype))


def in_top(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether each sample's label is among its k largest logits; ties count against the sample.

    Args:
        logits: (batch, classes).
        labels: (batch,) integers.
        k: at least 1.

    Returns:
        (batch,) bool.

    Example:
        >>> in_top(jnp.array([[0.1, 0.5, 0.4]]), jnp.array([2]), 1).tolist()
        [False]
    """
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)
    rivals = (logits >= picked).sum(axis=1) - 1
    # A logit that is not a number compares false with everything, and must not count as a hit.
    return (rivals < k) & jnp.isfinite(picked[:, 0])
