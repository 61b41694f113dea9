"""Image-classification sets of TensorFlow Datasets (TFDS)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedhm_jax.data.images.cache import UndecodedSplit
from fedhm_jax.data.tfds_builder import (
    check_client_feature,
    check_prepared,
    open_builder,
    open_source,
    quietly,
    read_samples,
)
from fedhm_jax.errors import ConfigError

_ALLOWED = (
    "'digits', 'npz', 'folder', 'text', 'jsonl', 'huggingface', 'tfds_text' with a colon and a name, or a TFDS "
    "image-classification set"
)


def open_tfds(
    name: str, data_dir: Path | None, train_split: str, test_split: str, client_feature: str | None = None
) -> tuple[UndecodedSplit, UndecodedSplit]:
    """Opens two splits of a prepared TFDS image-classification set.

    Args:
        name: TFDS name, such as "cifar10", "cifar10:3.0.2" or "emnist/letters".
        data_dir: folder of the prepared sets; TFDS's own default if None.
        train_split: split or slice of one, such as "train" or "train[:1000]".
        test_split: likewise.
        client_feature: feature with the id of a training sample's client, an integer or a string; no clients if None.

    Returns:
        The training and the test split, not decoded yet.

    Raises:
        ConfigError: if the set is unknown, does not hold labelled images, has no such feature, is not prepared, or a
            split does not exist. Image files are read, and refused, only when the split is decoded.

    Example:
        >>> open_tfds("cifar1O", None, "train", "test")
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: data.name is 'cifar1O', but must be 'digits', 'npz', 'folder', 'text', \
'jsonl', 'huggingface', 'tfds_text' with a colon and a name, or a TFDS image-classification set; did you mean 'cifar10'?
    """
    root = None if data_dir is None else data_dir.expanduser()
    with quietly():
        builder = open_builder(name, root, _ALLOWED)
        keys = _find_keys(name, builder.info, client_feature)
        check_client_feature(builder.info, "data.client_feature", client_feature, keys)
        check_prepared(name, builder)
        labels = builder.info.features[keys[1]]
        classes, names = labels.num_classes, tuple(labels.names)
        files = tuple(sorted(path for path in Path(builder.data_path).iterdir() if path.is_file()))

        def undecoded(split: str, field: str, own: str | None) -> UndecodedSplit:
            source = open_source(builder, split, field)
            samples = partial(_decode, source, keys, classes, name, split, field)
            clients = None if own is None else partial(_read_clients, builder, own, keys[0], name, split)
            title = f"{builder.info.full_name} {split}" + ("" if own is None else f" by {own}")
            return UndecodedSplit(title, files, len(source), classes, samples, clients, names)

        train = undecoded(train_split, "data.train_split", client_feature)
        return train, undecoded(test_split, "data.test_split", None)


def _find_keys(name: str, info: Any, client_feature: str | None) -> tuple[str, str]:
    """The names of the image and the label feature: the supervised keys, else the only feature of each kind."""
    import tensorflow_datasets as tfds

    features = info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    keys = info.supervised_keys
    if keys is not None and len(keys) == 2 and keys[0] in images and keys[1] in labels:
        images, labels = [keys[0]], [keys[1]]
    else:
        labels = [key for key in labels if key != client_feature]
    if len(images) != 1 or len(labels) != 1:
        allowed = f"a set with one image and one class label a sample (this one has: {', '.join(sorted(features))})"
        raise ConfigError.of("data.name", name, allowed)
    if features[images[0]].np_dtype != np.uint8:
        allowed = f"a set of 8-bit images (its pixels are {features[images[0]].np_dtype})"
        raise ConfigError.of("data.name", name, allowed)
    if features[labels[0]].num_classes is None:
        raise ConfigError.of("data.name", name, "a set with a known number of classes")
    return images[0], labels[0]


def _decode(
    source: Any, keys: tuple[str, str], classes: int, name: str, split: str, field: str
) -> Iterator[tuple[np.ndarray, int]]:
    image_key, label_key = keys
    shape: tuple[int, ...] | None = None
    for index, sample in enumerate(read_samples(source, name, split)):
        image, label = sample[image_key], int(sample[label_key])
        shape = shape or image.shape
        if image.shape != shape:
            allowed = f"a set of images of one shape, and sample {index} of {split!r} is {image.shape}, not {shape}"
            raise ConfigError.of("data.name", name, allowed)
        if not 0 <= label < classes:
            allowed = f"a split whose labels are 0 to {classes - 1}, and sample {index} has label {label}"
            raise ConfigError.of(field, split, allowed)
        yield image, label


def _read_clients(builder: Any, feature: str, image_key: str, name: str, split: str) -> np.ndarray:
    """The feature of every sample; the images are left as they are."""
    import tensorflow_datasets as tfds

    with quietly():
        source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    found = [sample[feature] for sample in read_samples(source, name, split)]
    return np.array([value.decode(errors="replace") if isinstance(value, bytes) else value for value in found])
