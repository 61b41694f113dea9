"""Clients that come with the data or from the user: by the id of each sample's client, or as lists of samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedhm_jax.errors import ConfigError


def natural(owners: np.ndarray, clients: int | None, min_samples: int, seed: int) -> list[np.ndarray]:
    """One client for each id, in the sorted order of the ids; those with too few samples are left out.

    Args:
        owners: (n,) id of the client that each sample is of.
        clients: how many take part, drawn at random from those with enough samples; all of these if None.
        min_samples: fewest samples of a client that takes part.
        seed: of the draw.

    Returns:
        One array of indices into ``owners`` per client, increasing.

    Raises:
        ConfigError: fewer clients have enough samples than are asked for, or none has.

    Example:
        >>> [part.tolist() for part in natural(np.array(["b", "a", "b", "c"]), None, min_samples=1, seed=0)]
        [[1], [0, 2], [3]]
        >>> [part.tolist() for part in natural(np.array(["b", "a", "b", "c"]), None, min_samples=2, seed=0)]
        [[0, 2]]
    """
    _, numbers, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    enough = np.flatnonzero(sizes >= min_samples)
    if len(enough) == 0:
        allowed = f"at most {max(sizes)}, the number of samples of the largest client"
        raise ConfigError.of("partition.min_samples", min_samples, allowed)
    if clients is not None and not 1 <= clients <= len(enough):
        allowed = f"between 1 and {len(enough)}, the number of the data's clients with {min_samples} samples or more"
        raise ConfigError.of("partition.clients", clients, allowed)
    if clients is not None:
        enough = np.sort(np.random.default_rng(seed).choice(enough, clients, replace=False))
    parts = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    return [parts[client] for client in enough]


def given(partition: Sequence[Any], samples: int) -> list[np.ndarray]:
    """Checks lists of samples that were handed over.

    Several clients may hold the same sample, and a sample may be nobody's. A client holds at least one, and none twice.

    Args:
        partition: indices of each client's training samples.
        samples: number of training samples.

    Returns:
        One array of indices per client.

    Raises:
        ConfigError: naming the first list that is none of integers in [0, samples), is empty, or holds a sample twice.

    Example:
        >>> [part.tolist() for part in given([range(2), [1, 3]], samples=4)]
        [[0, 1], [1, 3]]
        >>> given([[0, 4]], samples=4)
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: partition[0] holds the index 4, but must hold indices from 0 to 3, \
one for each training sample
    """
    return [_as_indices(part, samples, f"partition[{client}]") for client, part in enumerate(partition)]


def _as_indices(part: Any, samples: int, name: str) -> np.ndarray:
    try:
        indices = np.asarray(part)
    except ValueError as error:
        raise ConfigError(f"{name} holds lists, but must be one list of sample indices") from error
    if indices.ndim != 1:
        shown = f"of type {type(part).__name__}" if indices.ndim == 0 else f"an array of shape {indices.shape}"
        raise ConfigError(f"{name} is {shown}, but must be one list of sample indices")
    if indices.size == 0:
        raise ConfigError(f"{name} is empty, but must hold at least one sample")
    if not np.issubdtype(indices.dtype, np.integer):
        raise ConfigError(f"{name} holds values of type {indices.dtype}, but must hold integers")
    outside = indices[(indices < 0) | (indices >= samples)]
    if outside.size > 0:
        allowed = f"indices from 0 to {samples - 1}, one for each training sample"
        raise ConfigError(f"{name} holds the index {outside[0]}, but must hold {allowed}")
    found, times = np.unique(indices, return_counts=True)
    if len(found) < len(indices):
        raise ConfigError(f"{name} holds the index {found[times > 1][0]} twice, but must hold each sample once")
    return indices.astype(np.int64)
