"""Text in tables on disk: a Hugging Face data set as `save_to_disk` or the library's cache has it, or Parquet files.

The files are Arrow's, and are read with pyarrow, which TFDS brings: the library datasets need not be installed, and
nothing is looked up in a network.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from fedhm_jax.data.text.files import Documents, joined_by_client
from fedhm_jax.errors import ConfigError

_KIND = "a folder that save_to_disk of the library datasets wrote, a .parquet file, or a folder of such files"
_ONLY = "train"
"""The split of what has no splits."""


def read_tables(path: Path, split: str, text_field: str = "text", client_field: str | None = None) -> Documents:
    """Reads one split of a table.

    Args:
        path: folder of a saved `Dataset` or `DatasetDict`, of a set in the library's cache (`find_cached_set`), a
            Parquet file, or a folder of Parquet files whose names begin with their split, such as
            ``train-00000-of-00002.parquet``.
        split: name of the split; "train" where there is only one, without a name.
        text_field: column of the texts, strings.
        client_field: column of the clients' ids, strings or integers; no clients if None.

    Returns:
        Each client's texts, joined by line breaks, or the document of each row.

    Raises:
        ConfigError: there is no such table, split or column, or it holds something else.

    Example:
        >>> import tempfile
        >>> import pyarrow
        >>> import pyarrow.parquet
        >>> table = pyarrow.table({"text": ["to be", "or not"], "by": ["ann", "ann"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pyarrow.parquet.write_table(table, Path(folder) / "train.parquet")
        ...     read_tables(Path(folder), "train", client_field="by")
        {'ann': 'to be\\nor not'}
    """
    try:
        table = _table(_files_of(path, split))
        texts = _values(table, text_field, "data.text_field", "strings")
        if client_field is None:
            return texts
        return joined_by_client(texts, _values(table, client_field, "data.client_field", "strings or integers"))
    except ConfigError:
        raise
    # damaged files: pyarrow and json have many words for them
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError.of("data.data_dir", str(path), f"{_KIND}, that can be read ({reason})") from error


def _files_of(path: Path, split: str) -> list[Path]:
    if not os.path.isdir(path):
        if path.suffix != ".parquet":
            raise ConfigError.of("data.data_dir", str(path), _KIND)
        _check_split(split, [_ONLY], path)
        return [path]
    if (listing := path / "dataset_dict.json").exists():
        _check_split(split, json.loads(listing.read_text(encoding="utf-8"))["splits"], path)
        return _saved(path / split)
    if (path / "state.json").exists():
        _check_split(split, [_ONLY], path)
        return _saved(path)
    if (description := path / "dataset_info.json").exists():
        prefix = json.loads(description.read_text(encoding="utf-8"))["dataset_name"] + "-"
        return _of_split(sorted(path.glob("*.arrow")), prefix, split, path)
    parquet = sorted(path.glob("*.parquet"))
    if not parquet:
        raise ConfigError.of("data.data_dir", str(path), _KIND)
    return _of_split(parquet, "", split, path)


def _of_split(files: list[Path], prefix: str, split: str, path: Path) -> list[Path]:
    """Those whose names are prefix and split, with a number where there are several."""
    splits = [re.sub(r"-\d+-of-\d+$", "", file.stem).removeprefix(prefix) for file in files]
    _check_split(split, splits, path)
    return [file for file, own in zip(files, splits, strict=True) if own == split]


def _check_split(split: str, splits: list[str], path: Path) -> None:
    if split not in splits:
        names = " or ".join(map(repr, dict.fromkeys(splits)))
        raise ConfigError.of("data.train_split", split, f"{names}, as {str(path)!r} has no other split")


def _saved(folder: Path) -> list[Path]:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return [folder / file["filename"] for file in state["_data_files"]]


def _table(files: list[Path]) -> Any:
    import pyarrow
    import pyarrow.parquet

    def read(file: Path) -> Any:
        if file.suffix == ".parquet":
            return pyarrow.parquet.read_table(file)
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            return stream.read_all()

    return pyarrow.concat_tables(map(read, files))


def _values(table: Any, name: str, field: str, kinds: str) -> list[Any]:
    """A column as a list, once it is there and whole."""
    import pyarrow.types as types

    if table.column_names.count(name) != 1:
        names = ", ".join(map(repr, table.column_names[:8]))
        raise ConfigError.of(field, name, f"a column of {kinds}; the columns are {names}")
    column = table.column(name)
    is_string = types.is_string(column.type) or types.is_large_string(column.type)
    if not is_string and not ("integers" in kinds and types.is_integer(column.type)):
        raise ConfigError.of(field, name, f"a column of {kinds}, and it is one of {column.type}")
    if column.null_count:
        raise ConfigError.of(field, name, f"a column without empty places, and {column.null_count} rows have one")
    return column.to_pylist()
