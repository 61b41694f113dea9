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
        train_clients: (n,) id of the client that each training sample is of, integers or strings; None if the data
            have no clients of their own.
        class_names: a name for each class, where they are known.

    Example:
        >>> images, labels = np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int32)
        >>> Dataset(images, labels, images[:1], labels[:1], 2, "mine", np.array(["ann", "bob", "ann"]))
        Dataset('mine': 3 training and 1 test images of shape (8, 8, 1), 2 classes, 2 clients)
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    name: str
    train_clients: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        numbers = f"{len(self.train_labels)} training and {len(self.test_labels)} test images"
        own = "" if self.train_clients is None else f", {len(np.unique(self.train_clients))} clients"
        shape = self.train_images.shape[1:]
        return f"Dataset({self.name!r}: {numbers} of shape {shape}, {self.classes} classes{own})"

    @property
    def train_size(self) -> int:
        """Number of training samples."""
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        """Number of test samples."""
        return len(self.test_labels)

    def with_train(self, rows: np.ndarray) -> "Dataset":
        """The data with these training samples only."""
        return self._replace(
            train_images=self.train_images[rows],
            train_labels=self.train_labels[rows],
            train_clients=None if self.train_clients is None else self.train_clients[rows],
        )

    def with_test(self, rows: np.ndarray) -> "Dataset":
        """The data with these test samples only."""
        return self._replace(test_images=self.test_images[rows], test_labels=self.test_labels[rows])

    def tested_on_train(self, rows: np.ndarray) -> "Dataset":
        """The data with these training samples in place of the test samples."""
        return self._replace(test_images=self.train_images[rows], test_labels=self.train_labels[rows])
