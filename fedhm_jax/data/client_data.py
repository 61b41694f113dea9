"""The clients' samples on the device, and how one client's are drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.data.partition import label_counts
from fedhm_jax.data.samples import Array, images_on_host


class ClientData(NamedTuple):
    """All clients' training samples; a client costs its samples' indices and nothing else.

    Attributes:
        samples: what the task looks samples up in, such as `Images`.
        indices: (dealt samples,) int32, the samples of client 0, then of client 1, ...
        offsets: (clients,) int32, where each client's samples start in ``indices``.
        counts: (clients,) int32, number of samples of each client.
        owned: (clients, classes) bool, classes each client holds; (clients, 1) True where samples have no classes.
        holders: (clients,) int32, the device that each client's samples are on, where ``samples`` and ``indices`` are
            its own on every device, and ``offsets`` point into these; None where every device has the samples of all.
    """

    samples: Any
    indices: Array
    offsets: Array
    counts: Array
    owned: Array
    holders: Array | None = None


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


def deal_out(samples: Any, parts: Sequence[np.ndarray], owned: np.ndarray | None = None) -> ClientData:
    """Samples, with what says whose they are.

    Args:
        samples: what the task looks samples up in, as they are.
        parts: sample indices of each client.
        owned: (clients, classes) bool, classes each client holds; None where samples have no classes.

    Returns:
        The data, what is new of them in host memory.
    """
    counts = np.array([len(part) for part in parts], np.int32)
    return ClientData(
        samples=samples,
        indices=np.concatenate(parts).astype(np.int32),
        offsets=(np.cumsum(counts) - counts).astype(np.int32),
        counts=counts,
        owned=np.ones((len(parts), 1), bool) if owned is None else owned,
    )


def place_clients(
    images: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[np.ndarray],
    classes: int,
    dtype: np.dtype | type = np.float32,
) -> ClientData:
    """Puts a partitioned training set of images on the device.

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
    samples = images_on_host(images, labels, images, dtype)
    dealt = deal_out(samples, parts, label_counts(labels, parts, classes) > 0)
    placed: ClientData = jax.tree.map(jnp.asarray, dealt)
    return placed


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
    places = lax.rem(first + jnp.arange(len(order), dtype=jnp.int32), jnp.int32(len(order)))
    return data.indices[client.offset + jnp.minimum(order[places], client.size - 1)]


def draw_rows(rows: jax.Array, step: jax.Array, remaining: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Where the samples of one step stand among all; the last step of an epoch repeats a sample, masked.

    Args:
        rows: of a client, from `rows_in_order`, their number a multiple of ``batch_size``.
        step: number of the step since the rows' first.
        remaining: the client's samples in the epoch from the rows' first on.
        batch_size: samples per step.

    Returns:
        (batch_size,) int32, and (batch_size,) bool, False for padding.

    Example:
        >>> rows, mask = draw_rows(jnp.array([2, 0, 1, 2]), jnp.int32(1), remaining=jnp.int32(3), batch_size=2)
        >>> rows.tolist(), mask.tolist()
        ([1, 2], [True, False])
    """
    places = step * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    return lax.dynamic_slice(rows, (step * batch_size,), (batch_size,)), places < remaining
