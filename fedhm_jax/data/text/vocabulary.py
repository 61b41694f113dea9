"""A string for each token, and the way from text to tokens and back."""

import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from fedhm_jax.data.text.tokens import BYTES, from_tokenizer
from fedhm_jax.errors import ConfigError

TokenUnit = Literal["character", "byte", "piece"]

_BYTE = re.compile("<0x([0-9A-F]{2})>")


class HasVocabulary(Protocol):
    """A text, or what a trained model of text is given."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """A string for each token."""
        ...


def unit_of(vocabulary: Sequence[str]) -> TokenUnit:
    """What a token is.

    Args:
        vocabulary: a string for each token.

    Returns:
        "byte", "character" or "piece".

    Example:
        >>> unit_of(("a", "b")), unit_of(("a", "the"))
        ('character', 'piece')
    """
    if tuple(vocabulary) == BYTES:
        return "byte"
    return "character" if all(len(string) == 1 for string in vocabulary) else "piece"


def encode(text: HasVocabulary, string: str, tokenizer: str = "characters") -> np.ndarray:
    """Turns a string into tokens of a vocabulary that is there.

    Args:
        text: whose vocabulary it is.
        string: to be turned.
        tokenizer: path of the ``tokenizer.json`` that the vocabulary is from; of characters and bytes none is needed.

    Returns:
        (n,) int32 tokens.

    Raises:
        ConfigError: a character that the vocabulary has not, or a tokenizer that is missing or of another vocabulary.

    Example:
        >>> from fedhm_jax.data import text_from_strings
        >>> text = text_from_strings(["abcabcabcab"], window=2, test_share=0.3)
        >>> encode(text, "cab").tolist()
        [2, 0, 1]
        >>> encode(text, "cad")
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: the text holds the character 'd', but must be of those that were trained on
    """
    unit = unit_of(text.vocabulary)
    if unit == "byte":
        return np.frombuffer(string.encode("utf-8", "replace"), np.uint8).astype(np.int32)
    if unit == "piece":
        (tokens,), vocabulary = from_tokenizer([string], tokenizer)
        if vocabulary != tuple(text.vocabulary):
            raise ConfigError.of("data.tokenizer", tokenizer, "the tokenizer that the model was trained with")
        return tokens
    places = {character: place for place, character in enumerate(text.vocabulary)}
    if unknown := [character for character in string if character not in places]:
        raise ConfigError(f"the text holds the character {unknown[0]!r}, but must be of those that were trained on")
    return np.array([places[character] for character in string], np.int32)


def decode(text: HasVocabulary, tokens: Any) -> str:
    """Shows tokens as the text that they stand for.

    Args:
        text: whose vocabulary the tokens are of.
        tokens: (n,) integers in [0, len(text.vocabulary)).

    Returns:
        Their strings one after another; bytes are put together as UTF-8, with a replacement character where they are
        none.

    Raises:
        ConfigError: something that is no token of the vocabulary.

    Example:
        >>> from fedhm_jax.data import text_from_strings
        >>> text = text_from_strings(["été, été, été"], window=2, test_share=0.3, tokenizer="bytes")
        >>> text.train_tokens[:3].tolist(), decode(text, text.train_tokens[:5])
        ([195, 169, 116], 'été')
    """
    numbers = as_tokens(tokens, len(text.vocabulary), "tokens")
    return b"".join(_as_bytes(text.vocabulary[number]) for number in numbers).decode("utf-8", "replace")


def as_tokens(tokens: Any, size: int, field: str) -> np.ndarray:
    """Checks that something is a row of tokens.

    Args:
        tokens: (n,) integers.
        size: of the vocabulary.
        field: what an error message calls them.

    Returns:
        The row as an array.

    Raises:
        ConfigError: wrong shape, type or values.

    Example:
        >>> as_tokens([0, 2], 3, "tokens").tolist()
        [0, 2]
    """
    try:
        found = np.asarray(tokens)
    except ValueError as error:
        raise ConfigError(f"{field} has rows of different lengths, but must be one row of tokens") from error
    if found.ndim != 1:
        raise ConfigError(f"{field} has shape {found.shape}, but must be one row of tokens")
    if found.size == 0:
        return np.zeros(0, np.int32)  # an empty list is of no integer type
    if not np.issubdtype(found.dtype, np.integer):
        raise ConfigError(f"{field} is of type {found.dtype}, but must be integers")
    if not (found.min() >= 0 and found.max() < size):
        outside = found[(found < 0) | (found >= size)][0]
        raise ConfigError(
            f"{field} holds the token {outside}, but must hold tokens from 0 to {size - 1} "
            f"(data.vocabulary has {size} strings)"
        )
    return found


def _as_bytes(string: str) -> bytes:
    byte = _BYTE.fullmatch(string)
    return bytes.fromhex(byte[1]) if byte else string.encode("utf-8", "replace")
