"""What do clients of unequal sizes cost?

``python -m benchmarks.ragged``. Clients side by side in a chunk wait for the one with the most steps, and a last batch
that is not full is padded. Both are counted here for cohorts of a Dirichlet partition, as the simulator would train
them, and a round is timed against a round of equal clients with the same number of samples in all.
"""

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
from fedhm_jax.client_data import place_clients
from fedhm_jax.cohort import sample_cohort
from fedhm_jax.data import partition
from fedhm_jax.engine import even_chunk

ROUNDS = 100
WORKLOAD = Workload(built_in("cnn"), (28, 28, 1), batch_size=20, steps=1)


class Case(NamedTuple):
    """A way to train a cohort.

    Attributes:
        alpha: of the Dirichlet partition.
        clients: registered.
        cohort: of them in a round.
        chunk: clients side by side.
        samples: training samples in all.
    """

    alpha: float
    clients: int
    cohort: int
    chunk: int
    samples: int


class Padding(NamedTuple):
    """How many samples' places a round works through, over the samples that it trains on.

    Attributes:
        batches: the padded last batches alone.
        total: and the waiting in chunks.
        unsorted: as ``total``, were the cohort not ordered by size.
    """

    batches: float
    total: float
    unsorted: float


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
        case: the cohort and its chunks.
        sizes: (clients,) samples of each client.
        batch_size: samples per step.

    Returns:
        Ratios to the samples trained on.
    """
    samples = batches = total = unsorted = 0
    chunk = even_chunk(case.cohort, case.chunk)
    for index in range(ROUNDS):
        members = members_of_round(case, sizes, index)
        own = sizes[members]
        steps = -(-own // batch_size)
        samples += own.sum()
        batches += steps.sum() * batch_size
        total += in_chunks(steps, chunk) * batch_size
        shuffled = np.random.default_rng(index).permutation(steps)
        unsorted += in_chunks(shuffled, chunk) * batch_size
    return Padding(batches / samples, total / samples, unsorted / samples)


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


def in_chunks(steps: np.ndarray, chunk: int) -> int:
    """Steps that all places of all chunks take together, each chunk as many as its longest client.

    Example:
        >>> in_chunks(np.array([5, 4, 1]), 2)
        12
    """
    padded = np.pad(steps, (0, -len(steps) % chunk)).reshape(-1, chunk)
    return int(padded.max(axis=1).sum() * chunk)


def measure(case: Case, workload: Workload, repetitions: int) -> tuple[Timing, Timing]:
    """Times one round of unequal clients and one of equal clients, in turn.

    Args:
        case: the cohort and its chunks.
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
        train = build_train_cohort(workload, case.chunk, capacity=capacity)
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
        ("alpha", "clients", "cohort", "chunk", "batches alone", "in all", "not ordered", "time / equal clients"),
        [
            (
                *(f"{case.alpha:g}", str(case.clients), str(case.cohort), str(case.chunk)),
                *(f"{found.batches:.3f}", f"{found.total:.3f}", f"{found.unsorted:.3f}"),
                timing[0].over(timing[1]).text() if timing else "-",
            )
            for case, found, timing in rows
        ],
    )
    notes = (
        f"Batches of {WORKLOAD.batch_size}. batches alone: last batches that are not full are padded. in all: and "
        "clients side by side wait for the longest of their chunk; cohorts are ordered by size. not ordered: the same "
        "in random order. time: a round of the CNN against a round of equal clients, per sample.",
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
    chunks: tuple[int, ...] = (1, 4, 16)
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
        Case(alpha, clients, cohort, chunk, samples)
        for alpha in options.alphas
        for clients, cohort in ((20, 10), (100, 30))
        for chunk in options.chunks
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
