"""A round of the paper's setting on CIFAR-10: ResNet-18, ten of twenty clients in four tiers, ten local epochs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, timings_of
from benchmarks.on_accelerator.part import Part, cells_of
from benchmarks.on_accelerator.rounds import FIRST, time_rounds
from benchmarks.report import ResultTable
from benchmarks.utilisation import Compute
from experiments.stand_in import stand_in
from fedhm_jax import SimulationConfig, read_study

NAME = "paper"
ROUND = "ResNet-18, ten local epochs"
STUDY = Path(__file__).parents[2] / "experiments" / "cifar10_resnet18" / "cifar10_resnet18.toml"
SAMPLES = 50_000
"""Training images of CIFAR-10."""
ROUNDS_OF_THE_PAPER = 160


def cases(tiny: bool) -> Sequence[Case]:
    """The round in both floating types.

    Args:
        tiny: a small model and one step a client.

    Returns:
        The cases.
    """
    computes: tuple[Compute, ...] = ("float32",) if tiny else ("float32", "bfloat16")
    return [Case(f"{ROUND}, {compute}", partial(_measure, compute, tiny)) for compute in computes]


def config_of(compute: Compute, tiny: bool) -> SimulationConfig:
    """The study's config without evaluations.

    Args:
        compute: floating type of the clients' passes.
        tiny: a small model in one tier, and one step a client.

    Returns:
        The config.
    """
    config = read_study(STUDY).settings["iid"]
    config = replace(
        config,
        local=replace(config.local, compute=compute),
        server=replace(config.server, rounds=ROUNDS_OF_THE_PAPER, devices=1),
        evaluation=replace(config.evaluation, every=ROUNDS_OF_THE_PAPER),
    )
    if not tiny:
        return config
    return replace(
        config,
        model=replace(config.model, name="mlp", norm=None, hidden=(8,)),
        tiers=replace(config.tiers, rank_factors=(1.0,), counts=None),
        local=replace(config.local, batch_size=2, epochs=1, augmentation="none"),
    )


def _measure(compute: Compute, tiny: bool, emit: Emit) -> None:
    def tell(index: int, seconds: float) -> None:
        if index >= 0:
            emit(Measurement(NAME, ROUND, compute, "seconds", index, seconds, compute == "float32"))
        elif index == -FIRST:
            emit(Measurement(NAME, ROUND, compute, "first round", 0, seconds))

    time_rounds(config_of(compute, tiny), stand_in("cifar10", 40 if tiny else SAMPLES, 20), 1 if tiny else 3, tell)


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Seconds of a round, and of all 160.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    seconds, first = timings_of(measurements, NAME), timings_of(measurements, NAME, "first round")
    cells = cells_of(measurements, NAME, lambda timing: timing.text())
    rows = []
    for (case, way), text in cells.items():
        found = seconds.get(case, {}).get(way)
        run = f"{ROUNDS_OF_THE_PAPER * found.median / 3600:.2f}" if found else "-"
        begun = f"{first[case][way].median:.1f}" if way in first.get(case, {}) else "-"
        rows.append((case, way or "-", text, begun, run))
    columns = ("round", "compute", "seconds a round", "first round, s", f"hours of {ROUNDS_OF_THE_PAPER} rounds")
    return ResultTable("The paper's setting on CIFAR-10", columns, rows)


PART = Part(
    NAME,
    260,
    cases,
    table,
    "Paper: experiments/cifar10_resnet18, iid, on noise in the shape of CIFAR-10; 10 clients of 2,500 samples, batch "
    "64, through `simulate` without evaluations. The first round compiles; the second is left out as well.",
)
