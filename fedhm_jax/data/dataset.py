"""The arrays a simulation learns from."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Training and test images with their labels, in host memory (or memory-mapped).

    Attributes:
        train_images: (n, height, width, channels) uint8.
        train_labels: (n,) int32 in [0, classes).
        test_images: (m, height, width, channels) uint8.
        test_labels: (m,) int32 in [0, classes).
        classes: number of classes.
        name: shown in reports.
        class_names: a name for each class, where they are known.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    name: str
    class_names: tuple[str, ...] | None = None
