"""The handwritten digits that come with scikit-learn."""

import numpy as np

from fedhm_jax.data.dataset import Dataset
from fedhm_jax.errors import ConfigError


def load_digits(train_split: str = "train", test_split: str = "test") -> Dataset:
    """Loads scikit-learn's 1797 digits, 8 x 8 pixels, split 80/20 by a fixed stratified draw.

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
    from sklearn.datasets import load_digits as load_bunch
    from sklearn.model_selection import train_test_split

    for field, split in (("data.train_split", train_split), ("data.test_split", test_split)):
        if split not in ("train", "test"):
            raise ConfigError.of(field, split, "'train' or 'test' when data.name is 'digits'")
    bunch = load_bunch()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int32)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    parts = {"train": train, "test": test}
    first, second = parts[train_split], parts[test_split]
    return Dataset(images[first], labels[first], images[second], labels[second], 10, "digits", tuple("0123456789"))
