"""What a part measures: one number a line, so that a process can tell it as it goes and a CSV file can keep it."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.timing import Timing, compile_timed, time_in_turn


class Measurement(NamedTuple):
    """One number, or why there is none.

    Attributes:
        part: of the benchmark.
        case: what was measured, a row of the part's table.
        way: how it was done; empty where there is only one way, or where a whole case has failed.
        quantity: ``seconds``, ``bytes``, ``flops`` and so on.
        repetition: from 0.
        value: in the unit of the quantity.
        default: whether fedhm_jax does it this way by itself on this device.
        failure: in words; the value is then 0.
    """

    part: str
    case: str
    way: str
    quantity: str
    repetition: int
    value: float
    default: bool = False
    failure: str = ""


Emit = Callable[[Measurement], None]
"""Tells a measurement as soon as it is there."""


class Case(NamedTuple):
    """What a part does at a time.

    Attributes:
        name: in the table, if it fails as a whole.
        run: ``run(emit)`` measures and tells.
    """

    name: str
    run: Callable[[Emit], None]


def to_line(measurement: Measurement) -> str:
    """A measurement as one line.

    Example:
        >>> to_line(Measurement("server", "cnn", "", "seconds", 0, 0.5))
        '["server", "cnn", "", "seconds", 0, 0.5, false, ""]'
    """
    return json.dumps(list(measurement))


def from_line(line: str) -> Measurement | None:
    """The measurement that `to_line` wrote; None for any other line, such as a library's.

    Example:
        >>> from_line("a warning") is None
        True
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    fits = isinstance(fields, list) and len(fields) == len(Measurement._fields)
    return Measurement(*fields) if fits else None


def read_measurements(path: Path) -> list[Measurement]:
    """The measurements of an earlier run.

    Args:
        path: a CSV file, which need not be there.

    Returns:
        Its rows; none where the file has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or tuple(rows[0]) != Measurement._fields:
        return []
    return [
        Measurement(
            part=row["part"],
            case=row["case"],
            way=row["way"],
            quantity=row["quantity"],
            repetition=int(row["repetition"]),
            value=float(row["value"]),
            default=row["default"] == "True",
            failure=row["failure"],
        )
        for row in rows
    ]


def sentence(error: BaseException) -> str:
    """The first line of what an exception says, short enough for a table.

    Example:
        >>> sentence(ValueError("rank is 9, but must be at most 4\\nmore"))
        'ValueError: rank is 9, but must be at most 4'
    """
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200]


def timings_of(
    measurements: Iterable[Measurement], part: str, quantity: str = "seconds"
) -> dict[str, dict[str, Timing]]:
    """The values of one quantity.

    Args:
        measurements: of any part.
        part: whose.
        quantity: which.

    Returns:
        Values in the order of their repetitions, by case and way.

    Example:
        >>> timings_of([Measurement("chip", "copy", "", "seconds", 0, 0.5)], "chip")
        {'copy': {'': Timing(values=(0.5,))}}
    """
    found: dict[str, dict[str, Timing]] = {}
    for one in measurements:
        if (one.part, one.quantity, one.failure) == (part, quantity, ""):
            ways = found.setdefault(one.case, {})
            ways[one.way] = Timing((*(ways[one.way].values if one.way in ways else ()), one.value))
    return found


def compare(
    part: str,
    case: str,
    ways: Mapping[str, Callable[[], Callable[[], Any]]],
    emit: Emit,
    repetitions: int,
    default: str | None = None,
    scale: float = 1.0,
) -> None:
    """Builds several ways to do the same, and times in turn those that work; one that fails is told and left out.

    Args:
        part: of the benchmark.
        case: what they all do.
        ways: builders of the calls, by name.
        emit: told the seconds of every repetition.
        repetitions: timings of each.
        default: the way of the package itself.
        scale: of the seconds, such as 1 / steps.
    """
    calls: dict[str, Callable[[], Any]] = {}
    for name, build in ways.items():
        try:
            call = build()
            jax.block_until_ready(call())
        except Exception as error:  # whatever a compiler or a device says
            emit(Measurement(part, case, name, "seconds", 0, 0.0, name == default, sentence(error)))
        else:
            calls[name] = call
    for name, timing in time_in_turn(calls, repetitions).items():
        emit_timing(part, case, name, timing.scaled(scale), emit, default=name == default)


def emit_timing(
    part: str, case: str, way: str, timing: Timing, emit: Emit, default: bool = False, quantity: str = "seconds"
) -> None:
    """Tells every repetition of a timing."""
    for repetition, value in enumerate(timing.values):
        emit(Measurement(part, case, way, quantity, repetition, value, default))


def compiled(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A function compiled for its arguments, as a call without any."""
    return partial(compile_timed(function, *args).call, *args)


def repetitions_of(tiny: bool) -> int:
    """Timings of each way."""
    return 1 if tiny else 5


def ways_of(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Names of the ways, in the order in which they were first told of."""
    return tuple(dict.fromkeys(one.way for one in measurements if one.way))
