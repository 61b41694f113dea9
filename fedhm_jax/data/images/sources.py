"""Loads a data set by name."""

from pathlib import Path

from fedhm_jax.data.images.cache import read_cached
from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.data.images.digits import load_digits
from fedhm_jax.data.images.folder import open_image_folder
from fedhm_jax.data.images.npz import load_npz
from fedhm_jax.data.images.tfds import open_tfds
from fedhm_jax.data.subsets import subset
from fedhm_jax.data.text.sources import is_text
from fedhm_jax.errors import ConfigError


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

    Sets that are read from image files are decoded once, into memory-mapped copies (`fedhm_jax.data.images.cache`).

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
    if is_text(name):
        raise ConfigError.of("data.name", name, "the name of a set of images here; load_text reads text")
    if name == "digits":
        dataset = load_digits(train_split, test_split)
    elif name == "npz":
        for field, split, only in (("train_split", train_split, "train"), ("test_split", test_split, "test")):
            if split != only:
                raise ConfigError.of(f"data.{field}", split, f"{only!r} when data.name is 'npz'")
        dataset = load_npz(data_dir, client_feature)
    else:
        dataset = _load_from_files(name, data_dir, train_split, test_split, cache_dir, client_feature)
    return subset(dataset, train_samples, test_samples)


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
