"""Fair timing: everything in one process and in turn, compilation and warm-up apart, spread beside the median."""

import math
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Repeated measurements of one thing.

    Attributes:
        values: one a repetition; seconds, or a ratio of two timings.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    def scaled(self, factor: float) -> "Timing":
        """Every value times a factor, such as 1 / steps for the time of one step."""
        return Timing(tuple(value * factor for value in self.values))

    def over(self, other: "Timing") -> "Timing":
        """Ratios of this timing to another, repetition by repetition, so that slow minutes of the machine cancel.

        Example:
            >>> Timing((2.0, 6.0)).over(Timing((1.0, 2.0))).values
            (2.0, 3.0)
        """
        return Timing(tuple(one / two for one, two in zip(self.values, other.values, strict=True)))

    def text(self, factor: float = 1.0) -> str:
        """``median (least..most)`` with three digits.

        Args:
            factor: of the unit, 1000 for milliseconds.

        Example:
            >>> Timing((0.012, 0.010, 0.0156)).text(1000)
            '12.0 (10.0..15.6)'
        """
        least, most = min(self.values), max(self.values)
        return f"{_digits(self.median * factor)} ({_digits(least * factor)}..{_digits(most * factor)})"


class Compiled(NamedTuple):
    """A compiled function.

    Attributes:
        call: takes arguments of the shapes it was compiled for.
        seconds: tracing and compilation.
    """

    call: Callable[..., Any]
    seconds: float


def compile_timed(function: Callable[..., Any], *args: Any) -> Compiled:
    """Compiles a function for the shapes of its arguments.

    Args:
        function: any traceable function.
        *args: its arguments.

    Returns:
        The compiled function and the time that compilation took.

    Example:
        >>> double = compile_timed(lambda x: 2 * x, jax.numpy.ones(3))
        >>> double.call(jax.numpy.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    started = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    return Compiled(compiled, time.perf_counter() - started)


def time_in_turn(calls: Mapping[str, Callable[[], Any]], repetitions: int, at_least: float = 0.05) -> dict[str, Timing]:
    """Times several calls one after another, again and again (A, B, A, B, ...), so that each meets the same machine.

    Args:
        calls: functions without arguments that return arrays; compiled already.
        repetitions: values per call.
        at_least: seconds; a shorter call is repeated within one value, and the value is its mean.

    Returns:
        Seconds of one call, by name.

    Example:
        >>> timings = time_in_turn({"zeros": lambda: jax.numpy.zeros(3)}, repetitions=2, at_least=0.0)
        >>> len(timings["zeros"].values)
        2
    """
    # The first pass warms up; the second tells how often a short call must run.
    for call in calls.values():
        _seconds(call, 1)
    inner = {name: math.ceil(at_least / max(_seconds(call, 1), 1e-6)) for name, call in calls.items()}
    passes = [{name: _seconds(call, max(inner[name], 1)) for name, call in calls.items()} for _ in range(repetitions)]
    return {name: Timing(tuple(values[name] for values in passes)) for name in calls}


def _seconds(call: Callable[[], Any], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(call())
    return (time.perf_counter() - started) / times


def _digits(number: float) -> str:
    decimals = 2 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{number:,.{max(decimals, 0)}f}"
