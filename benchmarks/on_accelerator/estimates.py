"""Rounds beside what the roofline of the chip estimated for them before there was one (`benchmarks.targets`)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, timings_of
from benchmarks.on_accelerator.part import Part, cells_of
from benchmarks.on_accelerator.rounds import time_rounds
from benchmarks.report import RESULTS, ResultTable
from benchmarks.targets import cases as targets
from benchmarks.targets.table import estimated_seconds, read_rows
from experiments.stand_in import stand_in
from fedhm_jax import EvaluationConfig, SimulationConfig

NAME = "estimates"
ESTIMATES = RESULTS / "targets-cpu.csv"
"""What `benchmarks.targets` found; the file need not be there."""
ROUNDS = (targets.Case("fedhm", "cnn"), targets.Case("fedhm", "resnet8"), targets.Case("fedavg", "cnn"))
MOST_ROUNDS = 500


def read_estimates(device_kind: str, path: Path = ESTIMATES) -> dict[targets.Case, float]:
    """What was estimated for a chip.

    Args:
        device_kind: as JAX names the device, such as ``NVIDIA H100 80GB HBM3`` or ``TPU v5 lite``.
        path: the CSV file of `benchmarks.targets`.

    Returns:
        Seconds of a round; none where there is no file, or nothing for such a chip. A round that does not compile, or
        was compiled at another level than the default, has none.
    """
    # "lite" is the e of v5e and v6e.
    kind = re.sub(r"[^a-z0-9]", "", device_kind.lower().replace(" lite", "e"))
    return {
        targets.Case(row.strategy, row.model, row.side_by_side, row.batch_size): estimated_seconds(row)
        for row in read_rows(path).values()
        if row.target in kind and not row.failure and row.level == "default"
    }


def name_of(one: targets.Case) -> str:
    """A round in the table.

    Args:
        one: the round.

    Returns:
        Its name.
    """
    return f"{one.strategy}, {one.model}, {one.side_by_side} x {one.batch_size}"


def cases(tiny: bool) -> Sequence[Case]:
    """The rounds.

    Args:
        tiny: one, small.

    Returns:
        The cases.
    """
    rounds, steps = ((targets.Case("fedavg", "mlp", 1, 2),), 1) if tiny else (ROUNDS, targets.STEPS)
    return [Case(name_of(one), partial(_measure, one, steps)) for one in rounds]


def config_of(one: targets.Case, steps: int) -> SimulationConfig:
    """The round as a run.

    Args:
        one: the round.
        steps: local steps of a client.

    Returns:
        The config, without evaluations.
    """
    config = targets.config_of(one, devices=1)
    return replace(
        config,
        local=replace(config.local, steps=steps),
        server=replace(config.server, rounds=MOST_ROUNDS),
        evaluation=EvaluationConfig(every=MOST_ROUNDS),
    )


def _measure(one: targets.Case, steps: int, emit: Emit) -> None:
    estimate = read_estimates(jax.devices()[0].device_kind).get(one)
    if estimate is not None:
        emit(Measurement(NAME, name_of(one), "estimate", "estimated seconds", 0, estimate))

    def tell(index: int, seconds: float) -> None:
        if index >= 0:
            emit(Measurement(NAME, name_of(one), "measured", "seconds", index, seconds))

    shape = "fashion_mnist" if one.model in ("mlp", "cnn") else "cifar10"
    samples = 2 * one.batch_size * one.side_by_side * len(targets.RANK_FACTORS)
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
    f"Estimates: rounds of four tiers with as many clients each as train side by side, {targets.STEPS} local steps. "
    f"They are those of benchmarks/results/{ESTIMATES.name}, if it is there and knows the chip.",
)
