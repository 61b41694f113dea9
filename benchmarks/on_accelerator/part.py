"""A part of the benchmark: its cases, its table, and the default that it may contradict."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.on_accelerator.measurement import Case, Measurement, timings_of, ways_of
from benchmarks.report import ResultTable
from benchmarks.timing import Timing

Cells = tuple[str, ...]


class Choice(NamedTuple):
    """A default that the ways of a part are alternatives to.

    Attributes:
        name: of the default, and where it stands; begins a sentence.
        is_allowed: whether a way could be the default.
    """

    name: str
    is_allowed: Callable[[str], bool] = lambda way: True


class Part(NamedTuple):
    """What is measured in a process of its own.

    Attributes:
        name: on the command line and in the CSV file.
        weight: share of the time, as a ratio to the other parts' weights.
        cases: ``cases(tiny)``; listing them touches no device.
        table: of all measurements, of this part and of the others.
        notes: a paragraph under the tables.
        choice: the default that may be contradicted.
    """

    name: str
    weight: float
    cases: Callable[[bool], Sequence[Case]]
    table: Callable[[Sequence[Measurement]], ResultTable]
    notes: str
    choice: Choice | None = None


def table_of_ways(
    part: str, title: str, measurements: Sequence[Measurement], factor: float = 1000.0, heading: str = "case"
) -> ResultTable:
    """Cases down, ways across.

    Args:
        part: whose table.
        title: of the table.
        measurements: of all parts.
        factor: of the seconds; milliseconds by default.
        heading: of the first column.

    Returns:
        The table. An asterisk marks the package's own way; a way or a case that failed says so in its cell.
    """
    own = [one for one in measurements if one.part == part]
    ways, defaults = ways_of(own), {(one.case, one.way) for one in own if one.default}
    cells = cells_of(own, part, lambda timing: timing.text(factor))
    rows = []
    for case in dict.fromkeys(one.case for one in own):
        texts = [
            cells.get((case, way), "-") + (" *" if (case, way) in defaults and (case, way) in cells else "")
            for way in ways
        ]
        # A case that failed as a whole has no way.
        rows.append((case, *with_failure(cells.get((case, "")), texts)))
    return ResultTable(title, (heading, *ways), rows) if ways else failures_alone(title, heading, own)


def cells_of(
    measurements: Sequence[Measurement], part: str, text: Callable[[Timing], str], quantity: str = "seconds"
) -> dict[tuple[str, str], str]:
    """A text for every case and way: its timing, or why there is none."""
    cells = {
        (case, way): text(timing)
        for case, ways in timings_of(measurements, part, quantity).items()
        for way, timing in ways.items()
    }
    failed = {(one.case, one.way): one.failure for one in measurements if one.part == part and one.failure}
    return {**cells, **{key: in_a_cell(failure) for key, failure in failed.items() if key not in cells}}


def with_failure(failure: str | None, texts: Sequence[str]) -> list[str]:
    """A case's cells, with the failure of the whole case in the first that is empty."""
    if failure is None or "-" not in texts:
        return list(texts)
    place = list(texts).index("-")
    return [failure if index == place else text for index, text in enumerate(texts)]


def failures_alone(title: str, heading: str, own: Sequence[Measurement]) -> ResultTable:
    """The table of a part in which nothing was measured."""
    rows = [(one.case, in_a_cell(one.failure)) for one in own if one.failure]
    return ResultTable(title, (heading, "result"), rows)


def in_a_cell(text: str) -> str:
    """A failure's words, without what would end a cell of a Markdown table.

    Example:
        >>> in_a_cell("a | b")
        'a / b'
    """
    return text.replace("|", "/").replace("\n", " ")
