"""Does a long run grow? ``python -m benchmarks.soak [--rounds 2000]``.

Runs the default simulation with an output folder, so that records and checkpoints are written as in a user's run, and
looks at the process after every round: memory, live arrays of JAX, open files, seconds.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.progress import Progress

from benchmarks.report import RESULTS, Report, ResultTable, device_slug, show, write
from benchmarks.scale import MIB, in_use
from fedhm_jax import OutputConfig, ServerConfig, SimulationConfig, simulate
from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure
from fedhm_jax.results import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDS_IN_TABLE = (100, 500, 1000, 1500, 2000)
WARM_UP = 200
"""Rounds before the slope: caches fill, and the allocator keeps what it once needed."""


class Sample(NamedTuple):
    """What the process held after a round.

    Attributes:
        round: its number, from 1.
        seconds: that the round took.
        memory: MiB in use, of the process (CPU) or of the accelerator.
        arrays: live arrays of JAX.
        files: open file descriptors of the process.
        records: MiB of all records so far, which the history of the result keeps.
    """

    round: int
    seconds: float
    memory: float
    arrays: int
    files: int
    records: float


def watch(config: SimulationConfig) -> list[Sample]:
    """Runs a config and looks at the process after every round.

    Args:
        config: what to run.

    Returns:
        One sample a round.
    """
    samples: list[Sample] = []
    descriptors = Path("/proc/self/fd")
    with Progress() as progress:
        task = progress.add_task("Running rounds", total=config.server.rounds)

        def look(record: Record) -> None:
            records = size_of(record) / MIB + (samples[-1].records if samples else 0.0)
            files = sum(1 for _ in descriptors.iterdir())
            held = (in_use(), len(jax.live_arrays()), files, records)
            samples.append(Sample(record["round"], record["seconds"], *held))
            progress.advance(task)

        simulate(config, on_round=[look])
    return samples


def size_of(record: Any) -> int:
    """Bytes of a record and of the dicts and numbers in it; its keys are shared by all records.

    Args:
        record: a tree of dicts.

    Returns:
        The bytes.

    Example:
        >>> size_of({"loss": {"f1": 0.5}}) == sys.getsizeof({"loss": 0}) + sys.getsizeof({"f1": 0}) + sys.getsizeof(0.5)
        True
    """
    inner = sum(map(size_of, record.values())) if isinstance(record, Mapping) else 0
    return sys.getsizeof(record) + inner


def slope(samples: Sequence[Sample], name: str) -> float:
    """Growth of a figure in 1,000 rounds, by least squares.

    Args:
        samples: of at least two rounds.
        name: of an attribute of `Sample`.

    Returns:
        In the attribute's own unit.

    Example:
        >>> grown = [Sample(number, 0.1, 300 + 0.002 * number, 40, 9, 0.0) for number in (1, 2, 3)]
        >>> round(slope(grown, "memory"), 6)
        2.0
    """
    rounds = [sample.round for sample in samples]
    return float(np.polyfit(rounds, [getattr(sample, name) for sample in samples], 1)[0]) * 1000


def build_report(samples: Sequence[Sample], command: str) -> Report:
    """Tables, notes and CSV rows of a run.

    Args:
        samples: one a round.
        command: the command line.

    Returns:
        The report.
    """
    rounds = len(samples)
    shown = sorted({*(number for number in ROUNDS_IN_TABLE if number <= rounds), rounds})
    settled = samples[min(WARM_UP, rounds // 2) :]
    held = ResultTable(
        "After a round",
        ("round", "memory MiB", "records MiB", "live arrays", "open files", "ms a round"),
        [
            (
                *(f"{sample.round:,}", f"{sample.memory:,.1f}", f"{sample.records:.2f}"),
                *(str(sample.arrays), str(sample.files), f"{_lately(samples, sample.round) * 1000:.4g}"),
            )
            for sample in (samples[number - 1] for number in shown)
        ],
    )
    growth = ResultTable(
        f"Growth in 1,000 rounds, after the first {rounds - len(settled)}",
        ("memory MiB", "records MiB", "live arrays", "open files"),
        [
            (
                *(f"{slope(settled, 'memory'):+z.2f}", f"{slope(settled, 'records'):+z.2f}"),
                *(f"{slope(settled, 'arrays'):+z.2f}", f"{slope(settled, 'files'):+z.2f}"),
            )
        ],
    )
    notes = (
        f"`SimulationConfig()` with {rounds:,} rounds and an output folder: records, an evaluation after every round, "
        "checkpoints at the default cadence. Memory is that of the process on a CPU, of the allocator on an "
        "accelerator. records: the bytes of the records so far, which the result's history keeps. ms a round: the "
        "median of the hundred rounds before. Growth is the slope of a straight line through all later rounds; a "
        "checkpoint holds some more arrays until its round is over.",
    )
    return Report("soak", command, (held, growth), notes, [sample._asdict() for sample in samples])


def _lately(samples: Sequence[Sample], number: int) -> float:
    return median(sample.seconds for sample in samples[max(number - 100, 0) : number])


def figure(samples: Sequence[Sample]) -> "Figure":
    """Memory and seconds a round against rounds.

    Args:
        samples: one a round.

    Returns:
        The figure, two panels.

    Example:
        >>> [axes.get_ylabel() for axes in figure([Sample(1, 0.1, 300.0, 40, 9, 0.0)]).axes]
        ['memory [MiB]', 'time [ms]']
    """
    drawing = new_figure(9.0, 3.2)
    memory, seconds = drawing.subplots(1, 2)
    rounds = [sample.round for sample in samples]
    memory.plot(rounds, [sample.memory for sample in samples])
    memory.set_ylim(bottom=0)
    label_axes(memory, "Memory in use", "round", "memory [MiB]")
    seconds.plot(rounds, [sample.seconds * 1000 for sample in samples], linewidth=0.5)
    seconds.set_yscale("log")
    label_axes(seconds, "Time of a round", "round", "time [ms]")
    return drawing


@dataclass(frozen=True)
class Options:
    """Memory, live arrays and open files of a long run."""

    rounds: int = 2000
    """Rounds of the run."""
    quick: bool = False
    """A few rounds, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables and of the figure."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.soak")
    rounds = 10 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as place:
        samples = watch(
            SimulationConfig(server=ServerConfig(rounds=rounds), output=OutputConfig(folder=Path(place) / "run"))
        )
    report = build_report(samples, " ".join(("python -m benchmarks.soak", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")
        save_figure(figure(samples), options.results / f"soak-{device_slug()}.png")


if __name__ == "__main__":
    main()
