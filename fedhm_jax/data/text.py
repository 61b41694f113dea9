"""Text as windows of one long row of tokens, and what makes it from documents the user already has."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.data.tokens import fits_utf8, tokenize
from fedhm_jax.errors import ConfigError

_BYTE = re.compile("<0x([0-9A-F]{2})>")


class Text(NamedTuple):
    """Training and test text, in host memory; a sample is a window and the token after each of its tokens.

    Sample i reads ``tokens[start : start + window]`` and predicts ``tokens[start + 1 : start + window + 1]``, where
    start is ``starts[i]``.

    Attributes:
        train_tokens: (n,) uint8, uint16 or int32, the smallest that holds the vocabulary, each in [0, len(vocabulary)).
        test_tokens: (m,) likewise.
        train_starts: (samples,) int32, where the training windows start in ``train_tokens``.
        test_starts: (test samples,) int32, likewise in ``test_tokens``.
        window: tokens that a sample predicts.
        vocabulary: a string for each token, for showing; a byte that is no ASCII character is written ``"<0xE9>"``.
        name: shown in reports.
        train_clients: (samples,) id of the client that each training window is of, integers or strings; None if the
            text has no clients of its own.

    Example:
        >>> text_from_strings({"ann": "to be or not to be", "bob": "that is it"}, window=4, test_share=0.5)
        Text('strings': 3 training and 3 test windows of 4 tokens, 11 in the vocabulary, 2 clients)
    """

    train_tokens: np.ndarray
    test_tokens: np.ndarray
    train_starts: np.ndarray
    test_starts: np.ndarray
    window: int
    vocabulary: tuple[str, ...]
    name: str
    train_clients: np.ndarray | None = None

    def __repr__(self) -> str:
        numbers = f"{len(self.train_starts)} training and {len(self.test_starts)} test windows of {self.window} tokens"
        own = "" if self.train_clients is None else f", {len(np.unique(self.train_clients))} clients"
        return f"Text({self.name!r}: {numbers}, {len(self.vocabulary)} in the vocabulary{own})"


def text_from_strings(
    documents: Mapping[Any, str] | Iterable[str],
    *,
    window: int = 64,
    test_share: float = 0.1,
    tokenizer: str = "characters",
    name: str = "strings",
) -> Text:
    """Turns strings into tokens and makes a `Text` of them, as `text_from_tokens` does.

    Args:
        documents: the text of each client, by the client's id; or documents of nobody's.
        window: tokens that a sample predicts.
        test_share: share of the end of every document that is held out for the test.
        tokenizer: "characters" (the vocabulary are those that occur, sorted), "bytes" (of UTF-8), or the path of a
            Hugging Face ``tokenizer.json``.
        name: shown in reports.

    Returns:
        The text.

    Raises:
        ConfigError: what is handed over is unusable, or too short for a window; the message names it.

    Example:
        >>> text = text_from_strings(["abcabcabcab"], window=2, test_share=0.3)
        >>> text.vocabulary, text.train_tokens.tolist(), text.train_starts.tolist()
        (('a', 'b', 'c'), [0, 1, 2, 0, 1, 2, 0, 1], [0, 2, 4])
    """
    clients, listed = _as_documents(documents)
    for place, document in zip(_places(clients, listed), listed, strict=True):
        if not isinstance(document, str):
            raise ConfigError(f"{place} is of type {type(document).__name__}, but must be a string")
        if not fits_utf8(document):
            raise ConfigError(f"{place} holds half of a surrogate pair, but must be text that UTF-8 can write")
    tokens, vocabulary = tokenize(listed, tokenizer)
    return _text(clients, tokens, vocabulary, window, test_share, name)


def text_from_tokens(
    documents: Mapping[Any, Any] | Iterable[Any],
    vocabulary: Sequence[str],
    *,
    window: int = 64,
    test_share: float = 0.1,
    name: str = "tokens",
) -> Text:
    """Checks documents of tokens and makes a `Text` of them.

    Of a document of n tokens the last round(test_share * n) are for the test. In each of the two parts windows start at
    0, window, 2 * window, ... as long as a whole one and the token after it are left, so that none reaches into another
    document. A part that is too short for a window has no samples.

    Args:
        documents: the tokens of each client, by the client's id; or documents of nobody's. Tokens are (n,) integers in
            [0, len(vocabulary)).
        vocabulary: a string for each token.
        window: tokens that a sample predicts.
        test_share: share of the end of every document that is held out for the test.
        name: shown in reports.

    Returns:
        The text; ids are integers if all of them are, strings if all of them are.

    Raises:
        ConfigError: what is handed over is unusable, or too short for a window; the message names it.

    Example:
        >>> text = text_from_tokens({7: np.arange(12) % 3, 8: np.zeros(10, int)}, "abc", window=2, test_share=0.25)
        >>> text.train_starts.tolist(), text.train_clients.tolist(), text.test_starts.tolist()
        ([0, 2, 4, 6, 9, 11, 13], [7, 7, 7, 7, 8, 8, 8], [0])
    """
    clients, listed = _as_documents(documents)
    strings = tuple(vocabulary)
    for token, string in enumerate(strings):
        if not isinstance(string, str):
            raise ConfigError(f"data.vocabulary[{token}] is of type {type(string).__name__}, but must be a string")
    places = _places(clients, listed)
    tokens = [_as_tokens(document, len(strings), place) for place, document in zip(places, listed, strict=True)]
    return _text(clients, tokens, strings, window, test_share, name)


def check_text(text: Text) -> None:
    """Checks a text that was put together by hand.

    Args:
        text: the text.

    Raises:
        ConfigError: naming the first field that is unusable, as in "data.train_starts".

    Example:
        >>> text = text_from_strings(["abcabcabcab"], window=2, test_share=0.3)
        >>> check_text(text)
        >>> check_text(text._replace(window=4))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: data.train_starts holds the start 4, but must hold starts from 0 to 3, as \
data.train_tokens has 8 tokens and data.window is 4
    """
    _check_window(text.window)
    for split, tokens, starts in (
        ("train", text.train_tokens, text.train_starts),
        ("test", text.test_tokens, text.test_starts),
    ):
        _as_tokens(tokens, len(text.vocabulary), f"data.{split}_tokens")
        field = f"data.{split}_starts"
        if np.ndim(starts) != 1 or len(starts) == 0 or not np.issubdtype(starts.dtype, np.integer):
            shown = f"an array of shape {np.shape(starts)} and type {np.asarray(starts).dtype}"
            raise ConfigError(f"{field} is {shown}, but must be one row of integers, at least one")
        last = len(tokens) - text.window - 1
        outside = starts[(starts < 0) | (starts > last)]
        if outside.size > 0:
            raise ConfigError(
                f"{field} holds the start {outside[0]}, but must hold starts from 0 to {last}, as data.{split}_tokens "
                f"has {len(tokens)} tokens and data.window is {text.window}"
            )
    if text.train_clients is not None and np.shape(text.train_clients) != np.shape(text.train_starts):
        raise ConfigError(
            f"data.train_clients has shape {np.shape(text.train_clients)}, but must be {np.shape(text.train_starts)}, "
            "one client id per window"
        )


def decode(text: Text, tokens: Any) -> str:
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
        >>> text = text_from_strings(["été, été, été"], window=2, test_share=0.3, tokenizer="bytes")
        >>> text.train_tokens[:3].tolist(), decode(text, text.train_tokens[:5])
        ([195, 169, 116], 'été')
    """
    numbers = _as_tokens(tokens, len(text.vocabulary), "tokens")
    return b"".join(_as_bytes(text.vocabulary[number]) for number in numbers).decode("utf-8", "replace")


def _as_bytes(string: str) -> bytes:
    byte = _BYTE.fullmatch(string)
    return bytes.fromhex(byte[1]) if byte else string.encode("utf-8", "replace")


def _as_documents(documents: Any) -> tuple[np.ndarray | None, list[Any]]:
    """Ids of the clients, if the documents have some, and the documents."""
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        kind = type(documents).__name__
        raise ConfigError(f"data.documents is of type {kind}, but must be a list, or a mapping from client to document")
    listed = list(documents.values() if isinstance(documents, Mapping) else documents)
    if not listed:
        raise ConfigError("data.documents is empty, but must hold at least one document")
    if not isinstance(documents, Mapping):
        return None, listed
    kinds = {str if isinstance(client, str) else int if _is_integer(client) else object for client in documents}
    if kinds not in ({str}, {int}):
        shown = ", ".join(sorted({type(client).__name__ for client in documents}))
        raise ConfigError(
            f"data.documents has client ids of type {shown}, but must have strings alone or integers alone"
        )
    clients = np.array(list(documents))
    if clients.dtype.kind not in "iuU":
        raise ConfigError("data.documents has client ids beyond 64 bits, but must have integers below 2**63")
    return clients, listed


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _places(clients: np.ndarray | None, documents: Sequence[Any]) -> Iterable[str]:
    """What error messages call the documents."""
    keys = range(len(documents)) if clients is None else clients.tolist()
    return (f"data.documents[{key!r}]" for key in keys)


def _as_tokens(tokens: Any, size: int, field: str) -> np.ndarray:
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


def _check_window(window: int) -> None:
    if not _is_integer(window) or window < 1:
        raise ConfigError.of("data.window", window, "an integer of at least 1")


def _text(
    clients: np.ndarray | None,
    documents: Sequence[np.ndarray],
    vocabulary: tuple[str, ...],
    window: int,
    test_share: float,
    name: str,
) -> Text:
    _check_window(window)
    if not isinstance(test_share, int | float) or not 0 < test_share < 1:
        raise ConfigError.of("data.test_share", test_share, "a number above 0 and below 1")
    sizes = np.array([len(document) for document in documents])
    if sizes.sum() >= 2**31:
        raise ConfigError(f"data.documents holds {sizes.sum()} tokens, but must hold fewer than 2**31")
    held = np.rint(test_share * sizes).astype(int)
    train_starts, owners = _windows(sizes - held, window)
    test_starts, _ = _windows(held, window)
    if len(train_starts) == 0:
        longest = max(sizes - held)
        allowed = f"below the length of the longest document's training part, {longest} tokens"
        raise ConfigError.of("data.window", window, allowed)
    if len(test_starts) == 0:
        allowed = f"so large that some document's end holds more than data.window, {window} tokens (the longest: "
        raise ConfigError.of("data.test_share", test_share, f"{allowed}{max(held)} tokens)")
    kind = np.uint8 if len(vocabulary) <= 2**8 else np.uint16 if len(vocabulary) <= 2**16 else np.int32
    parts = [np.split(document, [size]) for document, size in zip(documents, sizes - held, strict=True)]
    train, test = (np.concatenate(split, dtype=kind, casting="unsafe") for split in zip(*parts, strict=True))
    return Text(
        train_tokens=train,
        test_tokens=test,
        train_starts=train_starts,
        test_starts=test_starts,
        window=int(window),
        vocabulary=vocabulary,
        name=name,
        train_clients=None if clients is None else clients[owners],
    )


def _windows(sizes: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the windows start in documents of these sizes, laid end to end, and which document each is of."""
    counts = np.maximum(sizes - 1, 0) // window
    owners = np.repeat(np.arange(len(sizes)), counts)
    begins, before = np.cumsum(sizes) - sizes, np.cumsum(counts) - counts
    starts = begins[owners] + window * (np.arange(len(owners)) - before[owners])
    return starts.astype(np.int32), owners
