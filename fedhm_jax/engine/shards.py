"""Samples spread over the devices of a mesh: each has those of its own clients, and of its own batches."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fedhm_jax.data import ClientData, choose_samples, client_shards
from fedhm_jax.engine.evaluation import EvaluationData
from fedhm_jax.engine.sharding import replicate
from fedhm_jax.engine.share import CLIENTS, PARTS, Share


def shard_clients(data: ClientData, holders: np.ndarray, mesh: Mesh, window: int | None = None) -> ClientData:
    """Puts the clients' samples on their devices. A process copies those of its own devices alone.

    Args:
        data: all clients, in host memory.
        holders: (clients,) the number of each client's device on the mesh.
        mesh: from `client_mesh`.
        window: tokens that a sample predicts, where samples are a text's.

    Returns:
        The data on the mesh. Inside of `spread`, ``samples`` and ``indices`` are the device's own.
    """
    shards = client_shards(data, holders, mesh.size, window)
    samples, indices = _placed(shards.of_device, mesh)
    offsets, counts, owned, on_mesh = replicate((shards.offsets, data.counts, data.owned, holders), mesh)
    return ClientData(samples, indices, offsets, counts, owned, on_mesh)


def shard_evaluation(test: EvaluationData, train: Any | None, mesh: Mesh, window: int | None = None) -> EvaluationData:
    """Puts the samples of each batch on the device that works on it, those for static statistics as well.

    Args:
        test: the test set, in host memory.
        train: all training samples, likewise; None for a model without static norms.
        mesh: from `client_mesh`.
        window: tokens that a sample predicts, where samples are a text's.

    Returns:
        The data on the mesh. Inside of `spread`, both kinds of samples are the device's own.
    """
    samples, rows = _batches(test.samples, test.rows, mesh, window)
    sharded = EvaluationData(samples, rows, *replicate((test.mask, test.statistics_rows), mesh))
    if train is None:
        return sharded
    samples, rows = _batches(train, test.statistics_rows, mesh, window)
    return sharded._replace(statistics_samples=samples, statistics_rows=rows)


def _batches(samples: Any, rows: np.ndarray, mesh: Mesh, window: int | None) -> tuple[Any, jax.Array]:
    """Each device's samples, one of its batches after another, and where they stand there."""
    batches, batch = rows.shape
    local = np.zeros_like(rows)
    of_device = []
    for index in range(mesh.size):
        share = Share(index, mesh.size, max(PARTS, mesh.size))
        own = np.arange(share.count(batches))
        local[share.place(own)] = own[:, None] * batch + np.arange(batch)
        of_device.append(rows[share.place(own)].reshape(-1))
    return _placed(choose_samples(samples, of_device, window), mesh), replicate(local, mesh)


def _placed(of_device: Callable[[int], Any], mesh: Mesh) -> Any:
    """Trees of equal shapes, each on its device, as one tree whose arrays are split along their first axis."""
    sharding = NamedSharding(mesh, P(CLIENTS))
    here = jax.process_index()
    own = [
        jax.device_put(of_device(index), device)
        for index, device in enumerate(mesh.devices.flat)
        if device.process_index == here
    ]

    def joined(*leaves: jax.Array) -> jax.Array:
        shape = (mesh.size * leaves[0].shape[0], *leaves[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, leaves)

    return jax.tree.map(joined, *own)
