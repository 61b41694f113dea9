"""Pieces of Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers.

    Args:
        heading: one cell a column.
        rows: the others.

    Returns:
        The Markdown.

    Example:
        >>> print(table(["a", "b"], [["x", "1"]]))
        | a | b |
        | --- | ---: |
        | x | 1 |
    """
    alignment = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, alignment, *rows))


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plain(text: str) -> str:
    """Text of the user's as one paragraph of text: no markup of it is read as Markdown.

    Example:
        >>> print(plain("2 * 3"))
        2 \\* 3
    """
    return re.sub(r"([\\`*_\[\]<>#|&~])", r"\\\1", " ".join(text.split()))
