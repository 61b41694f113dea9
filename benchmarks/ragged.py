"""What do clients of unequal sizes cost?

``python -m benchmarks.ragged``. A last batch that is not full is padded, and of several lanes of clients side by side
one stands still once no client is left to begin. Both are counted here for cohorts of a Dirichlet partition, as the
simulator would train them, and a round is timed against one of equal clients with the same number of samples in all.
"""

import heapq
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, compile_timed, time_in_turn
from benchmarks.workload import CLASSES, LEARNING_RATE, Workload, build_train_cohort, built_in, initial_params
from fedhm_jax.client.lanes import even_lanes
from fedhm_jax.data.client_data import place_clients
from fedhm_jax.data.partition import partition
from fedhm_jax.server.cohort import sample_cohort

ROUNDS = 100
WORKLOAD = Workload(built_in("cnn"), (28, 28, 1), batch_size=20, steps=1)


class Case(NamedTuple):
    """A way to train a cohort.

    Attributes:
        alpha: of the Dirichlet partition.
        clients: registered.
        cohort: of them in a round.
        lanes: clients side by side.
        samples: training samples in all.
    """

    alpha: float
    clients: int
    cohort: int
    lanes: int
    samples: int


class Padding(NamedTuple):
    """How many samples' places a round works through, over the samples that it trains on.

    Attributes:
        batches: the padded last batches alone.
        total: and the lanes that stand still.
        unsorted: as ``total``, were the cohort not ordered by size.
        chunks: as ``total``, if clients side by side all waited for the longest before the next began.
    """

    batches: float
    total: float
    unsorted: float
    chunks: float


def deal(case: Case) -> list[np.ndarray]:
    """The clients' samples.

    Args:
        case: decides sizes.

    Returns:
        Indices of each client's samples.
    """
    labels = np.arange(case.samples) % CLASSES
    return partition(
        "dirichlet",
        labels,
        CLASSES,
        clients=case.clients,
        alpha=case.alpha,
        min_samples=1,
        classes_per_client=2,
        seed=0,
    )


def padding(case: Case, sizes: np.ndarray, batch_size: int) -> Padding:
    """Counts the places of many rounds.

    Args:
        case: the cohort and its lanes.
        sizes: (clients,) samples of each client.
        batch_size: samples per step.

    Returns:
        Ratios to the samples trained on.
    """
    samples = batches = total = unsorted = chunks = 0
    lanes = even_lanes(case.cohort, case.lanes)
    for index in range(ROUNDS):
        members = members_of_round(case, sizes, index)
        own = sizes[members]
        steps = -(-own // batch_size)
        samples += own.sum()
        batches += steps.sum() * batch_size
        total += in_lanes(steps, lanes) * batch_size
        shuffled = np.random.default_rng(index).permutation(steps)
        unsorted += in_lanes(shuffled, lanes) * batch_size
        chunks += in_chunks(steps, lanes) * batch_size
    return Padding(batches / samples, total / samples, unsorted / samples, chunks / samples)


def members_of_round(case: Case, sizes: np.ndarray, index: int) -> np.ndarray:
    """Clients of a round of one tier, in the simulator's order."""
    cohort = sample_cohort(
        index,
        sizes=sizes,
        tier_of_client=np.zeros(case.clients, int),
        shares=(1.0,),
        capacities=(case.cohort,),
        cohort_size=case.cohort,
        seed=0,
    )
    return np.asarray(cohort.clients[0])


def in_lanes(steps: np.ndarray, lanes: int) -> int:
    """Steps of all lanes until the last is done, each taking the next client as soon as it is free.

    Example:
        >>> in_lanes(np.array([5, 4, 1]), 2)
        10
    """
    ends = [0] * lanes
    for own in steps.tolist():
        heapq.heappush(ends, heapq.heappop(ends) + own)
    return max(ends) * lanes


def in_chunks(steps: np.ndarray, chunk: int) -> int:
    """Steps of all places of all chunks, each chunk as many as its longest client.

    Example:
        >>> in_chunks(np.array([5, 4, 1]), 2)
        12
    """
    padded = np.pad(steps, (0, -len(steps) % chunk)).reshape(-1, chunk)
    return int(padded.max(axis=1).sum() * chunk)


def measure(case: Case, workload: Workload, repetitions: int) -> tuple[Timing, Timing]:
    """Times one round of unequal clients and one of equal clients, in turn.

    Args:
        case: the cohort and its lanes.
        workload: model and batch size.
        repetitions: timings of each.

    Returns:
        Seconds of the two.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (case.samples, *workload.image_shape), dtype=np.uint8)
    labels = np.arange(case.samples) % CLASSES
    parts = deal(case)
    sizes = np.array([len(part) for part in parts])
    members = members_of_round(case, sizes, 0)
    equal = round(sizes[members].sum() / case.cohort / workload.batch_size) * workload.batch_size
    even = [np.arange(equal) for _ in range(case.clients)]
    params = initial_params(workload)
    calls = {}
    for name, dealt in (("unequal", parts), ("equal", even)):
        data = place_clients(images, labels, dealt, CLASSES)
        capacity = max(map(len, dealt))
        train = build_train_cohort(workload, case.lanes, capacity=capacity)
        ids = jnp.asarray(members, jnp.int32)
        arguments = (params, data, ids, jnp.int32(case.cohort), jnp.float32(LEARNING_RATE), jax.random.key(1))
        calls[name] = partial(compile_timed(train, *arguments).call, *arguments)
    timings = time_in_turn(calls, repetitions)
    scale = equal * case.cohort / sizes[members].sum()
    return timings["unequal"].scaled(scale), timings["equal"]


def build_report(rows: Sequence[tuple[Case, Padding, tuple[Timing, Timing] | None]], command: str) -> Report:
    """Table, notes and CSV rows.

    Args:
        rows: cases and what was found; no timing where none was asked for.
        command: the command line.

    Returns:
        The report.
    """
    table = ResultTable(
        f"Places worked through, over samples trained on, in {ROUNDS} rounds",
        (
            "alpha",
            "clients",
            "cohort",
            "lanes",
            "batches alone",
            "in all",
            "not ordered",
            "chunks",
            "time / equal clients",
        ),
        [
            (
                *(f"{case.alpha:g}", str(case.clients), str(case.cohort), str(case.lanes)),
                *(f"{found.batches:.3f}", f"{found.total:.3f}"),
                *(f"{found.unsorted:.3f}", f"{found.chunks:.3f}"),
                timing[0].over(timing[1]).text() if timing else "-",
            )
            for case, found, timing in rows
        ],
    )
    notes = (
        f"Batches of {WORKLOAD.batch_size}. batches alone: last batches that are not full are padded. in all: and "
        "lanes stand still at the end of a round; cohorts are ordered by size. not ordered: the same in random order. "
        "chunks: if all lanes waited for the longest before any took its next client. time: a round of the CNN "
        "against a round of equal clients, per sample.",
    )
    measurements = [
        {
            **case._asdict(),
            **{f"padding_{name}": value for name, value in found._asdict().items()},
            "time_ratio": timing[0].over(timing[1]).median if timing else "",
        }
        for case, found, timing in rows
    ]
    return Report("ragged", command, (table,), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Counts and times what unequal clients cost."""

    alphas: tuple[float, ...] = (0.1, 0.5)
    """Concentrations of the Dirichlet partition."""
    lanes: tuple[int, ...] = (1, 4, 16)
    """Clients side by side."""
    samples: int = 20_000
    """Training samples in all."""
    repetitions: int = 5
    """Timings of each; the table gives their median and spread. 0 counts only."""
    quick: bool = False
    """Tiny sizes, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.ragged")
    samples, repetitions = (400, 0) if options.quick else (options.samples, options.repetitions)
    cases = [
        Case(alpha, clients, cohort, lanes, samples)
        for alpha in options.alphas
        for clients, cohort in ((20, 10), (100, 30), (300, 100))
        for lanes in options.lanes
    ]
    rows = []
    for case in track(cases, "Counting and timing"):
        sizes = np.array([len(part) for part in deal(case)])
        timing = measure(case, WORKLOAD, repetitions) if repetitions else None
        rows.append((case, padding(case, sizes, WORKLOAD.batch_size), timing))
    report = build_report(rows, " ".join(("python -m benchmarks.ragged", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
