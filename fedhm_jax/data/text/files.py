"""Text in files: one text file, a folder of them, or JSON lines."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedhm_jax.data.text.tokens import fits_utf8
from fedhm_jax.errors import ConfigError

Documents = Mapping[Any, str] | list[str]
"""The text of each client, by the client's id; or documents of nobody's."""


def read_text_files(path: Path, client_pattern: str | None = None) -> Documents:
    """Reads a UTF-8 text file, or all ``.txt`` files in a folder and in the folders in it.

    Args:
        path: the file or folder; files and folders whose names begin with a dot are not read.
        client_pattern: a line that this regular expression matches begins a text of the client that its first group, or
            without a group the match, names; see `texts_by_client`.

    Returns:
        With a pattern, each client's texts, joined by line breaks. Else the text of each file of a folder, a client
        named by its path in the folder, without ``.txt``; or the one document of a file, nobody's.

    Raises:
        ConfigError: there is no such file or none in the folder, one is not UTF-8, or no line is a client's.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "ann.txt").write_text("to be")
        ...     read_text_files(Path(folder))
        {'ann': 'to be'}
    """
    files = _files_in(path) if os.path.isdir(path) else [path]
    texts = [_read(path, file) for file in files]
    if client_pattern is not None:
        pattern = compile_pattern(client_pattern)
        clients: dict[str, list[str]] = {}
        for text in texts:
            for client, own in texts_by_client(text, pattern).items():
                clients.setdefault(client, []).extend(own)
        if not clients:
            allowed = f"one that matches a line before the text of a client in {str(path)!r}, which it does not"
            raise ConfigError.of("data.client_pattern", client_pattern, allowed)
        return {client: "\n".join(own) for client, own in clients.items()}
    if not os.path.isdir(path):
        return texts
    return {
        file.relative_to(path).with_suffix("").as_posix(): text for file, text in zip(files, texts, strict=True) if text
    }


def compile_pattern(client_pattern: str) -> re.Pattern[str]:
    """Compiles ``data.client_pattern``, in which ``^`` and ``$`` are the ends of a line.

    Args:
        client_pattern: a regular expression.

    Returns:
        It, compiled.

    Raises:
        ConfigError: it is none.
    """
    try:
        return re.compile(client_pattern, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError.of("data.client_pattern", client_pattern, f"a regular expression ({error})") from error


def texts_by_client(text: str, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Cuts a text at the lines that a pattern matches.

    The line itself is not part of a text, and neither are empty lines at its ends, nor what stands before the first
    such line. A client whose texts are all empty is left out.

    Args:
        text: the text.
        pattern: searched for in the whole text, so that it can ask for what stands before a line; names the client by
            its first group, or without a group by the match.

    Returns:
        Each client's texts, in their order.

    Example:
        >>> texts_by_client("ANN:\\nTo be.\\n\\nBOB:\\nOr\\nnot.\\n\\nANN:\\nTrue.", compile_pattern("^([A-Z]+):$"))
        {'ANN': ['To be.', 'True.'], 'BOB': ['Or\\nnot.']}
    """
    found = list(pattern.finditer(text))
    begins = [end + 1 if (end := text.find("\n", match.end())) >= 0 else len(text) for match in found]
    ends = [*(text.rfind("\n", 0, match.start()) + 1 for match in found[1:]), len(text)]
    clients: dict[str, list[str]] = {}
    for match, begin, end in zip(found, begins, ends, strict=False):
        # A group may take no part in a match.
        client = (match[1] if pattern.groups else match[0]) or ""
        if own := text[begin:end].strip("\n"):
            clients.setdefault(client, []).append(own)
    return clients


def read_json_lines(path: Path, text_field: str = "text", client_field: str | None = None) -> Documents:
    """Reads a file with a JSON object in every line; empty lines are skipped.

    Args:
        path: the file, UTF-8.
        text_field: key of the text, a string.
        client_field: key of the client's id, a string or an integer; no clients if None.

    Returns:
        Each client's texts, joined by line breaks, or the document of each line.

    Raises:
        ConfigError: there is no such file, or a line in it is not as it should be.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "lines.jsonl"
        ...     _ = file.write_text('{"text": "to be", "by": "ann"}\\n{"text": "or not", "by": "ann"}\\n')
        ...     read_json_lines(file), read_json_lines(file, client_field="by")
        (['to be', 'or not'], {'ann': 'to be\\nor not'})
    """
    lines = list(_objects(path))
    texts = [_value(line, text_field, (str,), "data.text_field", number) for number, line in lines]
    if client_field is None:
        return texts
    clients = [_value(line, client_field, (str, int), "data.client_field", number) for number, line in lines]
    if len({type(client) for client in clients}) > 1:
        allowed = "a key whose values are strings in every line, or integers in every line"
        raise ConfigError.of("data.client_field", client_field, allowed)
    return joined_by_client(texts, clients)


def joined_by_client(texts: Iterable[str], clients: Iterable[Any]) -> dict[Any, str]:
    """Joins each client's texts in their order, a line break between two.

    Args:
        texts: of all clients.
        clients: of each text its client's id.

    Returns:
        The text of each client.

    Example:
        >>> joined_by_client(["to be", "that is", "or not"], [2, 1, 2])
        {2: 'to be\\nor not', 1: 'that is'}
    """
    joined: dict[Any, list[str]] = {}
    for client, text in zip(clients, texts, strict=True):
        joined.setdefault(client, []).append(text)
    return {client: "\n".join(own) for client, own in joined.items()}


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects, each with the number of its line from 1."""
    for number, line in enumerate(_read(path, path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _unusable(path, f"a file of JSON lines, and line {number} is not JSON ({error})") from error
        if not isinstance(found, dict):
            raise _unusable(path, f"a file of JSON lines, and line {number} is no object")
        yield number, found


def _value(line: dict[str, Any], key: str, kinds: tuple[type, ...], field: str, number: int) -> Any:
    value = line.get(key)
    fits = fits_utf8(value) if isinstance(value, str) else isinstance(value, int) and -(2**63) <= value < 2**63
    if not isinstance(value, kinds) or isinstance(value, bool) or not fits:
        wanted = " or ".join({str: "text", int: "an integer"}[kind] for kind in kinds)
        keys = ", ".join(map(repr, list(line)[:8])) or "none"
        allowed = f"a key that has {wanted} in every line, unlike in line {number}, whose keys are {keys}"
        raise ConfigError.of(field, key, allowed)
    return value


def _files_in(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*.txt")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise _unusable(folder, "a text file, or a folder with .txt files in it")
    return files


def _read(path: Path, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _unusable(path, f"a file that can be read ({error.strerror}: {file})") from error
    except UnicodeDecodeError as error:
        raise _unusable(path, f"text in UTF-8, and {file} is not ({error})") from error


def _unusable(path: Path, allowed: str) -> ConfigError:
    return ConfigError.of("data.data_dir", str(path), allowed)
