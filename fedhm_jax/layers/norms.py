"""Normalisation layers that respect padded samples, by the name a config gives them.

- ``group``: group norm (Flax's own); mixes no samples, needs no statistics.
- ``batch_static``: batch statistics in training; in evaluation statistics re-estimated on training data ("static batch
  norm" of HeteroFL, 2010.01264).
- ``batch_test``: batch statistics in training and in evaluation, so a prediction depends on its test batch (the FedHM
  snapshot's way).
- ``none``: the identity.

`LayerNorm` is that of transformers, which have no other.
"""

import math
from functools import partial
from typing import Any, Protocol

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
    inputs = _at_least_float32(inputs)
    weights = _sample_weights(inputs, mask)
    axes = tuple(range(inputs.ndim - 1))
    mean = (inputs * weights).sum(axes)
    return mean, (lax.square(inputs - _per_channel(mean, inputs)) * weights).sum(axes)


def _sample_weights(inputs: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Weight of every position of a sample in a mean over the batch, (batch, 1, ...)."""
    batch, positions = inputs.shape[0], math.prod(inputs.shape[1:-1])
    mask = jnp.ones(batch, inputs.dtype) if mask is None else mask.astype(inputs.dtype)
    return (mask / jnp.maximum(mask.sum() * positions, 1)).reshape((-1,) + (1,) * (inputs.ndim - 1))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def batch_normalise(
    inputs: jax.Array, scale: jax.Array, bias: jax.Array, mask: jax.Array | None, epsilon: float
) -> jax.Array:
    """``scale * x + bias`` with ``x = (input - mean) / sqrt(variance + epsilon)``, moments from `batch_moments`.

    With the gradient g of the outputs and the weights w of the samples in the mean, the gradient of the inputs is
    ``scale / sqrt(variance + epsilon) * (g - w (sum g + x sum g x))``: two sums over the batch, where derivatives of
    the moments one by one would take four.

    Args:
        inputs: (batch, ..., channels), at least float32.
        scale: (channels,).
        bias: (channels,).
        mask: (batch,), 0 for padded samples, or None.
        epsilon: added to the variance.

    Returns:
        Same shape as ``inputs``.

    Source: Ioffe and Szegedy, Batch Normalization (1502.03167), section 3.
    """
    return _normalise_forward(inputs, scale, bias, mask, epsilon)[0]


def _normalise_forward(
    inputs: jax.Array, scale: jax.Array, bias: jax.Array, mask: jax.Array | None, epsilon: float
) -> tuple[jax.Array, Any]:
    mean, variance = batch_moments(inputs, mask)
    root = lax.rsqrt(variance + epsilon)
    return _affine(inputs, mean, scale * root, bias), (inputs, mean, root, scale, mask)


def _normalise_backward(epsilon: float, saved: Any, gradient: jax.Array) -> tuple[jax.Array | None, ...]:
    inputs, mean, root, scale, mask = saved
    axes = tuple(range(inputs.ndim - 1))
    normal = (inputs - _per_channel(mean, inputs)) * _per_channel(root, inputs)
    bias_gradient, scale_gradient = gradient.sum(axes), (gradient * normal).sum(axes)
    through_moments = _per_channel(bias_gradient, inputs) + normal * _per_channel(scale_gradient, inputs)
    input_gradient = _per_channel(scale * root, inputs) * (gradient - _sample_weights(inputs, mask) * through_moments)
    return input_gradient, scale_gradient, bias_gradient, None if mask is None else jnp.zeros_like(mask)


batch_normalise.defvjp(_normalise_forward, _normalise_backward)


def _affine(inputs: jax.Array, mean: jax.Array, slope: jax.Array, bias: jax.Array) -> jax.Array:
    return (inputs - _per_channel(mean, inputs)) * _per_channel(slope, inputs) + _per_channel(bias, inputs)


def _at_least_float32(values: jax.Array) -> jax.Array:
    """Sums over a batch lose too many digits in a 16-bit type."""
    return values.astype(jnp.float32) if jnp.finfo(values.dtype).bits < 32 else values


def _per_channel(values: jax.Array, inputs: jax.Array) -> jax.Array:
    return values.reshape((1,) * (inputs.ndim - 1) + values.shape)


def _scale_and_bias(module: nn.Module, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    channels = inputs.shape[-1:]
    scale = module.param("scale", nn.initializers.ones_init(), channels, jnp.float32)
    bias = module.param("bias", nn.initializers.zeros_init(), channels, jnp.float32)
    return _at_least_float32(scale), _at_least_float32(bias)


def _normalise_by_batch(module: nn.Module, inputs: jax.Array, mask: jax.Array | None, epsilon: float) -> jax.Array:
    outputs = batch_normalise(_at_least_float32(inputs), *_scale_and_bias(module, inputs), mask, epsilon)
    return outputs.astype(inputs.dtype)


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
        if train:
            if self.is_mutable_collection("batch_stats"):
                mean, variance = batch_moments(inputs, mask)
                self.put_variable("batch_stats", "mean", mean)
                self.put_variable("batch_stats", "mean_square", variance + lax.square(mean))
            return _normalise_by_batch(self, inputs, mask, self.epsilon)
        channels = inputs.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32).value
        mean_square = self.variable("batch_stats", "mean_square", jnp.ones, channels, jnp.float32).value
        variance = jnp.maximum(mean_square - lax.square(mean), 0)
        scale, bias = _scale_and_bias(self, inputs)
        outputs = _affine(_at_least_float32(inputs), mean, scale * lax.rsqrt(variance + self.epsilon), bias)
        return outputs.astype(inputs.dtype)


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
        return _normalise_by_batch(self, inputs, mask, self.epsilon)


class GroupNorm(nn.Module):
    """Group norm in groups of at most 8, a number that divides the channels.

    Source: Wu and He, Group Normalization (1803.08494).
    """

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Normalises each sample; ``mask`` and ``train`` make no difference."""
        return nn.GroupNorm(num_groups=math.gcd(8, inputs.shape[-1]), epsilon=1e-5)(inputs)


class LayerNorm(nn.Module):
    """``y = scale * (x - mean) / sqrt(variance + epsilon) + bias`` with the moments of each position's channels, in at
    least float32.

    Attributes:
        epsilon: added to the variance.

    Example:
        >>> layer = LayerNorm()
        >>> layer.apply(layer.init(jax.random.key(0), jnp.ones((1, 2))), jnp.array([[1.0, 3.0]])).round(2).tolist()
        [[-1.0, 1.0]]

    Source: Ba, Kiros and Hinton, Layer Normalization (1607.06450).
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Normalises (batch, ..., channels) over the channels."""
        values, (scale, bias) = _at_least_float32(inputs), _scale_and_bias(self, inputs)
        centred = values - values.mean(-1, keepdims=True)
        normal = centred * lax.rsqrt(lax.square(centred).mean(-1, keepdims=True) + self.epsilon)
        return (normal * _per_channel(scale, values) + _per_channel(bias, values)).astype(inputs.dtype)


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
