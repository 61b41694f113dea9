"""Runs the workers one after another in turns, and makes tables of what they found."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax

from benchmarks.peers.data import SOURCES
from benchmarks.peers.environments import PEERS, PINS
from benchmarks.peers.worker import Measurement, end_family
from benchmarks.peers.workload import Task, Workload
from benchmarks.report import Report, ResultTable
from benchmarks.timing import Timing
from fedhm_jax import build_model
from fedhm_jax.models.rank_plan import factorizable_kernels, plan_ranks

ROOT = Path(__file__).parents[2]
# No word to anyone but the terminal.
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
_ABLE = {"cnn": tuple(PEERS), "resnet8": tuple(PEERS), "decoder": ("torch", "pfl", "fedhm_jax")}
"""Peers that have each model."""


class Variant(NamedTuple):
    """One way to run a peer; a row of the tables.

    Attributes:
        name: in the tables.
        peer: key of `environments.PEERS`.
        at_once: clients side by side.
        threads: within one client's arithmetic.
    """

    name: str
    peer: str
    at_once: int
    threads: int


class Row(NamedTuple):
    """What one worker found in one turn; None if it failed."""

    workload: str
    variant: str
    turn: int
    measurement: Measurement | None


def variants(cores: int, peers: Sequence[str], workload: Workload) -> list[Variant]:
    """The ways to run each peer on so many cores.

    Args:
        cores: that a worker may use.
        peers: names.
        workload: not every peer can run it: with tiers, only the plain loop and fedhm_jax can.

    Returns:
        The variants, fedhm_jax last.
    """
    one_by_one = "1 thread" if cores == 1 else f"{cores} threads"
    all_of_them = [
        Variant("PyTorch loop, 1 thread", "torch", 1, 1),
        Variant(f"PyTorch loop, {one_by_one}", "torch", 1, cores),
        Variant(f"pfl, {one_by_one}", "pfl", 1, cores),
        Variant(f"pfl, {cores} processes", "pfl", cores, 1),
        Variant(f"Flower, {cores} actors", "flower", cores, 1),
        Variant(f"BlazeFL, {one_by_one}", "blazefl", 1, cores),
        Variant(f"BlazeFL, {cores} clients at once", "blazefl", cores, 1),
        Variant("FedJAX", "fedjax", 1, cores),
        Variant("fedhm_jax", "fedhm_jax", 1, cores),
        Variant(f"fedhm_jax, {cores} devices", "fedhm_jax", cores, 1),
    ]
    able = _ABLE[workload.model] if len(workload.rank_factors) == 1 else ("torch", "fedhm_jax")
    wanted = [variant for variant in all_of_them if variant.peer in peers and variant.peer in able]
    # On one core some ways are the same.
    return list({variant[1:]: variant for variant in reversed(wanted)}.values())[::-1]


def task_of(workload: Workload, variant: Variant, *, rounds: int, warm_up: int, cores: int) -> Task:
    """What a worker is told.

    Args:
        workload: what to train.
        variant: how.
        rounds: timed rounds.
        warm_up: rounds before.
        cores: that it may use.

    Returns:
        The task, with the ranks that fedhm_jax gives each tier.
    """
    source = SOURCES[workload.model]
    inputs = jax.ShapeDtypeStruct((2, *source.shape), source.dtype)
    kernels = factorizable_kernels(build_model(workload.model, source.classes), inputs)
    ranks = tuple(dict(plan_ranks(kernels, factor)) for factor in workload.rank_factors)
    return Task(workload, ranks, rounds, warm_up, cores, variant.at_once, variant.threads)


def run_worker(python: Path, peer: str, task: Task, limit: float) -> Measurement:
    """Runs one worker to its end.

    Args:
        python: of the peer's environment.
        peer: its name.
        task: what to run.
        limit: seconds that it may take.

    Returns:
        What it found.

    Raises:
        RuntimeError: the worker failed, and the message ends with what it last said; or it took too long.
    """
    with subprocess.Popen(
        [python, "-m", "benchmarks.peers.worker", PEERS[peer], task.to_json()],
        cwd=ROOT,
        env={**os.environ, **_QUIET, "PYTHONPATH": _path(python), "OMP_NUM_THREADS": str(task.threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as error:
            end_family(process.pid)
            raise RuntimeError(f"{peer} was stopped, for it did not finish in {limit:g} seconds") from error
    if process.returncode:
        last_words = (said.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"{peer} failed with exit code {process.returncode}; its last words: {last_words}")
    return Measurement(**json.loads(printed.strip().splitlines()[-1]))


def _path(python: Path) -> str:
    """Where a worker finds modules: this interpreter's own path serves it alone, not the peers' environments."""
    own = os.environ.get("PYTHONPATH", "") if str(python) == sys.executable else ""
    return os.pathsep.join(filter(None, (str(ROOT), own)))


def take_turns(
    workloads: Mapping[str, Workload],
    pythons: Mapping[str, Path],
    *,
    turns: int,
    rounds: int,
    warm_up: int,
    cores: int,
    limit: float,
) -> Iterator[Row]:
    """Runs every variant of every workload once a turn; no two at a time.

    A worker that fails is told on standard error, and its variant sits out the workload's later turns.

    Args:
        workloads: by name.
        pythons: interpreter of each peer.
        turns: how often.
        rounds: timed rounds of a worker.
        warm_up: rounds before.
        cores: that a worker may use.
        limit: seconds that a worker may take.

    Yields:
        One row a worker.
    """
    for name, workload in workloads.items():
        taking_part = variants(cores, tuple(pythons), workload)
        for turn in range(turns):
            for variant in tuple(taking_part):
                task = task_of(workload, variant, rounds=rounds, warm_up=warm_up, cores=cores)
                try:
                    found = run_worker(pythons[variant.peer], variant.peer, task, limit)
                except RuntimeError as error:
                    print(f"Workload {name}, {variant.name}: {error}", file=sys.stderr)
                    taking_part.remove(variant)
                    found = None
                yield Row(name, variant.name, turn, found)


_PINS = "; ".join(
    f"{peer}: {' '.join(word for call in PINS[module] for word in call if not word.startswith('--'))}"
    for peer, module in PEERS.items()
    if module in PINS
)
NOTES = (
    "Median (least..most) over turns; in each turn every variant ran once, in a process of its own, one after another. "
    "A turn's value is the mean of its timed rounds. Ratios are taken turn by turn; above 1, fedhm_jax is faster. CPU "
    "seconds and peak memory are those of the process and its descendants; start-up is from the start of the process "
    "to the end of the warm-up rounds and is in no other column. Loss is that of the final model on training samples, "
    "median over turns. The plain loop's figure is the better of its rows.",
    f"Pins: {_PINS}.",
)


def build_report(rows: Sequence[Row], workloads: Mapping[str, Workload], command: str) -> Report:
    """Tables, notes and CSV rows. A variant that failed in some turn is in no table.

    Args:
        rows: from `take_turns`.
        workloads: that were run, by name.
        command: the command line.

    Returns:
        The report.

    Raises:
        RuntimeError: every worker failed.
    """
    measured = [(row, row.measurement) for row in rows if row.measurement is not None]
    if not measured:
        raise RuntimeError("every worker failed, so there is nothing to report")
    failed = {row[:2] for row in rows if row.measurement is None}
    tables = []
    for name, workload in workloads.items():
        by_variant: dict[str, list[Measurement]] = {}
        for row, found in measured:
            if row.workload == name and row[:2] not in failed:
                by_variant.setdefault(row.variant, []).append(found)
        cells = [
            (variant, *_cells(each, by_variant.get("fedhm_jax"), workload)) for variant, each in by_variant.items()
        ]
        tables.append(ResultTable(f"Workload {name}: {_in_words(workload)}", _columns(workload), cells))
    measurements = [
        {"workload": row.workload, "variant": row.variant, "turn": row.turn, **asdict(found)} for row, found in measured
    ]
    left_out = [f"Failed and left out: {', '.join(' '.join(each) for each in sorted(failed))}."] if failed else []
    return Report("peers", command, tables, (*NOTES, *left_out), measurements)


def _columns(workload: Workload) -> tuple[str, ...]:
    return (
        *("variant", "ms a round", "round / fedhm_jax", "CPU s a round", "CPU / fedhm_jax", "rounds/s"),
        *("client steps/s", f"{SOURCES[workload.model].unit}/s", "peak MiB", "start-up s", "loss"),
    )


def _cells(found: Sequence[Measurement], own: Sequence[Measurement] | None, workload: Workload) -> tuple[str, ...]:
    wall, cpu = _round_seconds(found), _round_cpu(found)
    predictions = workload.cohort * workload.samples * SOURCES[workload.model].predictions
    return (
        wall.text(1000),
        wall.over(_round_seconds(own)).text() if own else "-",
        cpu.text(),
        cpu.over(_round_cpu(own)).text() if own else "-",
        f"{1 / wall.median:.3g}",
        f"{found[0].steps / found[0].rounds / wall.median:,.0f}",
        f"{predictions / wall.median:,.0f}",
        f"{median(one.peak_mib for one in found):,.0f}",
        f"{median(one.start_up_seconds for one in found):.1f}",
        f"{median(one.loss for one in found):.3f}",
    )


def _round_seconds(found: Sequence[Measurement]) -> Timing:
    return Timing(tuple(one.wall_seconds / one.rounds for one in found))


def _round_cpu(found: Sequence[Measurement]) -> Timing:
    return Timing(tuple(one.cpu_seconds / one.rounds for one in found))


def _in_words(workload: Workload) -> str:
    tiers = ":".join(f"{factor:g}" for factor in workload.rank_factors)
    method = "FedAvg" if len(workload.rank_factors) == 1 else f"FedHM, tiers {tiers}"
    return (
        f"{method}, {workload.model}, {workload.clients} clients of {workload.samples} samples, {workload.cohort} a "
        f"round, one epoch of batch {workload.batch_size}"
    )


def quick(workload: Workload) -> Workload:
    """A tiny version of a workload: two clients a tier, two steps each."""
    clients = 2 * len(workload.rank_factors)
    return replace(workload, clients=clients, cohort=clients, samples=2 * workload.batch_size)
