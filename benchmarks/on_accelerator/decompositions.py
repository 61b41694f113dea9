"""Decompositions of matrices of 192 to 1,536 rows and of ResNet-18's kernels, in every way."""

from collections.abc import Callable, Sequence
from functools import partial

import jax

from benchmarks.decomposition import Case as Kernels
from benchmarks.decomposition import cases as builders
from benchmarks.decomposition import measure
from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, emit_timing, timings_of, ways_of
from benchmarks.on_accelerator.part import Choice, Part, cells_of, failures_alone, with_failure
from benchmarks.report import ResultTable
from fedhm_jax.lowrank.truncation import FASTEST

NAME = "decomposition"
TITLE = "Decompositions: milliseconds, and errors over the least possible"
EXACT = ("svd", "gram")
"""Ways whose error is rounding alone: `FASTEST` names one of these."""


def cases(tiny: bool) -> Sequence[Case]:
    """The matrices of `benchmarks.decomposition`, and the model.

    Args:
        tiny: small ones.

    Returns:
        The cases.
    """
    found = builders(tiny)
    return [Case(name, partial(_measure, build, 1 if tiny else 3)) for name, build in found.items()]


def _measure(build: Callable[[], Kernels], repetitions: int, emit: Emit) -> None:
    default = FASTEST.get(jax.default_backend(), "gram")
    for row in measure(build(), repetitions):
        emit_timing(NAME, row.case, row.method, row.timing, emit, default=row.method == default)
        emit(Measurement(NAME, row.case, row.method, "error", 0, max(row.errors), row.method == default))


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Milliseconds and errors by matrix and way.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    own = [one for one in measurements if one.part == NAME]
    ways, defaults = ways_of(own), {(one.case, one.way) for one in own if one.default}
    if not ways:
        return failures_alone(TITLE, "kernels", own)
    cells = cells_of(own, NAME, lambda timing: timing.text(1000))
    errors = timings_of(own, NAME, "error")
    rows = []
    for case in dict.fromkeys(one.case for one in own):
        texts = [cells.get((case, way), "-") + (" *" if (case, way) in defaults else "") for way in ways]
        worst = [f"{errors[case][way].median:.4f}" if way in errors.get(case, {}) else "-" for way in ways]
        rows.append((case, *with_failure(cells.get((case, "")), [*texts, *worst])))
    columns = ("kernels", *(f"{way}, ms" for way in ways), *(f"{way}, error" for way in ways))
    return ResultTable(TITLE, columns, rows)


PART = Part(
    NAME,
    50,
    cases,
    table,
    "Decompositions: the matrices and ranks of benchmarks/decomposition.py; errors are the largest of three tiers.",
    Choice("`FASTEST` in fedhm_jax/lowrank/truncation.py", lambda way: way in EXACT),
)
