"""Normalisation layers that respect padded samples, by the name a config gives them.

- ``group``: group norm (Flax's own); mixes no samples, needs no statistics.
- ``batch_static``: batch statistics in training; in evaluation statistics re-estimated on training data ("static batch
  norm" of HeteroFL, 2010.01264).
- ``batch_test``: batch statistics in training and in evaluation, so a prediction depends on its test batch (the FedHM
  snapshot's way).
- ``none``: the identity.
"""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class Norm(Protocol):
    """A normalisation layer as the models call it."""

    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Normalises (batch, ..., channels); ``mask`` (batch,) is 0 for padded samples."""
        ...


def batch_moments(inputs: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of each channel over the samples that are not padding.

    Args:
        inputs: (batch, ..., channels).
        mask: (batch,), 1 for a sample and 0 for padding; None if there is no padding.

    Returns:
        mean (channels,) and variance (channels,).

    Example:
        >>> mean, variance = batch_moments(jnp.array([[1.0], [3.0], [100.0]]), jnp.array([1.0, 1.0, 0.0]))
        >>> float(mean[0]), float(variance[0])
        (2.0, 1.0)
    """
    axes = tuple(range(inputs.ndim - 1))
    inputs = _at_least_float32(inputs)
    if mask is None:
        return inputs.mean(axes), inputs.var(axes)
    weights = mask.astype(inputs.dtype).reshape((-1,) + (1,) * (inputs.ndim - 1))
    positions = math.prod(inputs.shape[1:-1])
    count = jnp.maximum(weights.sum() * positions, 1)
    mean = (inputs * weights).sum(axes) / count
    centred = inputs - _per_channel(mean, inputs)
    return mean, (lax.square(centred) * weights).sum(axes) / count


def _at_least_float32(values: jax.Array) -> jax.Array:
    """Sums over a batch lose too many digits in a 16-bit type."""
    return values.astype(jnp.float32) if jnp.finfo(values.dtype).bits < 32 else values


def _per_channel(values: jax.Array, inputs: jax.Array) -> jax.Array:
    return values.reshape((1,) * (inputs.ndim - 1) + values.shape)


def _rescale(module: nn.Module, inputs: jax.Array, mean: jax.Array, variance: jax.Array, epsilon: float) -> jax.Array:
    channels = inputs.shape[-1:]
    scale = module.param("scale", nn.initializers.ones_init(), channels, jnp.float32)
    bias = module.param("bias", nn.initializers.zeros_init(), channels, jnp.float32)
    scale, bias, values = _at_least_float32(scale), _at_least_float32(bias), _at_least_float32(inputs)
    slope = _per_channel(scale * lax.rsqrt(variance + epsilon), values)
    return ((values - _per_channel(mean, values)) * slope + _per_channel(bias, values)).astype(inputs.dtype)


class StaticBatchNorm(nn.Module):
    """Batch norm whose evaluation statistics are measured afresh, not accumulated in training.

    ``y = scale * (x - mean) / sqrt(variance + epsilon) + bias``. In training mean and variance are those of the batch;
    if the collection ``batch_stats`` is mutable they are also written there. In evaluation they are read from it.

    Attributes:
        epsilon: added to the variance.

    Source: HeteroFL (2010.01264), section 3.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Normalises each channel.

        Args:
            inputs: (batch, ..., channels).
            mask: (batch,), 0 for padded samples, or None.
            train: use the batch's statistics.

        Returns:
            Same shape as ``inputs``.
        """
        channels = inputs.shape[-1:]
        if train:
            mean, variance = batch_moments(inputs, mask)
            if self.is_mutable_collection("batch_stats"):
                self.put_variable("batch_stats", "mean", mean)
                self.put_variable("batch_stats", "mean_square", variance + lax.square(mean))
        else:
            mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32).value
            mean_square = self.variable("batch_stats", "mean_square", jnp.ones, channels, jnp.float32).value
            variance = jnp.maximum(mean_square - lax.square(mean), 0)
        return _rescale(self, inputs, mean, variance, self.epsilon)


class BatchStatisticsNorm(nn.Module):
    """Batch norm that always uses the statistics of the batch at hand, in evaluation too.

    Attributes:
        epsilon: added to the variance.

    Source: the FedHM authors' published code.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Normalises each channel; arguments as in `StaticBatchNorm`, ``train`` makes no difference."""
        return _rescale(self, inputs, *batch_moments(inputs, mask), self.epsilon)


class GroupNorm(nn.Module):
    """Group norm in groups of at most 8, a number that divides the channels.

    Source: Wu and He, Group Normalization (1803.08494).
    """

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Normalises each sample; ``mask`` and ``train`` make no difference."""
        return nn.GroupNorm(num_groups=math.gcd(8, inputs.shape[-1]), epsilon=1e-5)(inputs)


class NoNorm(nn.Module):
    """The identity."""

    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Returns its input."""
        return inputs


NORMS: dict[str, type[nn.Module]] = {
    "none": NoNorm,
    "group": GroupNorm,
    "batch_static": StaticBatchNorm,
    "batch_test": BatchStatisticsNorm,
}
