"""Text as windows of one long row of tokens."""

from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.data.text.vocabulary import TokenUnit, as_tokens, unit_of
from fedhm_jax.errors import ConfigError


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
        >>> from fedhm_jax.data import text_from_strings
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

    @property
    def unit(self) -> TokenUnit:
        """What a token is."""
        return unit_of(self.vocabulary)

    @property
    def train_size(self) -> int:
        """Number of training windows."""
        return len(self.train_starts)

    @property
    def test_size(self) -> int:
        """Number of test windows."""
        return len(self.test_starts)

    def with_train(self, rows: np.ndarray) -> "Text":
        """The text with these training windows only."""
        clients = None if self.train_clients is None else self.train_clients[rows]
        return self._replace(train_starts=self.train_starts[rows], train_clients=clients)

    def with_test(self, rows: np.ndarray) -> "Text":
        """The text with these test windows only."""
        return self._replace(test_starts=self.test_starts[rows])

    def tested_on_train(self, rows: np.ndarray) -> "Text":
        """The text with these training windows in place of the test windows."""
        return self._replace(test_tokens=self.train_tokens, test_starts=self.train_starts[rows])


def check_text(text: Text) -> None:
    """Checks a text that was put together by hand.

    Args:
        text: the text.

    Raises:
        ConfigError: naming the first field that is unusable, as in "data.train_starts".

    Example:
        >>> from fedhm_jax.data import text_from_strings
        >>> text = text_from_strings(["abcabcabcab"], window=2, test_share=0.3)
        >>> check_text(text)
        >>> check_text(text._replace(window=4))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: data.train_starts holds the start 4, but must hold starts from 0 to 3, as \
data.train_tokens has 8 tokens and data.window is 4
    """
    check_window(text.window)
    for split, tokens, starts in (
        ("train", text.train_tokens, text.train_starts),
        ("test", text.test_tokens, text.test_starts),
    ):
        as_tokens(tokens, len(text.vocabulary), f"data.{split}_tokens")
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


def check_window(window: Any) -> None:
    """Refuses a window that is no number of tokens.

    Args:
        window: tokens that a sample predicts.

    Raises:
        ConfigError: it is no integer of at least 1.
    """
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1:
        raise ConfigError.of("data.window", window, "an integer of at least 1")
