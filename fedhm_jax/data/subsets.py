"""Fewer samples, and training samples that are tested on: both drawn with a fixed seed, the same in every run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedhm_jax.data.kinds import DataT
from fedhm_jax.errors import ConfigError

_SUBSET_SEED = 0


def subset(data: DataT, train_samples: int | None, test_samples: int | None) -> DataT:
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
    found: Any = data
    if train_samples is not None and train_samples != data.train_size:
        found = found.with_train(_draw(data.train_size, train_samples, "data.train_samples"))
    if test_samples is not None and test_samples != data.test_size:
        found = found.with_test(_draw(data.test_size, test_samples, "data.test_samples"))
    return found


def hold_out(data: DataT, samples: int) -> DataT:
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
    available = data.train_size
    if samples >= available:
        raise ConfigError.of("data.holdout", samples, f"below {available}, the number of training samples")
    tested, kept = _split_off(available, samples)
    found: Any = data.tested_on_train(tested).with_train(kept)
    return found


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


def _split_off(available: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training samples are held out, and which are left; the same ones in every run."""
    order = np.random.default_rng(_SUBSET_SEED).permutation(available)
    return np.sort(order[:samples]), np.sort(order[samples:])


def _draw(available: int, samples: int, field: str) -> np.ndarray:
    if not 1 <= samples <= available:
        raise ConfigError.of(field, samples, f"between 1 and {available}, the number of samples available")
    return np.sort(np.random.default_rng(_SUBSET_SEED).choice(available, samples, replace=False))
