"""Samples as tasks look them up, in host memory or on a device."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = Any
"""`numpy.ndarray` in host memory, `jax.Array` on a device."""


class Images(NamedTuple):
    """Images with a class each.

    Attributes:
        images: (samples, height, width, channels) uint8.
        labels: (samples,) int32.
        mean: (channels,) of the training images in [0, 1].
        std: (channels,) likewise; its dtype is the one the model computes in.
    """

    images: Array
    labels: Array
    mean: Array
    std: Array


class Windows(NamedTuple):
    """Windows of a text, of which each token lies on the device once.

    Attributes:
        tokens: (tokens,) unsigned integers.
        starts: (samples,) int32, where each window begins.
    """

    tokens: Array
    starts: Array


class Examples(NamedTuple):
    """Inputs and targets of any kind.

    Attributes:
        inputs: (samples, ...), or a tree of such arrays.
        targets: (samples, ...), or a tree of such arrays.
    """

    inputs: Any
    targets: Any


def images_on_host(
    images: np.ndarray, labels: np.ndarray, training_images: np.ndarray, dtype: np.dtype | type = np.float32
) -> Images:
    """Images with what normalises them.

    Args:
        images: (samples, height, width, channels) uint8.
        labels: (samples,) integers.
        training_images: of which mean and deviation are taken.
        dtype: floating type that the model computes in.

    Returns:
        The images, in host memory.

    Example:
        >>> black = np.zeros((2, 4, 4, 3), np.uint8)
        >>> images_on_host(black, np.array([0, 1]), black).mean.tolist()
        [0.0, 0.0, 0.0]
    """
    mean, std = channel_statistics(training_images)
    return Images(images, np.asarray(labels, np.int32), np.asarray(mean, dtype), np.asarray(std, dtype))


def place_images(
    images: np.ndarray, labels: np.ndarray, training_images: np.ndarray, dtype: np.dtype | type = np.float32
) -> Images:
    """`images_on_host`, put on the default device; arguments as there."""
    placed: Images = jax.tree.map(jnp.asarray, images_on_host(images, labels, training_images, dtype))
    return placed


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, pixels scaled to [0, 1].

    Args:
        images: (samples, height, width, channels) uint8.

    Returns:
        Two float64 arrays (channels,); a constant channel gets standard deviation 1.

    Example:
        >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
        >>> mean.tolist(), std.tolist()
        ([0.5], [0.5])
    """
    levels = np.arange(256) / 255
    histograms = np.zeros((images.shape[-1], 256))
    # Counting makes 64-bit integers of the pixels, so it takes some images at a time.
    for start in range(0, len(images), 10_000):
        some = images[start : start + 10_000]
        for channel in range(images.shape[-1]):
            histograms[channel] += np.bincount(some[..., channel].ravel(), minlength=256)
    shares = histograms / histograms.sum(axis=1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    return mean, np.where(std > 1e-6, std, 1)


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """``(images / 255 - mean) / std``, in the statistics' dtype.

    Args:
        images: (batch, height, width, channels) uint8.
        mean: (channels,).
        std: (channels,).

    Returns:
        (batch, height, width, channels).

    Example:
        >>> normalise(jnp.array([[[[255]]]], jnp.uint8), jnp.array([0.5]), jnp.array([0.25])).tolist()
        [[[[2.0]]]]
    """
    shape = (1, 1, 1, -1)
    return (images.astype(mean.dtype) / 255 - mean.reshape(shape)) / std.reshape(shape)
