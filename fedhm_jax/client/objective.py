"""What a client minimises on a batch, penalties left out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedhm_jax.models import Network
from fedhm_jax.tasks import CLASSIFICATION, Batch, Task, mask_absent_classes
from fedhm_jax.tree import Params

Objective = Callable[[Params, Batch, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``objective(params, batch, owned, key) -> (objective, loss)``: the scalar to differentiate, and the task's loss
summed over the batch's samples, for the records. ``owned`` (classes,) bool are the classes the client holds."""


def supervised(network: Network, masked: bool, task: Task = CLASSIFICATION) -> Objective:
    """Mean loss of a batch.

    Args:
        network: the model.
        masked: zero the logits of classes that the client does not hold.
        task: whose loss.

    Returns:
        The objective.
    """

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = network.train(params, batch.inputs, batch.mask, key)
        return batch_loss(mask_absent_classes(outputs, owned) if masked else outputs, batch, task)

    return objective


def batch_loss(outputs: jax.Array, batch: Batch, task: Task = CLASSIFICATION) -> tuple[jax.Array, jax.Array]:
    """Loss of a batch, padding left out.

    Args:
        outputs: (batch, ...), such as logits (batch, classes).
        batch: its targets and mask.
        task: whose loss.

    Returns:
        Mean and sum over the samples.

    Example:
        >>> batch = Batch(jnp.zeros((2, 1, 1, 1)), jnp.array([0, 1]), jnp.array([1.0, 0.0]))
        >>> [float(value) for value in batch_loss(jnp.zeros((2, 2)), batch)]  # log 2
        [0.6931471824645996, 0.6931471824645996]
    """
    return masked_mean(task.loss(outputs, batch.targets), batch.mask)


def masked_mean(by_sample: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and sum of a value of each sample, padding left out.

    Args:
        by_sample: (batch,).
        mask: (batch,), 0 for padding.

    Returns:
        The mean, zero without samples, and the sum.

    Example:
        >>> [float(value) for value in masked_mean(jnp.array([2.0, 4.0, 9.0]), jnp.array([1.0, 1.0, 0.0]))]
        [3.0, 6.0]
    """
    mask = mask.astype(by_sample.dtype)
    total = (by_sample * mask).sum()
    return total / jnp.maximum(mask.sum(), 1), total
