"""The rows of the targets' table: kept in a CSV file, estimated from, and shown."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import Report, ResultTable
from benchmarks.targets.cases import STEPS
from benchmarks.targets.chips import CHIPS, TARGETS
from benchmarks.targets.compilation import Compiled

MIB = 2**20


class Row(NamedTuple):
    """One round on one target, in numbers that a CSV file can hold; lists are joined by spaces.

    Attributes:
        target, strategy, model, side_by_side, batch_size: what was compiled.
        commit, jax, digest: of the repository, of JAX's version, of the program before it was compiled.
        level: of optimization, such as ``O1``.
        failure: what the compiler said instead; the numbers are then zero.
        seconds: that compiling took.
        memory: bytes that one chip holds.
        kernels: of a local step, one number a tier, in the order of the program.
        library_calls, copies, grouped, bytes: likewise.
        flops: of a local step, all tiers.
        rest_kernels, rest_bytes: of everything else, loops of unknown length counted once.
        reduced: bytes of the all-reduces of a round.
    """

    target: str
    strategy: str
    model: str
    side_by_side: int
    batch_size: int
    commit: str
    jax: str
    digest: str
    level: str = "default"
    failure: str = ""
    seconds: float = 0.0
    memory: int = 0
    kernels: str = ""
    library_calls: str = ""
    copies: str = ""
    grouped: str = ""
    bytes: str = ""
    flops: float = 0.0
    rest_kernels: int = 0
    rest_bytes: int = 0
    reduced: int = 0

    @property
    def key(self) -> tuple[str, str, str, int, int, str]:
        """What was compiled for what; a later row of the same key replaces an earlier one."""
        return self.target, self.strategy, self.model, self.side_by_side, self.batch_size, self.level

    @property
    def is_current(self) -> tuple[str, str]:
        """Two rows in which this is equal are of the same program, compiled by the same version."""
        return self.jax, self.digest


def read_rows(path: Path) -> dict[tuple[str, str, str, int, int, str], Row]:
    """The rows of an earlier run.

    Args:
        path: a CSV file, which need not be there.

    Returns:
        The rows by key; none where the file has other columns.
    """
    if not path.exists():
        return {}
    kinds = Row.__annotations__
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    if not found or tuple(found[0]) != Row._fields:
        return {}
    rows = [Row(**{name: kinds[name](value) for name, value in row.items()}) for row in found]
    return {row.key: row for row in rows}


def numbers(joined: str) -> list[int]:
    """The numbers of a list in a row.

    Example:
        >>> numbers("43 64")
        [43, 64]
    """
    return [int(number) for number in joined.split()]


def estimated_seconds(row: Row) -> float:
    """A round's time by the roofline of the chip: arithmetic or memory, whichever takes longer, and launches.

    ``steps * (max(flops / rate, bytes / bandwidth) + kernels * launch) + rest + 2 (D - 1) / D * reduced /
    interconnect``, with a step of every tier one after another, and the rest of the round by its bytes and kernels.

    Args:
        row: a round that was compiled.

    Returns:
        Seconds. An estimate from data sheets, not a measurement: no kernel reaches its roof, decompositions in library
        calls count as one kernel, and loops of unknown length outside of the steps count once.
    """
    target = TARGETS[row.target]
    chip = CHIPS[target.chip]
    step = max(row.flops / chip.flops, sum(numbers(row.bytes)) / chip.bandwidth)
    step += sum(numbers(row.kernels)) * chip.launch
    rest = row.rest_bytes / chip.bandwidth + row.rest_kernels * chip.launch
    all_reduce = 2 * (target.devices - 1) / target.devices * row.reduced / chip.interconnect
    return STEPS * step + rest + all_reduce


def build_report(rows: Sequence[Row], skipped: Sequence[str], command: str) -> Report:
    """A table a target, notes and CSV rows.

    Args:
        rows: all that are known.
        skipped: a line for each target that was not compiled for.
        command: the command line.

    Returns:
        The report.
    """
    tables = [
        _table(name, [row for row in rows if row.target == name])
        for name in TARGETS
        if any(row.target == name for row in rows)
    ]
    notes = (
        "Nothing here was run: XLA compiled the rounds for chips that were not there. Memory is what the compiler "
        "allots on one chip, arguments included. Kernels, library calls (cuBLAS, cuDNN), copies and convolutions of "
        "several groups are those of one local step, a number a tier in the order of the program; on a TPU transfers "
        "between its memories are not counted. The rest is everything outside of the local steps, loops of unknown "
        "length counted once.",
        f"The estimate of a round of {STEPS} local steps a client is a roofline and not a measurement: steps * "
        "(max(flops / rate, bytes / bandwidth) + kernels * launch) + rest + all-reduce. Rates are those of float32 "
        "products as XLA computes them by default (TF32 on a GPU, bfloat16 on a TPU), by the makers' data sheets; the "
        "time from kernel to kernel is assumed: "
        + ", ".join(f"{name} {chip.launch * 1e6:g} µs" for name, chip in CHIPS.items())
        + ".",
        *(f"Skipped: {line}." for line in skipped),
        *(f"{row.target}, {row.strategy}, {row.model}: {row.failure}." for row in rows if row.failure),
    )
    return Report("targets", command, tables, notes, [row._asdict() for row in rows])


def _table(name: str, rows: Sequence[Row]) -> ResultTable:
    target = TARGETS[name]
    chips = f"{target.devices} chips {target.slice}" if target.slice else "one chip"
    memory = CHIPS[target.chip].memory
    columns = (
        *("round", "clients x batch", "commit, jax", "compiled in s", f"MiB of {memory / MIB:,.0f}", "kernels a step"),
        *("library calls", "copies", "grouped", "rest", "all-reduce MiB", "estimate ms"),
    )
    return ResultTable(f"{target.chip}, {chips}", columns, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    what = (f"{row.strategy}, {row.model}", f"{row.side_by_side} x {row.batch_size}", f"{row.commit}, {row.jax}")
    if row.failure:
        return (*what, "does not compile", *("-",) * 8)
    return (
        *what,
        f"{row.seconds:.0f}" + (f" ({row.level})" if row.level != "default" else ""),
        f"{row.memory / MIB:,.0f}",
        *(joined.replace(" ", " / ") for joined in (row.kernels, row.library_calls, row.copies, row.grouped)),
        f"{row.rest_kernels}",
        f"{row.reduced / MIB:.3g}",
        f"{estimated_seconds(row) * 1e3:.3g}",
    )


def row_of(what: Mapping[str, Any], compiled: Compiled, flops: Sequence[float]) -> Row:
    """A row of what was compiled.

    Args:
        what: its first fields.
        compiled: from `benchmarks.targets.compilation.compile_round`.
        flops: of a local step, one number a tier.

    Returns:
        The row.
    """
    steps, rest = compiled.work.steps, compiled.work.rest

    def joined(field: str) -> str:
        return " ".join(str(getattr(step, field)) for step in steps)

    return Row(
        **what,
        kernels=joined("kernels"),
        library_calls=joined("library_calls"),
        copies=joined("copies"),
        grouped=joined("grouped"),
        bytes=joined("bytes"),
        seconds=round(compiled.seconds, 1),
        memory=compiled.memory,
        flops=sum(flops),
        rest_kernels=rest.kernels,
        rest_bytes=rest.bytes,
        reduced=rest.reduced + sum(step.reduced for step in steps),
    )
