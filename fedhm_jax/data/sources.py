"""Loads a data set by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedhm_jax.data.cache import read_cached
from fedhm_jax.data.dataset import Dataset
from fedhm_jax.data.digits import load_digits
from fedhm_jax.data.image_folder import open_image_folder
from fedhm_jax.data.kinds import DataT
from fedhm_jax.data.npz import load_npz
from fedhm_jax.data.tfds import open_tfds
from fedhm_jax.errors import ConfigError

_SUBSET_SEED = 0


def load_dataset(
    name: str = "digits",
    *,
    data_dir: Path | str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    train_samples: int | None = None,
    test_samples: int | None = None,
    cache_dir: Path | str | None = None,
    client_feature: str | None = None,
) -> Dataset:
    """Loads the training and the test split of a data set.

    Sets that are read from image files are decoded once, into memory-mapped copies (`fedhm_jax.data.cache`).

    Args:
        name: "digits", "npz", "folder" or the name of a TFDS image-classification set.
        data_dir: folder of the images (folder), file of the arrays (npz), or folder of the prepared sets (TFDS; its own
            default if None).
        train_split: split that is dealt out to the clients.
        test_split: split that models are evaluated on.
        train_samples: size of the random subset to use, drawn with a fixed seed; all samples if None.
        test_samples: likewise for the test split.
        cache_dir: folder of the decoded copies; `fedhm_jax.files.cache_folder` if None.
        client_feature: feature (TFDS) or array (npz) with the id of each training sample's client; an npz file's array
            "client", if it has one, when None.

    Returns:
        The data set.

    Raises:
        ConfigError: if the set, a split or a file is missing or unusable, or fewer samples exist than asked for.

    Example:
        >>> load_dataset("digits", train_samples=100).train_images.shape
        (100, 8, 8, 1)
    """
    data_dir = None if data_dir is None else Path(data_dir)
    cache_dir = None if cache_dir is None else Path(cache_dir)
    if name == "digits":
        dataset = load_digits(train_split, test_split)
    elif name == "npz":
        for field, split, only in (("train_split", train_split, "train"), ("test_split", test_split, "test")):
            if split != only:
                raise ConfigError.of(f"data.{field}", split, f"{only!r} when data.name is 'npz'")
        dataset = load_npz(data_dir, client_feature)
    else:
        dataset = _load_from_files(name, data_dir, train_split, test_split, cache_dir, client_feature)
    if train_samples is not None and train_samples != dataset.train_size:
        dataset = dataset.with_train(_draw(dataset.train_size, train_samples, "data.train_samples"))
    if test_samples is not None and test_samples != dataset.test_size:
        dataset = dataset.with_test(_draw(dataset.test_size, test_samples, "data.test_samples"))
    return dataset


def hold_out(dataset: DataT, samples: int) -> DataT:
    """Tests on training samples that the clients do not get, in place of the test split.

    Args:
        dataset: images, text, or samples of any kind.
        samples: how many to take away, drawn with a fixed seed.

    Returns:
        The smaller training split, and the samples taken away as the test split.

    Raises:
        ConfigError: as many samples as there are, or more.

    Example:
        >>> digits = load_dataset("digits", train_samples=100)
        >>> held_out = hold_out(digits, 20)
        >>> len(held_out.train_labels), len(held_out.test_labels)
        (80, 20)
    """
    available = dataset.train_size
    if samples >= available:
        raise ConfigError.of("data.holdout", samples, f"below {available}, the number of training samples")
    tested, kept = _split_off(available, samples)
    held_out: Any = dataset.tested_on_train(tested).with_train(kept)
    return held_out


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


def _load_from_files(
    name: str,
    data_dir: Path | None,
    train_split: str,
    test_split: str,
    cache_dir: Path | None,
    client_feature: str | None,
) -> Dataset:
    if name == "folder":
        train, test = open_image_folder(data_dir, train_split, test_split)
    else:
        train, test = open_tfds(name, data_dir, train_split, test_split, client_feature)
    trained, tested = read_cached(train, cache_dir), read_cached(test, cache_dir)
    if trained.images.shape[1:] != tested.images.shape[1:]:
        allowed = f"a split with images of shape {trained.images.shape[1:]}, not {tested.images.shape[1:]}"
        raise ConfigError.of("data.test_split", test_split, allowed)
    arrays = trained.images, trained.labels, tested.images, tested.labels
    return Dataset(*arrays, train.classes, name, trained.clients, train.class_names)


def _draw(available: int, samples: int, field: str) -> np.ndarray:
    if not 1 <= samples <= available:
        raise ConfigError.of(field, samples, f"between 1 and {available}, the number of samples available")
    return np.sort(np.random.default_rng(_SUBSET_SEED).choice(available, samples, replace=False))
