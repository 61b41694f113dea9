"""A data set from arrays the user already has."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.errors import ConfigError


def dataset_from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    classes: int | None = None,
    name: str = "arrays",
    clients: Any = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Checks arrays and makes a `Dataset` of them.

    Images are uint8, or floats in [0, 1], which are stored as round(255 * x). uint8 images are used as they are,
    without a copy.

    Args:
        train_images: (n, height, width) or (n, height, width, channels).
        train_labels: (n,) integers in [0, classes).
        test_images: (m, height, width) or (m, height, width, channels), each image of the same shape as in training.
        test_labels: (m,) integers in [0, classes).
        classes: number of classes; the largest label plus one if not given.
        name: shown in reports.
        clients: (n,) id of the client that each training sample is of, integers or strings, for ``partition.method =
            "natural"``; None if the data have no clients of their own.
        class_names: one a class, shown where predictions are.

    Returns:
        The data set, images with a channel axis.

    Raises:
        ConfigError: if an array has the wrong shape, type or values; the message names it, as in "data.train_images".

    Example:
        >>> images = np.zeros((4, 8, 8))
        >>> dataset = dataset_from_arrays(images, [0, 1, 2, 0], images, [0, 1, 2, 2])
        >>> dataset.train_images.shape, dataset.train_images.dtype, dataset.classes
        ((4, 8, 8, 1), dtype('uint8'), 3)
    """
    train = as_images(train_images, "data.train_images")
    test = as_images(test_images, "data.test_images")
    if train.shape[1:] != test.shape[1:]:
        raise ConfigError(
            f"data.test_images holds images of shape {test.shape[1:]}, but must hold images of the same shape as "
            f"data.train_images, {train.shape[1:]}"
        )
    labels = _as_labels(train_labels, len(train), "data.train_labels")
    labels_of_test = _as_labels(test_labels, len(test), "data.test_labels")
    if classes is None:
        classes = int(max(labels.max(), labels_of_test.max())) + 1
    elif classes < 1:
        raise ConfigError.of("data.classes", classes, "at least 1")
    for field, given in (("data.train_labels", labels), ("data.test_labels", labels_of_test)):
        if given.max() >= classes:
            raise ConfigError(
                f"{field} holds the label {given.max()}, but must hold labels from 0 to {classes - 1} "
                f"(data.classes is {classes})"
            )
    owners = None if clients is None else as_clients(clients, len(train), "data.train_clients")
    if class_names is not None and len(class_names) != classes:
        raise ConfigError.of(
            "data.class_names", f"{len(class_names)} names", f"one a class, of which there are {classes}"
        )
    names = None if class_names is None else tuple(map(str, class_names))
    arrays = train, labels.astype(np.int32), test, labels_of_test.astype(np.int32)
    return Dataset(*arrays, classes, name, owners, names)


def as_array(values: Any, field: str) -> np.ndarray:
    """An array of what is given.

    Args:
        values: an array, or lists.
        field: what an error message calls them.

    Returns:
        The array.

    Raises:
        ConfigError: rows of different lengths.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ConfigError(f"{field} has rows of different lengths, but must be one rectangular array") from error


def as_images(values: Any, field: str) -> np.ndarray:
    """Checks images and brings them into the form that a `Dataset` holds.

    Args:
        values: (n, height, width) or (n, height, width, channels), uint8 or floats in [0, 1].
        field: what an error message calls them.

    Returns:
        (n, height, width, channels) uint8; floats are stored as round(255 * x).

    Raises:
        ConfigError: wrong shape, type or values.

    Example:
        >>> as_images(np.ones((2, 8, 8)), "images").shape
        (2, 8, 8, 1)
    """
    images = as_array(values, field)
    if images.ndim not in (3, 4):
        raise ConfigError(
            f"{field} has shape {images.shape}, but must be (samples, height, width) or "
            "(samples, height, width, channels)"
        )
    if images.size == 0:
        raise ConfigError(f"{field} has shape {images.shape}, but must hold at least one pixel of one image")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(f"{field} is of type {images.dtype}, but must be uint8, or floats in [0, 1]")
    if not np.isfinite(images).all():
        raise ConfigError(f"{field} holds NaN or infinite values, but must be uint8, or floats in [0, 1]")
    low, high = images.min(), images.max()
    if low < 0 or high > 1:
        raise ConfigError(f"{field} holds floats from {low:g} to {high:g}, but must be uint8, or floats in [0, 1]")
    return np.rint(images * 255).astype(np.uint8)


def _as_labels(values: Any, samples: int, field: str) -> np.ndarray:
    labels = as_array(values, field)
    if labels.shape != (samples,):
        raise ConfigError(f"{field} has shape {labels.shape}, but must be ({samples},), one label per image")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(f"{field} is of type {labels.dtype}, but must be integers")
    if labels.min() < 0:
        raise ConfigError(f"{field} holds the label {labels.min()}, but must hold labels of at least 0")
    return labels


def as_clients(values: Any, samples: int, field: str) -> np.ndarray:
    """Checks whose samples are.

    Args:
        values: (samples,) integers or strings.
        samples: how many there are.
        field: what an error message calls them.

    Returns:
        The ids.

    Raises:
        ConfigError: wrong shape or type.
    """
    clients = as_array(values, field)
    if clients.shape != (samples,):
        raise ConfigError(f"{field} has shape {clients.shape}, but must be ({samples},), one client id per sample")
    if clients.dtype == object and all(isinstance(client, str) for client in clients):
        return clients.astype(str)
    if clients.dtype.kind not in "iuUS":
        raise ConfigError(f"{field} is of type {clients.dtype}, but must be integers or strings")
    return clients
