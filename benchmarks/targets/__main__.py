"""What would a round cost on an accelerator that is not at hand?

``python -m benchmarks.targets``. XLA compiles the whole round of every strategy and of every model for GPUs and TPUs
that need not be there, and tells memory, kernels, copies and library calls. A row that is in the table, of the same
program and the same version of JAX, is not compiled again, so the benchmark goes on where it stopped.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro

from benchmarks.report import RESULTS, device_slug, show, write
from benchmarks.targets.cases import EVERY, Case
from benchmarks.targets.chips import TARGETS, devices_of, what_is_missing
from benchmarks.targets.compilation import compile_round, lower
from benchmarks.targets.table import Row, build_report, read_rows, row_of


@dataclass(frozen=True)
class Options:
    """Compiles rounds for accelerators that are not at hand, and tabulates what the compiler says."""

    targets: tuple[str, ...] = tuple(TARGETS)
    """What to compile for."""
    strategies: tuple[str, ...] = ()
    """Which strategies; all if empty."""
    models: tuple[str, ...] = ()
    """Which models; all if empty. With strategies, every pair; without, the CNN for all and every model for FedHM."""
    side_by_side: int = 16
    """Clients that a chip trains at a time."""
    batch_size: int = 64
    """Samples per step."""
    level: Literal["default", "O0", "O1", "O2", "O3"] = "default"
    """Of optimization: a TPU's compiler takes more than an hour for a large model by default."""
    again: bool = False
    """Compile also what is in the table."""
    results: Path = RESULTS
    """Folder of the written tables, which are read first."""


def cases_of(options: Options) -> list[Case]:
    """The rounds that are asked for.

    Args:
        options: of the command line.

    Returns:
        The rounds.
    """
    if options.strategies and options.models:
        pairs = [(strategy, model) for strategy in options.strategies for model in options.models]
    else:
        pairs = [
            (case.strategy, case.model)
            for case in EVERY
            if case.strategy in (options.strategies or [case.strategy])
            and case.model in (options.models or [case.model])
        ]
    return [Case(*pair, options.side_by_side, options.batch_size) for pair in pairs]


def rows_of(
    target: str, cases: Sequence[Case], known: Sequence[Row], again: bool, level: str = "default"
) -> Iterator[Row]:
    """Compiles rounds for one target.

    Args:
        target: a name in `TARGETS`.
        cases: the rounds.
        known: rows of earlier runs.
        again: compile also what is among these.
        level: of optimization.

    Yields:
        A row a round, the earlier one where the program is the same.
    """
    earlier, devices = {row.key: row for row in known}, devices_of(TARGETS[target])
    for case in cases:
        lowered = lower(case, TARGETS[target], devices)
        what = {"target": target, **case._asdict(), "commit": commit(), "jax": jax.__version__, "level": level}
        row = Row(**what, digest=lowered.digest)
        if not again and row.key in earlier and earlier[row.key].is_current == row.is_current:
            yield earlier[row.key]
            continue
        try:
            yield row_of({**what, "digest": lowered.digest}, compile_round(lowered), lowered.flops)
        except jax.errors.JaxRuntimeError as error:
            yield row._replace(failure=" ".join(str(error).split())[:300])


def commit() -> str:
    """The repository's commit, with a plus where files differ from it."""

    def git(*words: str) -> str:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
        return answer.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no", "--", "../../fedhm_jax") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.targets")
    if unknown := set(options.targets) - set(TARGETS):
        sys.exit(f"targets is {sorted(unknown)}, but must be among {', '.join(TARGETS)}")
    # Nothing runs, and a plugin that finds no device would complain.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    if options.level != "default":
        jax.config.update("jax_optimization_level", options.level)
    table = options.results / f"targets-{device_slug()}.csv"
    command = " ".join(("python -m benchmarks.targets", *sys.argv[1:]))
    skipped = []
    for name in options.targets:
        if missing := what_is_missing(TARGETS[name]):
            skipped.append(f"{name}: {missing}")
            print(f"skipped {skipped[-1]}")
            continue
        for row in rows_of(name, cases_of(options), list(read_rows(table).values()), options.again, options.level):
            print(
                f"{row.target}, {row.strategy}, {row.model}: {row.failure or f'{row.kernels} kernels a step'}",
                flush=True,
            )
            rows = {**read_rows(table), row.key: row}
            write(build_report(in_order(rows.values()), [], command), options.results)
    if known := in_order(read_rows(table).values()):
        report = build_report(known, skipped, command)
        show(report)
        print(f"Written to {write(report, options.results)}")


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by target, and then as the cases stand.

    Args:
        rows: of any order.

    Returns:
        The rows.
    """
    places = {(case.strategy, case.model): place for place, case in enumerate(EVERY)}
    targets = list(TARGETS)
    return sorted(
        rows, key=lambda row: (targets.index(row.target), places.get((row.strategy, row.model), len(places)), row.key)
    )


if __name__ == "__main__":
    main()
