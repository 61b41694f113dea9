"""Sets of TensorFlow Datasets (TFDS), read without TensorFlow.

TFDS reads prepared array_record files without TensorFlow; only preparing a set (download and conversion) needs it.
"""

import contextlib
import difflib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedhm_jax.errors import ConfigError

_BATCH = 256


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hides TFDS's own warnings and log lines, which tell a user of the simulator nothing.

    Yields:
        Nothing.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def open_builder(name: str, root: Path | None, allowed: str, prefix: str = "") -> Any:
    """Opens a set by its name; whether it is prepared is another question, see `check_prepared`.

    Args:
        name: TFDS name, such as "cifar10", "cifar10:3.0.2" or "emnist/letters".
        root: folder of the prepared sets; TFDS's own default if None.
        allowed: what ``data.name`` may be, for the sentence about a name that TFDS does not know.
        prefix: what stands before the name in ``data.name``.

    Returns:
        TFDS's builder.

    Raises:
        ConfigError: the name is unknown, or TFDS cannot open the set.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {prefix + close[0]!r}?" if close else ""
        raise ConfigError.of("data.name", prefix + name, f"{allowed}{hint}") from error
    # TFDS signals a wrong version, a broken info file and more with exceptions of many unrelated types.
    except Exception as error:
        where = "its default data_dir" if root is None else f"data.data_dir {str(root)!r}"
        opened = f"a data set that TFDS can open from {where} ({_first_line(error)})"
        raise ConfigError.of("data.name", prefix + name, opened) from error
    return builder


def check_prepared(name: str, builder: Any, prefix: str = "") -> None:
    """Refuses a set that is not on disk, and says how to prepare it.

    Args:
        name: as in `open_builder`.
        builder: TFDS's builder of the set.
        prefix: as in `open_builder`.

    Raises:
        ConfigError: the set is not prepared.
    """
    if builder.is_prepared():
        return
    place = Path(builder.data_path)
    others = sorted(path.name for path in place.parent.iterdir() if path.is_dir()) if place.parent.is_dir() else []
    found = f" (beside it are {', '.join(others)}, which data.name '{prefix}{name}:<version>' reads)" if others else ""
    raise ConfigError(
        f"data.name is {prefix + name!r}, but no prepared set was found at {place}{found}; prepare it with "
        f'`pip install "fedhm-jax[prepare]"` and `tfds build {name} --file_format=array_record`, '
        "and point data.data_dir at the folder it lands in"
    )


def check_client_feature(info: Any, field: str, name: str | None, taken: tuple[str, ...]) -> None:
    """Refuses a feature that cannot tell whose a sample is.

    Args:
        info: TFDS's of the set.
        field: the config's field that names the feature.
        name: the feature; None is nobody's, and passes.
        taken: features that are something else.

    Raises:
        ConfigError: there is no such feature, or it is not one integer or string a sample.
    """
    if name is None:
        return
    fitting = [
        key
        for key, feature in info.features.items()
        if key not in taken and feature.shape == () and np.dtype(feature.np_dtype).kind in "iuOSU"
    ]
    if name not in fitting:
        found = ", ".join(repr(key) for key in sorted(fitting)) or "none"
        raise ConfigError.of(
            field, name, f"a feature of {info.name} that is one integer or string a sample (found: {found})"
        )


def open_source(builder: Any, split: str, field: str) -> Any:
    """The samples of a split, read when they are asked for.

    Args:
        builder: TFDS's builder of a prepared set.
        split: split or slice of one, such as "train" or "train[:1000]".
        field: the config's field that names the split.

    Returns:
        TFDS's data source, which is not empty.

    Raises:
        ConfigError: there is no such split, it is empty, or the files are not of the format array_record.
    """
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


def read_samples(source: Any, name: str, split: str) -> Iterator[Mapping[str, Any]]:
    """All samples, some at a time.

    Args:
        source: from `open_source`.
        name: of the set, for the sentence about a damaged file.
        split: likewise.

    Yields:
        A mapping from feature to value.

    Raises:
        ConfigError: a file is damaged.
    """
    for start in range(0, len(source), _BATCH):
        # The decoders raise exceptions of many unrelated types on damaged files.
        try:
            with quietly():
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
