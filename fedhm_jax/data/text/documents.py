"""A text from documents the user already has."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedhm_jax.data.text.text import Text, check_window
from fedhm_jax.data.text.tokens import fits_utf8, tokenize
from fedhm_jax.data.text.vocabulary import as_tokens
from fedhm_jax.errors import ConfigError


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
    tokens = [as_tokens(document, len(strings), place) for place, document in zip(places, listed, strict=True)]
    return _text(clients, tokens, strings, window, test_share, name)


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


def _text(
    clients: np.ndarray | None,
    documents: Sequence[np.ndarray],
    vocabulary: tuple[str, ...],
    window: int,
    test_share: float,
    name: str,
) -> Text:
    check_window(window)
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
