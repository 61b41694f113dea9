"""What do sharded samples save in memory, and what do they cost in balance?

``python -m benchmarks.sharding``. Nothing is trained and nothing timed: runs are prepared on 1 to 8 devices of a CPU,
what each device holds is counted, and cohorts are drawn to see how much of a round's work the device with most has.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from fedhm_jax import EvaluationConfig, LocalConfig, PartitionConfig, ServerConfig, SimulationConfig
from fedhm_jax.data import assign_holders
from fedhm_jax.run.preparation.assembly import RunParts, check_run, place_data
from fedhm_jax.server import sample_cohort

DEVICES = (1, 2, 4, 8)

CASES = {
    "the defaults: 10 of 20 clients": SimulationConfig(),
    "10 of 100": SimulationConfig(
        partition=PartitionConfig(clients=100), local=LocalConfig(batch_size=10), server=ServerConfig(cohort_size=10)
    ),
    "50 of 100": SimulationConfig(partition=PartitionConfig(clients=100), local=LocalConfig(batch_size=10)),
    "10 of 20, Dirichlet 0.5": SimulationConfig(
        partition=PartitionConfig(method="dirichlet", alpha=0.5, min_samples=10),
        local=LocalConfig(batch_size=10),
        evaluation=EvaluationConfig(batch_size=20),
    ),
}
"""Configs by what they are."""


class Counted(NamedTuple):
    """What one number of devices comes to.

    Attributes:
        case: one of `CASES`.
        devices: how many.
        held: bytes of training samples on a device, sharded.
        tested: bytes of test samples on a device, and of those for static norms.
        largest: share of a round's work that the device with most of it has, times the number of devices, in the mean
            over rounds, sharded.
        in_turn: the same for samples that are replicated, of which clients go to devices in turn.
    """

    case: str
    devices: int
    held: int
    tested: int
    largest: float
    in_turn: float


def held(config: SimulationConfig, devices: int) -> tuple[int, int]:
    """Bytes of samples that a device has, the same on all.

    Args:
        config: of the run.
        devices: that it spreads over.

    Returns:
        Those of training samples, with what says whose they are, and those of the evaluation.
    """
    parts = check_run(replace(config, server=replace(config.server, devices=devices, samples="sharded")))
    data, test = place_data(parts)
    both = (data.samples, data.indices), (test.samples, test.statistics_samples)
    train, tested = (
        sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(samples)) for samples in both
    )
    return train, tested


def largest_shares(parts: RunParts, devices: int, rounds: int) -> tuple[float, float]:
    """The largest share of a round's work on a device, 1 if all have the same.

        mean over rounds of D max_d W_d / sum_d W_d,   W_d = sum of samples x multiply-accumulates of d's clients

    Args:
        parts: of the run.
        devices: D.
        rounds: whose cohorts are drawn.

    Returns:
        For sharded samples, and for clients that are dealt in turn.
    """
    sampling = parts.sampling
    holders = assign_holders(sampling.sizes, sampling.tier_of_client, devices)
    macs = [cost.train_macs for cost in parts.plan.costs]
    shares = []
    for number in range(rounds):
        cohort = sample_cohort(number, **sampling._asdict())
        members = [ids[:count] for ids, count in zip(cohort.clients, cohort.counts, strict=True)]
        clients = np.concatenate(members)
        work = sampling.sizes[clients] * np.repeat(macs, cohort.counts)
        for device in (holders[clients], np.arange(len(clients)) % devices):
            shares.append(devices * np.bincount(device, work, devices).max() / work.sum())
    own, in_turn = np.reshape(shares, (rounds, 2)).mean(0).tolist()
    return own, in_turn


def count(cases: Sequence[str], devices: Sequence[int], rounds: int) -> list[Counted]:
    """Counts all.

    Args:
        cases: of `CASES`.
        devices: numbers of devices.
        rounds: whose cohorts are drawn.

    Returns:
        A row for each case and number of devices.
    """
    rows = []
    for case in cases:
        parts = check_run(CASES[case])
        rows += [
            Counted(case, number, *held(CASES[case], number), *largest_shares(parts, number, rounds))
            for number in devices
        ]
    return rows


def build_report(rows: Sequence[Counted], rounds: int, command: str) -> Report:
    """Tables, notes and CSV rows.

    Args:
        rows: from `count`.
        rounds: whose cohorts were drawn.
        command: the command line.

    Returns:
        The report.
    """
    memory = ResultTable(
        "Bytes of samples on each device",
        ("clients", "devices", "training", "share of all", "test", "share of all"),
        [
            (
                *(row.case, str(row.devices), f"{row.held:,}", f"{row.held / first.held:.3f}"),
                *(f"{row.tested:,}", f"{row.tested / first.tested:.3f}"),
            )
            for row in rows
            for first in rows
            if first.case == row.case and first.devices == 1
        ],
    )
    balance = ResultTable(
        "Work of the device that has most of a round, in even shares",
        ("clients", "devices", "sharded", "replicated"),
        [(row.case, str(row.devices), f"{row.largest:.2f}", f"{row.in_turn:.2f}") for row in rows if row.devices > 1],
    )
    notes = (
        "Samples are the digits of scikit-learn, 1437 for training and 360 for the test. Replicated, every device has "
        "what one device has here. A batch of the test is on one device, with room for as many on all: by default the "
        "360 are one batch, in the last case they are 18. Work is samples "
        "times multiply-accumulates of the client's tier (f = 1, 2, 4, 8), in the mean over "
        f"{rounds:,} cohorts: a round takes as long as the device with most work. Sharded, that depends on who is "
        "drawn; replicated, on what does not divide evenly.",
    )
    return Report("sharding", command, (memory, balance), notes, [row._asdict() for row in rows])


@dataclass(frozen=True)
class Options:
    """Bytes and balance of sharded samples."""

    rounds: int = 1000
    """Rounds whose cohorts are drawn."""
    quick: bool = False
    """One case and ten rounds, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.sharding")
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    rounds, cases = (10, list(CASES)[:1]) if options.quick else (options.rounds, list(CASES))
    rows = count(cases, DEVICES, rounds)
    report = build_report(rows, rounds, " ".join(("python -m benchmarks.sharding", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
