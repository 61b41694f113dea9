"""What a client minimises on a batch, penalties left out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedhm_jax.client.losses import cross_entropy, mask_absent_classes
from fedhm_jax.data import Batch
from fedhm_jax.models import Network
from fedhm_jax.tree import Params

Objective = Callable[[Params, Batch, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``objective(params, batch, owned, key) -> (objective, loss)``: the scalar to differentiate, and the cross-entropy
summed over the batch's samples, for the records. ``owned`` (classes,) bool are the classes the client holds."""


def supervised(network: Network, masked: bool) -> Objective:
    """Mean cross-entropy of a batch.

    Args:
        network: the model.
        masked: zero the logits of classes that the client does not hold.

    Returns:
        The objective.
    """

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = network.train(params, batch.images, batch.mask, key)
        return batch_loss(mask_absent_classes(logits, owned) if masked else logits, batch)

    return objective


def batch_loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of a batch, padding left out.

    Args:
        logits: (batch, classes).
        batch: its labels and mask.

    Returns:
        Mean and sum over the samples, in nats.

    Example:
        >>> batch = Batch(jnp.zeros((2, 1, 1, 1)), jnp.array([0, 1]), jnp.array([1.0, 0.0]))
        >>> [float(value) for value in batch_loss(jnp.zeros((2, 2)), batch)]  # log 2
        [0.6931471824645996, 0.6931471824645996]
    """
    total = (cross_entropy(logits, batch.labels) * batch.mask).sum()
    return total / jnp.maximum(batch.mask.sum(), 1), total
