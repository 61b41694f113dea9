"""Rounds beside what the roofline of the chip estimated for them before there was one."""

import csv
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, timings_of
from benchmarks.on_accelerator.part import Part, cells_of
from benchmarks.on_accelerator.rounds import time_rounds
from benchmarks.report import RESULTS, ResultTable
from experiments.stand_in import stand_in
from fedhm_jax import (
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
)

NAME = "estimates"
ESTIMATES = RESULTS / "targets-cpu.csv"
"""Estimates by chip; the file need not be there."""
COLUMNS = ("target", "strategy", "model", "side_by_side", "batch_size", "estimated_seconds")
"""Its columns, beside any others. ``target`` is a chip such as ``h100`` or ``v5e``; the next four name a `Round`."""
RANK_FACTORS = (1.0, 2.0, 4.0, 8.0)
STEPS = 20
"""Local steps of a client."""


class Round(NamedTuple):
    """A round in which each of four tiers has as many clients as train side by side.

    Attributes:
        strategy: name of the method.
        model: name of the model.
        side_by_side: clients at a time, and of each tier.
        batch_size: samples per step.
    """

    strategy: Any
    model: Any
    side_by_side: int = 16
    batch_size: int = 64

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.strategy}, {self.model}, {self.side_by_side} x {self.batch_size}"


ROUNDS = (Round("fedhm", "cnn"), Round("fedhm", "resnet8"), Round("fedavg", "cnn"))


def read_estimates(device_kind: str, path: Path = ESTIMATES) -> dict[Round, float]:
    """What was estimated for a chip.

    Args:
        device_kind: as JAX names the device, such as ``NVIDIA H100 80GB HBM3`` or ``TPU v5 lite``.
        path: a CSV file with the columns `COLUMNS`.

    Returns:
        Seconds of a round; none where there is no file, or none with these columns, or nothing for such a chip.
    """
    if not path.exists():
        return {}
    # "lite" is the e of v5e and v6e.
    kind = re.sub(r"[^a-z0-9]", "", device_kind.lower().replace(" lite", "e"))
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if set(COLUMNS) <= set(row) and row["target"] in kind]
    estimates = {
        Round(row["strategy"], row["model"], int(row["side_by_side"]), int(row["batch_size"])): float(
            row["estimated_seconds"] or 0
        )
        for row in rows
    }
    # A round that does not compile has none.
    return {one: seconds for one, seconds in estimates.items() if seconds > 0}


def cases(tiny: bool) -> Sequence[Case]:
    """The rounds.

    Args:
        tiny: one, small.

    Returns:
        The cases.
    """
    rounds, steps = ((Round("fedavg", "mlp", 1, 2),), 1) if tiny else (ROUNDS, STEPS)
    return [Case(one.name, partial(_measure, one, steps)) for one in rounds]


def config_of(one: Round, steps: int) -> SimulationConfig:
    """The round as a run.

    Args:
        one: the round.
        steps: local steps of a client.

    Returns:
        The config, without evaluations.
    """
    return SimulationConfig(
        model=ModelConfig(name=one.model),
        partition=PartitionConfig(clients=one.side_by_side * len(RANK_FACTORS)),
        tiers=TiersConfig(rank_factors=RANK_FACTORS),
        strategy=StrategyConfig(name=one.strategy),
        local=LocalConfig(batch_size=one.batch_size, steps=steps),
        server=ServerConfig(participation=1.0, clients_per_chunk=one.side_by_side, devices=1, rounds=500),
        evaluation=EvaluationConfig(every=500),
    )


def _measure(one: Round, steps: int, emit: Emit) -> None:
    estimate = read_estimates(jax.devices()[0].device_kind).get(one)
    if estimate is not None:
        emit(Measurement(NAME, one.name, "estimate", "estimated seconds", 0, estimate))

    def tell(index: int, seconds: float) -> None:
        if index >= 0:
            emit(Measurement(NAME, one.name, "measured", "seconds", index, seconds))

    shape = "fashion_mnist" if one.model in ("mlp", "cnn") else "cifar10"
    samples = 2 * one.batch_size * one.side_by_side * len(RANK_FACTORS)
    time_rounds(config_of(one, steps), stand_in(shape, samples, 10), 1 if steps == 1 else 5, tell)


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Estimates beside measurements.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    seconds, estimated = timings_of(measurements, NAME), timings_of(measurements, NAME, "estimated seconds")
    rows = []
    for (case, way), text in cells_of(measurements, NAME, lambda timing: timing.text(1000)).items():
        guess, found = estimated.get(case, {}).get("estimate"), seconds.get(case, {}).get(way)
        both = guess is not None and found is not None
        rows.append(
            (
                *(case, text, f"{1000 * guess.median:.3g}" if guess else "-"),
                f"{found.median / guess.median:.2f}" if both and found and guess else "-",
            )
        )
    columns = ("round, clients x batch", "measured, ms", "estimated, ms", "measured / estimated")
    return ResultTable("Estimates beside measurements", columns, rows)


PART = Part(
    NAME,
    90,
    cases,
    table,
    f"Estimates: rounds of four tiers with as many clients each as train side by side, {STEPS} local steps. They are "
    f"those of benchmarks/results/{ESTIMATES.name}, if it is there and knows the chip.",
)
