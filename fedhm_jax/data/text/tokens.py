"""Strings as numbers: by character, by byte, or by a tokenizer that a file describes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedhm_jax.errors import ConfigError

BYTES = tuple(chr(byte) if byte < 128 else f"<0x{byte:02X}>" for byte in range(256))
"""A string for each byte; one that is no ASCII character is written ``"<0xE9>"``."""


def tokenize(documents: Sequence[str], tokenizer: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Turns documents into tokens.

    Args:
        documents: strings that UTF-8 can write.
        tokenizer: "characters" (the vocabulary are those that occur, sorted), "bytes" (of UTF-8), or the path of a
            Hugging Face ``tokenizer.json``, which is read with the library tokenizers; no special tokens are added.

    Returns:
        (n,) tokens of each document, and a string for each token of the vocabulary.

    Raises:
        ConfigError: the tokenizer is none of these, cannot be read, or needs a library that is not installed.

    Example:
        >>> tokens, vocabulary = tokenize(["abba", "cab"], "characters")
        >>> [document.tolist() for document in tokens], vocabulary
        ([[0, 1, 1, 0], [2, 0, 1]], ('a', 'b', 'c'))
    """
    if tokenizer == "characters":
        return _characters(documents)
    if tokenizer == "bytes":
        return [np.frombuffer(document.encode(), np.uint8) for document in documents], BYTES
    return from_tokenizer(documents, tokenizer)


def fits_utf8(string: str) -> bool:
    """Whether UTF-8 can write a string, which it cannot if there is half of a surrogate pair in it.

    Args:
        string: any.

    Returns:
        Whether it can.

    Example:
        >>> fits_utf8("été"), fits_utf8("\\ud800")
        (True, False)
    """
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def _characters(documents: Sequence[str]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    characters = sorted(set().union(*documents))
    places = np.zeros(0x110000, np.int32)
    places[[ord(character) for character in characters]] = np.arange(len(characters))
    return [places[np.frombuffer(document.encode("utf-32-le"), "<u4")] for document in documents], tuple(characters)


def from_tokenizer(documents: Sequence[str], tokenizer: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Turns documents into what a Hugging Face tokenizer makes of them, as `tokenize` does.

    Args:
        documents: strings that UTF-8 can write.
        tokenizer: path of a ``tokenizer.json``.

    Returns:
        (n,) tokens of each document, and a string for each token of the vocabulary.

    Raises:
        ConfigError: the tokenizer cannot be read, or needs a library that is not installed.
    """
    loaded = _load(tokenizer)
    loaded.no_truncation()
    loaded.no_padding()
    encoded = loaded.encode_batch(list(documents), add_special_tokens=False)
    return [np.array(document.ids, np.int32) for document in encoded], _strings(loaded)


def _load(tokenizer: str) -> Any:
    allowed = "'characters', 'bytes' or the path of a Hugging Face tokenizer.json"
    try:
        path = Path(tokenizer).expanduser()
    except RuntimeError as error:  # nobody of that name after ~
        raise ConfigError.of("data.tokenizer", tokenizer, allowed) from error
    if not os.path.isfile(path):
        raise ConfigError.of("data.tokenizer", tokenizer, allowed)
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        missing = "'characters' or 'bytes' as long as pip install \"fedhm-jax[text]\" has not brought tokenizers"
        raise ConfigError.of("data.tokenizer", tokenizer, missing) from error
    # The library raises Exception itself for whatever it cannot read.
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError.of("data.tokenizer", tokenizer, f"{allowed}, which this is not ({reason})") from error


def _strings(loaded: Any) -> tuple[str, ...]:
    """What each token adds behind another one; alone, some tokenizers would take its leading space away."""
    ids = range(max(loaded.get_vocab().values()) + 1)
    alone = loaded.decode_batch([[token] for token in ids], skip_special_tokens=False)
    first = next((token for token in ids if alone[token].isascii() and alone[token].strip()), 0)
    pairs = loaded.decode_batch([[first, token] for token in ids], skip_special_tokens=False)
    return tuple(pair.removeprefix(alone[first]) for pair in pairs)
