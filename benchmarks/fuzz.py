"""Does any config end in anything but a run or one sentence that names a field?

``python -m benchmarks.fuzz --cases 2000 --processes 2`` draws configs with Hypothesis and gives each to ``simulate``
with sixty tiny images. A case fails if it raises anything but `ConfigError` and its like, if it warns, if its process
dies or takes too long. Failing configs are brought back to as few unusual fields as fail in the same way.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.fuzz_cases import Case, Outcome, cases
from benchmarks.fuzz_configs import FIELDS
from benchmarks.report import RESULTS, Report, ResultTable, show, write

# Compiling takes most of a case; the variable is read when JAX starts, here and in the processes started from here.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

CASE_SECONDS = 300.0
"""A case that takes longer has failed."""


@dataclass(frozen=True)
class Options:
    """Draws configs and runs them."""

    cases: int = 2000
    """Number of configs."""
    seed: int = 0
    """Of the draw; with another number of processes other configs are drawn."""
    processes: int = 1
    """That share the work."""
    quick: bool = False
    """Forty cases, and no results are written."""


def main() -> None:
    """Runs the benchmark with the options of the command line; its exit code is 1 if a case failed."""
    options = tyro.cli(Options, prog="python -m benchmarks.fuzz")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}".strip()
    count = 40 if options.quick else options.cases
    command = f"python -m benchmarks.fuzz --cases {count} --seed {options.seed} --processes {options.processes}"
    report = build_report(_all_cases(count, options.seed, options.processes), command)
    show(report)
    if not options.quick:
        print(f"\nwritten to {write(report, RESULTS)}")
    sys.exit(any(row["outcome"] == "failed" for row in report.measurements))


# --- many cases ------------------------------------------------------------------------------------------------------


def _work(count: int, seed: int, home: Path, channel: Connection) -> None:
    """What a process does: its share of the cases, and a message about each."""
    jax.config.update("jax_compilation_cache_dir", str(home / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    cases(count, seed, home / f"{seed}" / "scratch", lambda *message: channel.send(message))
    channel.close()


class _Worker:
    """A process with its channel, and what it is at."""

    def __init__(self, count: int, seed: int, home: Path) -> None:
        context = get_context("spawn")
        self.channel, other = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(count, seed, home, other))
        self.process.start()
        other.close()
        self.left, self.number, self.changes, self.since = count, 0, "", time.monotonic()

    def hear(self) -> Case | None:
        """The next message: a finished case, or none if one was started. Raises EOFError after the last."""
        message, changes = self.channel.recv()
        self.since = time.monotonic()
        if isinstance(message, Case):
            self.left -= 1
            return message
        self.number, self.changes = message, changes
        return None

    def lost(self, reason: str) -> Case:
        """The case at hand, which took the process with it."""
        self.process.kill()
        self.process.join()
        self.left -= 1
        return Case(
            self.number, Outcome("failed", "process", f"{reason}, exit code {self.process.exitcode}"), self.changes
        )


def _all_cases(count: int, seed: int, processes: int) -> list[Case]:
    """Runs all cases, in as many processes; one that is lost is replaced."""
    done: list[Case] = []
    with tempfile.TemporaryDirectory() as place, _progress() as progress:
        task = progress.add_task("configs", total=count)
        shares = [count // processes + (index < count % processes) for index in range(processes)]
        workers = [_Worker(share, 1000 * seed + index, Path(place)) for index, share in enumerate(shares) if share]
        started = processes
        while workers:
            wait([worker.channel for worker in workers], timeout=5)
            for worker in list(workers):
                found, ended = _messages(worker)
                done += found
                _print_news(progress, done, found)
                progress.update(task, advance=len(found), description=_so_far(done))
                if ended:
                    workers.remove(worker)
                    worker.process.join()
                if ended and worker.left > 0:
                    workers.append(_Worker(worker.left, 1000 * seed + started, Path(place)))
                    started += 1
    return done


def _print_news(progress: Progress, done: Sequence[Case], found: Sequence[Case]) -> None:
    """Failures as they come, and now and then the counts where no bar is shown."""
    for case in found:
        if case.outcome.kind == "failed":
            progress.console.print(f"{_failure(case)}: {case.changes}", markup=False)
    if not progress.console.is_terminal and len(done) // 20 > (len(done) - len(found)) // 20:
        progress.console.print(f"{len(done)} configs: {_so_far(done)}")


def _messages(worker: _Worker) -> tuple[list[Case], bool]:
    """What a worker has to say, and whether it is at its end."""
    found: list[Case] = []
    try:
        while worker.channel.poll():
            case = worker.hear()
            found += [case] if case is not None else []
    except EOFError:
        return found + ([worker.lost("died")] if worker.left > 0 else []), True
    if time.monotonic() - worker.since > CASE_SECONDS:
        return [*found, worker.lost(f"took longer than {CASE_SECONDS:g} s")], True
    return found, False


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns)


def _so_far(done: Sequence[Case]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(case.outcome.kind for case in done).items())


# --- report ----------------------------------------------------------------------------------------------------------


def build_report(done: Sequence[Case], command: str) -> Report:
    """Tables of outcomes, of refusals by field, and of every failing config.

    Args:
        done: all cases.
        command: the command line.

    Returns:
        The report.
    """
    kinds = Counter(case.outcome.kind for case in done)
    refused = Counter(case.outcome.field for case in done if case.outcome.kind == "refused")
    failed = [case for case in done if case.outcome.kind == "failed"]
    tables = [
        ResultTable("Outcomes", ("outcome", "configs", "share"), list(_shares(kinds, len(done)))),
        ResultTable(
            "Refused, by the field that is named", ("field", "configs", "share"), list(_shares(refused, len(done)))
        ),
    ]
    if failed:
        tables.append(ResultTable("Failed", ("failure", "config", "simplest that fails alike"), _failures(failed)))
    notes = [
        f"{len(FIELDS)} fields. Seven in ten keep their value in a config that runs, the others are drawn; three "
        "configs in five get one or two nonsensical values on top.",
        "A config fails if it ends in anything but a run or the one sentence about a field, if it warns, or if it "
        f"takes longer than {CASE_SECONDS:g} s. Diverged and out of memory are answers of their own.",
    ]
    answers: dict[tuple[str, str], list[Case]] = {}
    for case in done:
        answers.setdefault((case.outcome.kind, case.outcome.field), []).append(case)
    rows = [
        {
            "outcome": kind,
            "field": field,
            "configs": len(alike),
            "example": alike[0].outcome.sentence[:100].replace("\0", "\\0"),
        }
        for (kind, field), alike in sorted(answers.items())
    ]
    return Report("fuzz", command, tables, notes, rows)


def _shares(counts: Counter[Any], total: int) -> Iterator[tuple[str, ...]]:
    for name, count in counts.most_common():
        yield name, str(count), f"{100 * count / total:.1f} %"


def _failures(failed: Sequence[Case]) -> list[tuple[str, ...]]:
    return [(_failure(case), case.changes, case.simplest or "-") for case in failed]


def _failure(case: Case) -> str:
    where = f" ({case.outcome.where})" if case.outcome.where else ""
    return f"{case.outcome.field}: {case.outcome.sentence}{where}"


if __name__ == "__main__":
    main()
