"""Loads a data set by name."""

from pathlib import Path

import numpy as np

from fedhm_jax.data.cache import read_cached
from fedhm_jax.data.dataset import Dataset
from fedhm_jax.data.digits import load_digits
from fedhm_jax.data.image_folder import open_image_folder
from fedhm_jax.data.tfds import open_tfds
from fedhm_jax.errors import ConfigError

_SUBSET_SEED = 0


def load_dataset(
    name: str = "digits",
    *,
    data_dir: Path | None = None,
    train_split: str = "train",
    test_split: str = "test",
    train_samples: int | None = None,
    test_samples: int | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """Loads the training and the test split of a data set.

    Sets that are read from image files are decoded once, into memory-mapped copies (`fedhm_jax.data.cache`).

    Args:
        name: "digits", "folder" or the name of a TFDS image-classification set.
        data_dir: folder of the images (folder) or of the prepared sets (TFDS; its own default if None).
        train_split: split that is dealt out to the clients.
        test_split: split that models are evaluated on.
        train_samples: size of the random subset to use, drawn with a fixed seed; all samples if None.
        test_samples: likewise for the test split.
        cache_dir: folder of the decoded copies; ~/.cache/fedhm_jax if None.

    Returns:
        The data set.

    Raises:
        ConfigError: if the set, a split or a file is missing or unusable, or fewer samples exist than asked for.

    Example:
        >>> load_dataset("digits", train_samples=100).train_images.shape
        (100, 8, 8, 1)
    """
    if name == "digits":
        dataset = load_digits(train_split, test_split)
    else:
        dataset = _load_from_files(name, data_dir, train_split, test_split, cache_dir)
    train = _draw_subset(dataset.train_images, dataset.train_labels, train_samples, "data.train_samples")
    test = _draw_subset(dataset.test_images, dataset.test_labels, test_samples, "data.test_samples")
    return Dataset(*train, *test, dataset.classes, dataset.name, dataset.class_names)


def hold_out(dataset: Dataset, samples: int) -> Dataset:
    """Tests on training samples that the clients do not get, in place of the test split.

    Args:
        dataset: the data set.
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
    available = len(dataset.train_labels)
    if samples >= available:
        raise ConfigError.of("data.holdout", samples, f"below {available}, the number of training samples")
    order = np.random.default_rng(_SUBSET_SEED).permutation(available)
    tested, kept = np.sort(order[:samples]), np.sort(order[samples:])
    return dataset._replace(
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        test_images=dataset.train_images[tested],
        test_labels=dataset.train_labels[tested],
    )


def _load_from_files(
    name: str, data_dir: Path | None, train_split: str, test_split: str, cache_dir: Path | None
) -> Dataset:
    if name == "folder":
        train, test = open_image_folder(data_dir, train_split, test_split)
    else:
        train, test = open_tfds(name, data_dir, train_split, test_split)
    train_images, train_labels = read_cached(train, cache_dir)
    test_images, test_labels = read_cached(test, cache_dir)
    if train_images.shape[1:] != test_images.shape[1:]:
        allowed = f"a split with images of shape {train_images.shape[1:]}, not {test_images.shape[1:]}"
        raise ConfigError.of("data.test_split", test_split, allowed)
    return Dataset(train_images, train_labels, test_images, test_labels, train.classes, name, train.class_names)


def _draw_subset(
    images: np.ndarray, labels: np.ndarray, samples: int | None, field: str
) -> tuple[np.ndarray, np.ndarray]:
    if samples is None or samples == len(labels):
        return images, labels
    if not 1 <= samples <= len(labels):
        raise ConfigError.of(field, samples, f"between 1 and {len(labels)}, the number of samples available")
    chosen = np.sort(np.random.default_rng(_SUBSET_SEED).choice(len(labels), samples, replace=False))
    return images[chosen], labels[chosen]
