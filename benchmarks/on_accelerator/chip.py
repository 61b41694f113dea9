"""What the chip itself does: large products, memory, and what a kernel and a dispatch cost at the least."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.on_accelerator.measurement import (
    Case,
    Emit,
    Measurement,
    compare,
    compiled,
    repetitions_of,
    timings_of,
)
from benchmarks.on_accelerator.part import Part, cells_of
from benchmarks.report import ResultTable

NAME = "chip"
PRODUCTS, COPY, KERNEL, DISPATCH = "product of two matrices", "copy", "kernel in a loop", "dispatch"
_STEPS = 1000
"""Of the loop of kernels."""


def cases(tiny: bool) -> Sequence[Case]:
    """The chip's limits.

    Args:
        tiny: sizes that a test can afford.

    Returns:
        The cases.
    """
    side, size, repetitions = (32, 64, 1) if tiny else (8192, 2**28, repetitions_of(tiny))
    return (
        Case(PRODUCTS, partial(_products, side, repetitions)),
        Case(COPY, partial(_copy, size, repetitions)),
        Case(KERNEL, partial(_kernels, repetitions)),
        Case(DISPATCH, partial(_dispatch, repetitions)),
    )


def _products(side: int, repetitions: int, emit: Emit) -> None:
    def product(dtype: str, precision: str | None) -> Any:
        matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype))
        return compiled(partial(jnp.dot, precision=precision), matrix, matrix)

    ways: dict[str, tuple[str, str | None]] = {
        "float32": ("float32", None),
        "float32, highest precision": ("float32", "highest"),
        "bfloat16": ("bfloat16", None),
    }
    builders = {way: partial(product, *arguments) for way, arguments in ways.items()}
    compare(NAME, PRODUCTS, builders, emit, repetitions)
    for way in ways:
        emit(Measurement(NAME, PRODUCTS, way, "flops", 0, 2.0 * side**3))


def _copy(size: int, repetitions: int, emit: Emit) -> None:
    compare(NAME, COPY, {"": lambda: compiled(lambda x: x + 1, jnp.zeros(size, jnp.float32))}, emit, repetitions)
    # Each of four bytes is read and written.
    emit(Measurement(NAME, COPY, "", "bytes", 0, 8.0 * size))


def _kernels(repetitions: int, emit: Emit) -> None:
    def loop(x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, _STEPS, lambda _, x: jnp.sin(x), x)

    compare(NAME, KERNEL, {"": lambda: compiled(loop, jnp.ones(8))}, emit, repetitions, scale=1 / _STEPS)


def _dispatch(repetitions: int, emit: Emit) -> None:
    compare(NAME, DISPATCH, {"": lambda: compiled(lambda x: x + 1, jnp.ones(8))}, emit, repetitions)


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Times, and the rates that follow from them.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    work = {
        (case, way): (timing.median, unit, scale)
        for quantity, unit, scale in (("flops", "TFLOP/s", 1e12), ("bytes", "GB/s", 1e9))
        for case, ways in timings_of(measurements, NAME, quantity).items()
        for way, timing in ways.items()
    }
    seconds, rows = timings_of(measurements, NAME), []
    for (case, way), text in cells_of(measurements, NAME, lambda timing: timing.text(1000)).items():
        rate = "-"
        if (case, way) in work and way in seconds.get(case, {}):
            amount, unit, scale = work[case, way]
            rate = f"{amount / seconds[case][way].median / scale:.4g} {unit}"
        rows.append((f"{case}, {way}" if way else case, text, rate))
    return ResultTable("The chip", ("what", "ms", "rate"), rows)


PART = Part(
    NAME,
    35,
    cases,
    table,
    f"Chip: products of 8192 x 8192 matrices; a copy of 1 GiB; a step of a loop of {_STEPS:,} steps of eight sines; a "
    "program of eight sums, from Python and back.",
)
