"""How long until the first round is done?

``python -m benchmarks.start_up``. The same run with 1, 2, 4 and 8 tiers, each in a process of its own: first with an
empty compilation cache, then again with what the first left there.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write

Model = Literal["mlp", "cnn", "resnet8", "resnet18"]
FACTORS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
TIERS = (1, 2, 4, 8)


class StartUp(NamedTuple):
    """One process.

    Attributes:
        model: architecture.
        tiers: how many.
        cache: ``empty`` or ``filled``.
        prepare: seconds of checks, data and the first state.
        round: seconds of the first round, compilation and evaluation included.
        second: seconds of the second round.
    """

    model: str
    tiers: int
    cache: str
    prepare: float
    round: float
    second: float


def run(model: str, tiers: int) -> tuple[float, float, float]:
    """Runs two rounds in this process.

    Args:
        model: architecture.
        tiers: how many.

    Returns:
        Seconds of preparation, of the first round and of the second.
    """
    # Imported here: a parent process that only starts others needs no simulator.
    from fedhm_jax import (
        ModelConfig,
        PartitionConfig,
        ServerConfig,
        SimulationConfig,
        StrategyConfig,
        TiersConfig,
        simulate,
    )

    config = SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        model=ModelConfig(name=model),  # type: ignore[arg-type]
        partition=PartitionConfig(clients=2 * tiers),
        tiers=TiersConfig(rank_factors=FACTORS[:tiers]),
        server=ServerConfig(rounds=2),
    )
    marks: list[float] = [time.perf_counter()]

    def mark(_: Any) -> None:
        marks.append(time.perf_counter())

    simulate(config, on_start=[mark], on_round=[mark])
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


def measure(model: str, tiers: int) -> tuple[StartUp, StartUp]:
    """Runs a process with an empty cache and one after it.

    Args:
        model: architecture.
        tiers: how many.

    Returns:
        The two.

    Raises:
        RuntimeError: a process failed; the message is the end of what it wrote.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "filled"):
            command = [sys.executable, "-m", "benchmarks.start_up", "--run", model, str(tiers)]
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if finished.returncode != 0:
                raise RuntimeError(f"{model} with {tiers} tiers failed:\n{finished.stderr[-2000:]}")
            found.append(StartUp(model, tiers, cache, *json.loads(finished.stdout.splitlines()[-1])))
    return found[0], found[1]


def build_report(rows: Sequence[tuple[StartUp, StartUp]], command: str) -> Report:
    """Table, notes and CSV rows.

    Args:
        rows: pairs from `measure`.
        command: the command line.

    Returns:
        The report.
    """
    table = ResultTable(
        "Seconds until a run is under way",
        ("model", "tiers", "prepare", "first round", "with a filled cache", "second round"),
        [
            (
                *(empty.model, str(empty.tiers), f"{empty.prepare:.2f}", f"{empty.round:.2f}"),
                *(f"{filled.round:.2f}", f"{empty.second:.3f}"),
            )
            for empty, filled in rows
        ],
    )
    notes = (
        "prepare: checks, data, first server state. first round: tracing, compilation, one round and one evaluation. "
        "With a filled cache, tracing is left and compiled programs are read from disk. One process each.",
    )
    measurements = [one._asdict() for pair in rows for one in pair]
    return Report("start_up", command, (table,), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Times the way to the first round."""

    models: tuple[Model, ...] = ("cnn", "resnet8")
    """Models to start."""
    tiers: tuple[int, ...] = TIERS
    """Numbers of tiers, at most 8."""
    quick: bool = False
    """One small case, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""
    run: tuple[str, int] | None = None
    """Run one case, model and tiers, in this process, and print its seconds."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.start_up")
    if options.run is not None:
        print(json.dumps(run(*options.run)))
        return
    cases = [("mlp", 2)] if options.quick else [(model, tiers) for model in options.models for tiers in options.tiers]
    rows = [measure(*case) for case in track(cases, "Starting runs")]
    report = build_report(rows, " ".join(("python -m benchmarks.start_up", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
