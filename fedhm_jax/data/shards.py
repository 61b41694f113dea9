"""Samples in shares, one a device: whose clients are where, and what a device holds of samples it has to look up."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedhm_jax.data.client_data import ClientData
from fedhm_jax.data.samples import Images, Windows


class ClientShards(NamedTuple):
    """The clients' samples as devices hold them.

    Attributes:
        of_device: ``of_device(number) -> (samples, indices)``, a device's own as in `ClientData`, of equal shapes.
        offsets: (clients,) int32, where each client's samples start in its device's ``indices``.
    """

    of_device: Callable[[int], tuple[Any, np.ndarray]]
    offsets: np.ndarray


def assign_holders(sizes: np.ndarray, tier_of_client: np.ndarray | None, devices: int) -> np.ndarray:
    """Assigns clients to devices: tier after tier, the largest first, each to the one with the fewest samples so far.

    So a device has more samples than another by at most what its last client has, which is one of its tier's smallest;
    and each tier is spread about as evenly as all clients together, since a tier's work is like no other's.

    Args:
        sizes: (clients,) samples of each client.
        tier_of_client: (clients,) fixed tiers; None if they are drawn anew every round.
        devices: how many there are.

    Returns:
        (clients,) int32, the number of each client's device.

    Example:
        >>> assign_holders(np.array([5, 4, 3, 3, 3]), None, devices=2).tolist()
        [0, 1, 1, 0, 1]

    Source: Graham, Bounds on Multiprocessing Timing Anomalies (1969), longest processing time first.
    """
    clients = np.arange(len(sizes))
    tiers = np.zeros_like(clients) if tier_of_client is None else tier_of_client
    holders = np.zeros(len(sizes), np.int32)
    loads = [(0, device) for device in range(devices)]
    for client in np.lexsort((clients, -sizes, tiers)).tolist():
        load, device = loads[0]
        holders[client] = device
        heapq.heapreplace(loads, (load + int(sizes[client]), device))
    return holders


def client_shards(data: ClientData, holders: np.ndarray, devices: int, window: int | None = None) -> ClientShards:
    """Cuts the clients' samples into shares; a sample that several clients of a device have is there once.

    Args:
        data: all clients, in host memory.
        holders: (clients,) the number of each client's device, from `assign_holders`.
        devices: how many there are.
        window: tokens that a sample predicts, where samples are `Windows`.

    Returns:
        The shares.

    Example:
        >>> from fedhm_jax.data import Examples, deal_out
        >>> numbers = Examples(np.arange(10, 15), np.arange(5))
        >>> data = deal_out(numbers, [np.array([3, 1]), np.array([0]), np.array([2, 3])])
        >>> shards = client_shards(data, np.array([0, 1, 0]), devices=2)
        >>> samples, indices = shards.of_device(0)
        >>> samples.inputs.tolist(), indices.tolist(), shards.offsets.tolist()
        ([11, 12, 13], [2, 0, 1, 2], [0, 0, 2])
    """
    holder_of_sample = np.repeat(holders, data.counts)
    offsets = np.zeros_like(data.offsets)
    rows, indices = [], []
    for device in range(devices):
        own = holders == device
        offsets[own] = np.cumsum(data.counts[own]) - data.counts[own]
        different, places = np.unique(data.indices[holder_of_sample == device], return_inverse=True)
        rows.append(different)
        indices.append(places)
    choose, padded = choose_samples(data.samples, rows, window), _of_equal_length(indices).astype(np.int32)
    return ClientShards(lambda device: (choose(device), padded[device]), offsets)


def choose_samples(samples: Any, rows: Sequence[np.ndarray], window: int | None = None) -> Callable[[int], Any]:
    """Some of the samples for each device, in arrays of equal shapes.

    Args:
        samples: what a task looks samples up in, in host memory.
        rows: the samples of each device.
        window: tokens that a sample predicts, where samples are `Windows`; of the tokens, only those in chosen windows
            are kept.

    Returns:
        ``choose(device) -> samples``, whose row i is the row ``rows[device][i]``. Beyond these it has some more.

    Example:
        >>> text = Windows(np.arange(100, 120, dtype=np.uint8), np.array([0, 5, 10, 15]))
        >>> choose = choose_samples(text, [np.array([3, 1]), np.array([2])], window=2)
        >>> choose(0).tokens.tolist(), choose(0).starts.tolist()
        ([105, 106, 107, 115, 116, 117], [3, 0])
    """
    padded = _of_equal_length(rows)
    if isinstance(samples, Windows):
        assert window is not None
        return _choose_windows(samples, padded, window)

    def choose(device: int) -> Any:
        own = padded[device]
        if isinstance(samples, Images):
            return samples._replace(images=samples.images[own], labels=samples.labels[own])
        return jax.tree.map(lambda array: array[own], samples)

    return choose


def _choose_windows(text: Windows, rows: np.ndarray, window: int) -> Callable[[int], Windows]:
    def needed(device: int) -> np.ndarray:
        starts = text.starts[rows[device]]
        # One more window begins with each start, and one less goes on behind the token after its last.
        changes = np.zeros(len(text.tokens) + 1, np.int32)
        np.add.at(changes, starts, 1)
        np.add.at(changes, starts + window + 1, -1)
        return np.cumsum(changes)[:-1] > 0

    most = max(int(needed(device).sum()) for device in range(len(rows)))

    def choose(device: int) -> Windows:
        kept = needed(device)
        tokens = text.tokens[kept]
        places = np.cumsum(kept, dtype=np.int64) - 1
        starts = places[text.starts[rows[device]]].astype(text.starts.dtype)
        return Windows(np.pad(tokens, (0, most - len(tokens))), starts)

    return choose


def _of_equal_length(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(devices, most) of them; a device that has fewer has its last again, or row 0 if it has none."""
    most = max(1, *map(len, rows))
    return np.stack([np.pad(own if len(own) else [0], (0, most - max(len(own), 1)), "edge") for own in rows])
