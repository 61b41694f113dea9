"""Fewer samples, and training samples that are tested on: both drawn with a fixed seed, the same in every run."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fedhm_jax.data.dataset import Dataset
from fedhm_jax.data.text import Text
from fedhm_jax.errors import ConfigError

_SUBSET_SEED = 0
_Data = TypeVar("_Data", Dataset, Text)


def subset(data: _Data, train_samples: int | None, test_samples: int | None) -> _Data:
    """Draws a part of the samples.

    Args:
        data: images or text.
        train_samples: how many training samples; all if None.
        test_samples: how many test samples; all if None.

    Returns:
        The smaller data, samples in the order they had.

    Raises:
        ConfigError: there are fewer.
    """
    trained, tested = _sizes(data)
    if train_samples is not None and train_samples != trained:
        data = _with_train(data, _draw(trained, train_samples, "data.train_samples"))
    if test_samples is not None and test_samples != tested:
        rows = _draw(tested, test_samples, "data.test_samples")
        if isinstance(data, Text):
            return data._replace(test_starts=data.test_starts[rows])
        return data._replace(test_images=data.test_images[rows], test_labels=data.test_labels[rows])
    return data


def hold_out(data: _Data, samples: int) -> _Data:
    """Tests on training samples that the clients do not get, in place of the test split.

    Args:
        data: images or text.
        samples: how many to take away, drawn with a fixed seed.

    Returns:
        The smaller training split, and the samples taken away as the test split.

    Raises:
        ConfigError: as many samples as there are, or more.

    Example:
        >>> from fedhm_jax.data import load_dataset
        >>> digits = load_dataset("digits", train_samples=100)
        >>> held_out = hold_out(digits, 20)
        >>> len(held_out.train_labels), len(held_out.test_labels)
        (80, 20)
    """
    available, _ = _sizes(data)
    if samples >= available:
        raise ConfigError.of("data.holdout", samples, f"below {available}, the number of training samples")
    tested, kept = _split_off(available, samples)
    if isinstance(data, Text):
        starts = data.train_starts[tested]
        return _with_train(data, kept)._replace(test_tokens=data.train_tokens, test_starts=starts)
    images, labels = data.train_images[tested], data.train_labels[tested]
    return _with_train(data, kept)._replace(test_images=images, test_labels=labels)


def without_held_out(parts: Sequence[np.ndarray], available: int, samples: int) -> list[np.ndarray]:
    """Clients' samples as `hold_out` leaves them: those that are held out are nobody's, the others are renumbered.

    Args:
        parts: indices of each client's training samples before.
        available: number of training samples before.
        samples: how many are held out.

    Returns:
        Indices of each client's training samples after.

    Raises:
        ConfigError: a client is left without samples.

    Example:
        >>> parts = without_held_out([np.arange(50), np.arange(50, 100)], available=100, samples=20)
        >>> np.concatenate(parts).tolist() == list(range(80))
        True
    """
    _, kept = _split_off(available, samples)
    places = np.full(available, -1)
    places[kept] = np.arange(len(kept))
    left = [places[part][places[part] >= 0] for part in parts]
    for client, part in enumerate(left):
        if len(part) == 0:
            allowed = f"so small that every client keeps a sample; partition[{client}] would keep none"
            raise ConfigError.of("data.holdout", samples, allowed)
    return left


def _sizes(data: Dataset | Text) -> tuple[int, int]:
    """Number of training and of test samples."""
    if isinstance(data, Text):
        return len(data.train_starts), len(data.test_starts)
    return len(data.train_labels), len(data.test_labels)


def _split_off(available: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training samples are held out, and which are left; the same ones in every run."""
    order = np.random.default_rng(_SUBSET_SEED).permutation(available)
    return np.sort(order[:samples]), np.sort(order[samples:])


def _with_train(data: _Data, rows: np.ndarray) -> _Data:
    """The data with these training samples only."""
    clients = None if data.train_clients is None else data.train_clients[rows]
    if isinstance(data, Text):
        return data._replace(train_starts=data.train_starts[rows], train_clients=clients)
    images, labels = data.train_images[rows], data.train_labels[rows]
    return data._replace(train_images=images, train_labels=labels, train_clients=clients)


def _draw(available: int, samples: int, field: str) -> np.ndarray:
    if not 1 <= samples <= available:
        raise ConfigError.of(field, samples, f"between 1 and {available}, the number of samples available")
    return np.sort(np.random.default_rng(_SUBSET_SEED).choice(available, samples, replace=False))
