"""The handwritten digits that come with the package; `digits.txt` says where they are from."""

from collections.abc import Mapping
from importlib import resources

import numpy as np

from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.errors import ConfigError


def load_digits(train_split: str = "train", test_split: str = "test") -> Dataset:
    """Loads 1797 digits, 8 x 8 pixels, split 80/20 with the same share of each digit in both parts.

    Pixels are scaled from 0..16 to 0..255 and rounded.

    Args:
        train_split: "train", or "test" to swap the parts.
        test_split: "test" or "train".

    Returns:
        1437 training and 360 test images of shape (8, 8, 1), 10 classes.

    Raises:
        ConfigError: if a split is neither "train" nor "test".

    Example:
        >>> load_digits().train_images.shape
        (1437, 8, 8, 1)
    """
    for field, split in (("data.train_split", train_split), ("data.test_split", test_split)):
        if split not in ("train", "test"):
            raise ConfigError.of(field, split, "'train' or 'test' when data.name is 'digits'")
    with resources.files("fedhm_jax.data.images").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        train, test = (_part(stored, split) for split in (train_split, test_split))
    return Dataset(*train, *test, 10, "digits", class_names=tuple("0123456789"))


def _part(stored: Mapping[str, np.ndarray], split: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.rint(stored[f"{split}_images"] * (255 / 16)).astype(np.uint8)
    return images[..., np.newaxis], stored[f"{split}_labels"].astype(np.int32)
