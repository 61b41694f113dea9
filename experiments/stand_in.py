"""Images of noise in the place of a data set that is not at hand: right shapes, nothing to learn."""

import numpy as np

from fedhm_jax.data.images.dataset import Dataset

SHAPES = {"cifar10": ((32, 32, 3), 10), "cifar100": ((32, 32, 3), 100), "fashion_mnist": ((28, 28, 1), 10)}
"""Shape of an image and number of classes, by data set."""


def stand_in(name: str, train_samples: int, test_samples: int) -> Dataset:
    """Random images, labels in turn.

    Args:
        name: a key of `SHAPES`.
        train_samples: number of training images.
        test_samples: number of test images.

    Returns:
        The data set.

    Raises:
        KeyError: the shape of this data set is not known.

    Example:
        >>> stand_in("cifar100", 200, 10).train_images.shape
        (200, 32, 32, 3)
    """
    shape, classes = SHAPES[name]
    rng = np.random.default_rng(0)

    def split(samples: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(samples, dtype=np.int32) % classes
        return rng.integers(0, 256, (samples, *shape), np.uint8), labels

    return Dataset(*split(train_samples), *split(test_samples), classes, f"noise in the shape of {name}")
