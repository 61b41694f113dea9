"""The clients' samples on the device, and how one client's are drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class ClientData(NamedTuple):
    """All clients' training samples; a client costs its samples' indices and nothing else.

    Attributes:
        images: (samples, height, width, channels) uint8.
        labels: (samples,) int32.
        indices: (dealt samples,) int32, the samples of client 0, then of client 1, ...
        offsets: (clients,) int32, where each client's samples start in ``indices``.
        counts: (clients,) int32, number of samples of each client.
        owned: (clients, classes) bool, classes each client holds.
        mean: (channels,) of the training images in [0, 1].
        std: (channels,) likewise; its dtype is the one the model computes in.
    """

    images: jax.Array
    labels: jax.Array
    indices: jax.Array
    offsets: jax.Array
    counts: jax.Array
    owned: jax.Array
    mean: jax.Array
    std: jax.Array


class Client(NamedTuple):
    """One client of a round (or a batch of clients, each field with a leading axis).

    Attributes:
        id: index among the registered clients.
        present: False for an empty place in the cohort, which trains nothing and weighs nothing.
        offset: where its samples start in ``ClientData.indices``.
        size: number of samples.
        owned: (classes,) bool.
    """

    id: jax.Array
    present: jax.Array
    offset: jax.Array
    size: jax.Array
    owned: jax.Array


def place_clients(
    images: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[np.ndarray],
    classes: int,
    dtype: np.dtype | type = np.float32,
) -> ClientData:
    """Puts the partitioned training set on the device.

    Args:
        images: (samples, height, width, channels) uint8.
        labels: (samples,) integers.
        parts: sample indices of each client.
        classes: number of classes.
        dtype: floating type that the model computes in.

    Returns:
        The data, on the default device.

    Example:
        >>> images, labels = np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1])
        >>> data = place_clients(images, labels, [np.array([0, 2]), np.array([1])], classes=2)
        >>> data.counts.tolist(), data.owned.tolist()
        ([2, 1], [[True, True], [False, True]])
    """
    counts = np.array([len(part) for part in parts], np.int32)
    owned = np.stack([np.bincount(labels[part], minlength=classes) > 0 for part in parts])
    mean, std = channel_statistics(images)
    return ClientData(
        images=jnp.asarray(images),
        labels=jnp.asarray(labels, jnp.int32),
        indices=jnp.asarray(np.concatenate(parts), jnp.int32),
        offsets=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
        counts=jnp.asarray(counts),
        owned=jnp.asarray(owned),
        mean=jnp.asarray(mean, dtype),
        std=jnp.asarray(std, dtype),
    )


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


def client_by_id(data: ClientData, client_id: jax.Array, present: jax.Array) -> Client:
    """Looks a client up.

    Args:
        data: all clients.
        client_id: int32 index, or an array of them.
        present: bool, same shape.

    Returns:
        The client, fields with the leading shape of ``client_id``.
    """
    return Client(client_id, present, data.offsets[client_id], data.counts[client_id], data.owned[client_id])


def epoch_order(key: jax.Array, count: jax.Array, capacity: int) -> jax.Array:
    """Random order of a client's samples for one epoch, in an array long enough for any client.

    Args:
        key: PRNG key.
        count: number of samples of the client.
        capacity: length of the result, at least ``count``.

    Returns:
        (capacity,) int32: a permutation of 0..count-1, then the places beyond the client's samples.

    Example:
        >>> order = epoch_order(jax.random.key(0), jnp.array(3), capacity=5)
        >>> sorted(order[:3].tolist()), order[3:].tolist()
        ([0, 1, 2], [3, 4])
    """
    places = jnp.arange(capacity, dtype=jnp.int32)
    # The top bit keeps the places beyond the client's samples behind all others, in order.
    draws = jax.random.bits(key, (capacity,), jnp.uint32) >> 1
    return jnp.argsort(jnp.where(places < count, draws, jnp.uint32(0xFFFFFFFF))).astype(jnp.int32)


class Batch(NamedTuple):
    """Samples of one step.

    Attributes:
        images: (batch, height, width, channels), normalised.
        labels: (batch,) int32.
        mask: (batch,), 1 for a sample and 0 for padding.
    """

    images: jax.Array
    labels: jax.Array
    mask: jax.Array


def rows_in_order(data: ClientData, client: Client, order: jax.Array, first: jax.Array) -> jax.Array:
    """Where a client's samples stand among all, in the order of an epoch, from some place on and then from the start.

    Looked up once for many steps: clients side by side that are at different places of their epochs then read the same
    places at each step, which takes a slice and no gather.

    Args:
        data: all clients.
        client: whose samples.
        order: (capacity,) of the epoch, from `epoch_order`.
        first: place in the order to begin with.

    Returns:
        (capacity,) int32, the last sample's row in the places beyond the client's samples.

    Example:
        >>> data = place_clients(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1]), [np.arange(3)], classes=2)
        >>> client = client_by_id(data, jnp.int32(0), jnp.bool_(True))
        >>> rows_in_order(data, client, jnp.array([2, 0, 1, 3]), jnp.int32(1)).tolist()
        [0, 1, 2, 2]
    """
    places = (first + jnp.arange(len(order), dtype=jnp.int32)) % len(order)
    return data.indices[client.offset + jnp.minimum(order[places], client.size - 1)]


def draw_batch(data: ClientData, rows: jax.Array, step: jax.Array, remaining: jax.Array, batch_size: int) -> Batch:
    """The batch of one step, gathered on the device; the last of an epoch is padded by repeating a sample, masked.

    Args:
        data: all clients.
        rows: of a client, from `rows_in_order`, their number a multiple of ``batch_size``.
        step: number of the step since the rows' first.
        remaining: the client's samples in the epoch from the rows' first on.
        batch_size: samples per step.

    Returns:
        The batch.

    Example:
        >>> data = place_clients(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 1]), [np.arange(3)], classes=2)
        >>> batch = draw_batch(data, jnp.array([2, 0, 1, 2]), jnp.int32(1), remaining=jnp.int32(3), batch_size=2)
        >>> batch.labels.tolist(), batch.mask.tolist()
        ([1, 1], [1.0, 0.0])
    """
    places = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    chosen = lax.dynamic_slice(rows, (step * batch_size,), (batch_size,))
    mask = (places < remaining).astype(data.mean.dtype)
    return Batch(normalise(data.images[chosen], data.mean, data.std), data.labels[chosen], mask)


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
