"""What happens when there are many clients, or many rounds?

``python -m benchmarks.scale``. Every point runs `fedhm_jax.simulate` in a process of its own, so that peak memory is
that point's:

- cohort: 100,000 registered clients, 10 to 1,000 of them a round.
- registered: 1,000 to 100,000 registered clients, 100 a round.
- rounds: 1,000 rounds of one small run; time and memory of the first and of the last hundred.
- devices: the clients of a round on one device, and spread over several.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.scale_figure import scale_figure
from fedhm_jax.reporting.figures import save_figure

SAMPLES_PER_CLIENT = 10
MIB = 2**20


class Point(NamedTuple):
    """One run.

    Attributes:
        curve: ``cohort``, ``registered``, ``rounds`` or ``devices``.
        registered: clients that hold data.
        cohort: of them in a round.
        rounds: timed ones; at most 50 more come before them.
        clients_per_chunk: side by side; None for the simulator's choice.
        model: architecture.
        devices: that the clients are spread over; a CPU shows as many.
    """

    curve: str
    registered: int
    cohort: int
    rounds: int
    clients_per_chunk: int | None = None
    model: str = "cnn"
    devices: int = 1


class Measured(NamedTuple):
    """What a run took.

    Attributes:
        start_seconds: until the end of the second round: data, compilation, first rounds.
        first: median seconds of the first tenth of the timed rounds.
        last: median seconds of the last tenth.
        mean: of all timed rounds, seconds.
        cpu: processor seconds a round, all threads together.
        memory_first: MiB in use after the first tenth: of the process, or of the accelerator.
        memory_last: MiB in use after the last round.
        peak: most MiB in use at any time.
        data: MiB of the clients' samples.
    """

    start_seconds: float
    first: float
    last: float
    mean: float
    cpu: float
    memory_first: float
    memory_last: float
    peak: float
    data: float


def points(largest: int, rounds: int, devices: Sequence[int] = (1,)) -> list[Point]:
    """The curves.

    Args:
        largest: most registered clients; every other number is a share of it.
        rounds: of the long run.
        devices: numbers of devices to compare.

    Returns:
        One point a run.

    Example:
        >>> [point.cohort for point in points(100_000, 1000) if point.curve == "cohort"]
        [10, 30, 100, 300, 1000]
    """
    cohorts = [max(largest // share, 1) for share in (10_000, 3_333, 1_000, 333, 100)]
    registered = [max(largest // share, 1) for share in (100, 10, 1)]
    return [
        *(Point("cohort", largest, cohort, 5) for cohort in cohorts),
        *(Point("registered", clients, max(largest // 1_000, 1), 10) for clients in registered),
        Point("rounds", 100, 10, rounds, model="mlp"),
        *(Point("devices", largest // 1_000, largest // 2_000, 10, devices=count) for count in devices),
    ]


def run(point: Point) -> Measured:
    """Runs a point in this process.

    Args:
        point: what to run.

    Returns:
        Its figures.
    """
    # Imported here: a parent process that only starts points needs no simulator.
    from fedhm_jax import (
        EvaluationConfig,
        LocalConfig,
        ModelConfig,
        PartitionConfig,
        ServerConfig,
        SimulationConfig,
        StrategyConfig,
        dataset_from_arrays,
        simulate,
    )

    generator = np.random.default_rng(0)
    samples = point.registered * SAMPLES_PER_CLIENT
    images = generator.integers(0, 256, (samples, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(samples) % 10
    data = dataset_from_arrays(images, labels, images[:10], labels[:10])
    # Evaluations end dispatches; the first warms up, and those of ten images cost next to nothing.
    every = min(point.rounds, 50)
    total = every + point.rounds
    config = SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        partition=PartitionConfig(clients=point.registered),
        model=ModelConfig(name=point.model),  # type: ignore[arg-type]
        local=LocalConfig(epochs=1, batch_size=SAMPLES_PER_CLIENT),
        server=ServerConfig(
            rounds=total,
            cohort_size=point.cohort,
            clients_per_chunk=point.clients_per_chunk,
            devices=point.devices,
        ),
        evaluation=EvaluationConfig(every=every),
    )
    tenth = max(point.rounds // 10, 1)
    seconds, processor, memory = [], [], []
    started = time.perf_counter()
    ready = 0.0

    def note(record: Any) -> None:
        nonlocal ready
        seconds.append(record["seconds"])
        processor.append(time.process_time())
        if len(seconds) == every:
            ready = time.perf_counter() - started
        if len(seconds) == every + tenth:
            memory.append(in_use())

    simulate(config, data=data, on_round=[note])
    timed = seconds[every:]
    return Measured(
        start_seconds=ready,
        first=median(timed[:tenth]),
        last=median(timed[-tenth:]),
        mean=fmean(timed),
        cpu=(processor[-1] - processor[every - 1]) / len(timed),
        memory_first=memory[0],
        memory_last=in_use(),
        peak=peak(),
        data=images.nbytes / MIB,
    )


def in_use() -> float:
    """MiB that the process (CPU) or the accelerator's allocator holds now."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return float(statistics["bytes_in_use"]) / MIB
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def peak() -> float:
    """Most MiB that the process (CPU) or the accelerator's allocator ever held."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return float(statistics["peak_bytes_in_use"]) / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(point: Point) -> Measured:
    """Runs a point in a process of its own.

    Args:
        point: what to run.

    Returns:
        Its figures.

    Raises:
        RuntimeError: the process failed; the message is the end of what it wrote.
    """
    command = [sys.executable, "-m", "benchmarks.scale", "--point", json.dumps(point._asdict())]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={point.devices}".strip()
    environment = os.environ | {"XLA_FLAGS": flags}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if finished.returncode != 0:
        raise RuntimeError(f"{point} failed:\n{finished.stderr[-2000:]}")
    return Measured(**json.loads(finished.stdout.splitlines()[-1]))


def build_report(rows: Sequence[tuple[Point, Measured]], command: str) -> Report:
    """Tables, notes and CSV rows of finished points.

    Args:
        rows: points and their figures.
        command: the command line.

    Returns:
        The report.
    """

    def table(curve: str, title: str) -> ResultTable:
        columns = ("registered", "cohort", "round ms", "clients/s", "start s", "data MiB", "peak MiB")
        return ResultTable(
            title,
            columns,
            [
                (
                    *(f"{point.registered:,}", f"{point.cohort:,}", f"{found.last * 1000:.4g}"),
                    *(f"{point.cohort / found.last:,.0f}", f"{found.start_seconds:.1f}"),
                    *(f"{found.data:,.0f}", f"{found.peak:,.0f}"),
                )
                for point, found in rows
                if point.curve == curve
            ],
        )

    long = ResultTable(
        "Many rounds: the first tenth and the last",
        ("rounds", "first ms", "last ms", "last / first", "MiB after the first", "MiB after the last"),
        [
            (
                *(f"{point.rounds:,}", f"{found.first * 1000:.4g}", f"{found.last * 1000:.4g}"),
                *(f"{found.last / found.first:.2f}", f"{found.memory_first:,.1f}", f"{found.memory_last:,.1f}"),
            )
            for point, found in rows
            if point.curve == "rounds"
        ],
    )
    spread = ResultTable(
        "Clients spread over devices",
        ("devices", "cohort", "round ms", "processor ms a round", "clients/s"),
        [
            (
                *(str(point.devices), f"{point.cohort:,}", f"{found.mean * 1000:.4g}", f"{found.cpu * 1000:.4g}"),
                f"{point.cohort / found.mean:,.0f}",
            )
            for point, found in rows
            if point.curve == "devices"
        ],
    )
    notes = (
        f"Each client holds {SAMPLES_PER_CLIENT} images of 28 x 28 and takes one step of the CNN, tiers f = 1, 2, 4, 8 "
        "(the long run: the MLP). Times are the records' seconds, sampling the cohort on the host included. start: "
        "data to the device, compilation, as many rounds as are timed (at most 50). Memory is the process's on a CPU, "
        "the allocator's on an accelerator; on a CPU it counts the interpreter, the compiler, and the host's copy of "
        "the data.",
    )
    measurements = [{**point._asdict(), **found._asdict()} for point, found in rows]
    tables = (
        table("cohort", "Clients of a round"),
        table("registered", "Registered clients"),
        long,
        spread,
    )
    return Report("scale", command, tables, notes, measurements)


@dataclass(frozen=True)
class Options:
    """Curves of time and memory against clients and rounds."""

    largest: int = 100_000
    """Most registered clients."""
    rounds: int = 1000
    """Rounds of the long run."""
    devices: tuple[int, ...] = (1, 2)
    """Numbers of devices to compare."""
    clients_per_chunk: int | None = None
    """Clients side by side; by the backend if unset."""
    quick: bool = False
    """Tiny sizes, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""
    point: str | None = None
    """Run one point, given as JSON, in this process, and print its figures."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.scale")
    if options.point is not None:
        print(json.dumps(run(Point(**json.loads(options.point)))._asdict()))
        return
    planned = points(2_000, 10) if options.quick else points(options.largest, options.rounds, options.devices)
    planned = [point._replace(clients_per_chunk=options.clients_per_chunk) for point in planned]
    rows = [(point, run_apart(point)) for point in track(planned, "Running points")]
    report = build_report(rows, " ".join(("python -m benchmarks.scale", *sys.argv[1:])))
    show(report)
    if not options.quick:
        written = write(report, options.results)
        save_figure(scale_figure(rows), written.with_suffix(".png"))
        print(f"Written to {written}")


if __name__ == "__main__":
    main()
