"""Image-classification sets of TensorFlow Datasets (TFDS), read without TensorFlow.

TFDS reads prepared array_record files without TensorFlow; only preparing a set (download and conversion) needs it.
"""

import contextlib
import difflib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedhm_jax.data.cache import UndecodedSplit
from fedhm_jax.errors import ConfigError

_BATCH = 256


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
'jsonl', 'huggingface' or a TFDS image-classification set; did you mean 'cifar10'?
    """
    root = None if data_dir is None else data_dir.expanduser()
    with _quiet():
        builder = _open_builder(name, root)
        keys = _find_keys(name, builder.info, client_feature)
        _check_client_feature(builder.info, client_feature, keys)
        if not builder.is_prepared():
            raise ConfigError(_how_to_prepare(name, builder))
        labels = builder.info.features[keys[1]]
        classes, names = labels.num_classes, tuple(labels.names)
        files = tuple(sorted(path for path in Path(builder.data_path).iterdir() if path.is_file()))

        def undecoded(split: str, field: str, own: str | None) -> UndecodedSplit:
            source = _open_source(builder, split, field)
            samples = partial(_decode, source, keys, classes, name, split, field)
            clients = None if own is None else partial(_read_clients, builder, own, keys[0], name, split)
            title = f"{builder.info.full_name} {split}" + ("" if own is None else f" by {own}")
            return UndecodedSplit(title, files, len(source), classes, samples, clients, names)

        train = undecoded(train_split, "data.train_split", client_feature)
        return train, undecoded(test_split, "data.test_split", None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides TFDS's own warnings and log lines, which tell a user of the simulator nothing."""
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _open_builder(name: str, root: Path | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        allowed = f"'digits', 'npz', 'folder', 'text', 'jsonl', 'huggingface' or a TFDS image-classification set{hint}"
        raise ConfigError.of("data.name", name, allowed) from error
    # TFDS signals a wrong version, a broken info file and more with exceptions of many unrelated types.
    except Exception as error:
        where = "its default data_dir" if root is None else f"data.data_dir {str(root)!r}"
        allowed = f"a data set that TFDS can open from {where} ({_first_line(error)})"
        raise ConfigError.of("data.name", name, allowed) from error
    return builder


def _how_to_prepare(name: str, builder: Any) -> str:
    place = Path(builder.data_path)
    others = sorted(path.name for path in place.parent.iterdir() if path.is_dir()) if place.parent.is_dir() else []
    found = f" (beside it are {', '.join(others)}, which data.name '{name}:<version>' reads)" if others else ""
    return (
        f"data.name is {name!r}, but no prepared set was found at {place}{found}; prepare it with "
        f'`pip install "fedhm-jax[prepare]"` and `tfds build {name} --file_format=array_record`, '
        "and point data.data_dir at the folder it lands in"
    )


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


def _check_client_feature(info: Any, name: str | None, keys: tuple[str, str]) -> None:
    if name is None:
        return
    fitting = [
        key
        for key, feature in info.features.items()
        if key not in keys and feature.shape == () and np.dtype(feature.np_dtype).kind in "iuOSU"
    ]
    if name not in fitting:
        found = ", ".join(repr(key) for key in sorted(fitting)) or "none"
        allowed = f"a feature of {info.name} that is one integer or string a sample (found: {found})"
        raise ConfigError.of("data.client_feature", name, allowed)


def _open_source(builder: Any, split: str, field: str) -> Any:
    try:
        source = builder.as_data_source(split=split)
        count = len(source)
    except NotImplementedError as error:
        raise ConfigError(
            f"data.data_dir must hold sets prepared with --file_format=array_record, but {builder.data_path} "
            f"is in the {builder.info.file_format.value} format"
        ) from error
    # Unknown names, malformed slices and slices past the end are all ValueErrors.
    except ValueError as error:
        raise _wrong_split(builder, split, field) from error
    if count == 0:
        raise _wrong_split(builder, split, field)
    return source


def _wrong_split(builder: Any, split: str, field: str) -> ConfigError:
    known = ", ".join(f"{key!r} ({info.num_examples} samples)" for key, info in builder.info.splits.items())
    return ConfigError.of(field, split, f"one of {known}, or a part of one that is not empty, such as 'train[:1000]'")


def _decode(
    source: Any, keys: tuple[str, str], classes: int, name: str, split: str, field: str
) -> Iterator[tuple[np.ndarray, int]]:
    image_key, label_key = keys
    shape: tuple[int, ...] | None = None
    for index, sample in enumerate(_read(source, name, split)):
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

    with _quiet():
        source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    found = [sample[feature] for sample in _read(source, name, split)]
    return np.array([value.decode(errors="replace") if isinstance(value, bytes) else value for value in found])


def _read(source: Any, name: str, split: str) -> Iterator[Mapping[str, Any]]:
    """All samples, some at a time."""
    for start in range(0, len(source), _BATCH):
        # The decoders raise exceptions of many unrelated types on damaged files.
        try:
            with _quiet():
                samples = source.__getitems__(list(range(start, min(start + _BATCH, len(source)))))
        except Exception as error:
            raise ConfigError(
                f"data.data_dir must hold intact files, but reading split {split!r} of {name!r} from "
                f"{source.dataset_info.data_dir} failed ({_first_line(error)})"
            ) from error
        yield from samples


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r'^Failed to construct dataset .*?}": ', "", lines[0])[:200]
