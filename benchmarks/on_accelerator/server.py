"""The server's share of a round of the paper's setting."""

from collections.abc import Sequence
from functools import partial

import jax

from benchmarks.on_accelerator import paper
from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, timings_of
from benchmarks.on_accelerator.part import Part, in_a_cell
from benchmarks.report import ResultTable
from benchmarks.server_step import EPOCHS, QUICK_WORKLOADS, WORKLOADS, measure
from benchmarks.workload import Workload
from fedhm_jax.lowrank.truncation import FASTEST, DecompositionMethod

NAME = "server"
METHODS: tuple[DecompositionMethod, ...] = ("gram", "subspace")
_ORDER = ("resnet18", "cnn", "resnet8")


def cases(tiny: bool) -> Sequence[Case]:
    """The models of `benchmarks.server_step`.

    Args:
        tiny: a small one.

    Returns:
        The cases.
    """
    workloads = QUICK_WORKLOADS if tiny else {model: WORKLOADS[model] for model in _ORDER}
    return [Case(model, partial(_measure, model, workload, 1 if tiny else 3)) for model, workload in workloads.items()]


def _measure(model: str, workload: Workload, repetitions: int, emit: Emit) -> None:
    default = FASTEST.get(jax.default_backend(), "gram")
    for row in measure({model: workload}, repetitions, METHODS):
        values = {
            "decomposition": row.decomposition.median,
            **{f"training, {epochs} epochs": row.training_seconds(epochs) for epochs in EPOCHS},
            "seconds": row.server_seconds,
        }
        for quantity, value in values.items():
            emit(Measurement(NAME, model, row.method, quantity, 0, value, row.method == default))


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """The server's seconds of a round, and their share.

    Args:
        measurements: of all parts; the share of ResNet-18 is that of the paper's round, if it was measured.

    Returns:
        The table.
    """
    own = [one for one in measurements if one.part == NAME]
    server, alone = timings_of(own, NAME), timings_of(own, NAME, "decomposition")
    training = {epochs: timings_of(own, NAME, f"training, {epochs} epochs") for epochs in EPOCHS}
    whole = timings_of(measurements, paper.NAME).get(paper.ROUND, {}).get("float32")
    rows = []
    for case, ways in server.items():
        for way, timing in ways.items():
            seconds = timing.median
            shares = [f"{seconds / (seconds + training[epochs][case][way].median):.2%}" for epochs in EPOCHS]
            measured = f"{seconds / whole.median:.2%}" if whole is not None and case == "resnet18" else "-"
            rows.append(
                (case, way, f"{1000 * alone[case][way].median:.4g}", f"{1000 * seconds:.4g}", *shares, measured)
            )
    rows += [(one.case, in_a_cell(one.failure), *("-",) * 5) for one in own if one.failure]
    columns = ("model", "decomposition", "of it, ms", "server, ms a round", *(f"share, epochs = {n}" for n in EPOCHS))
    return ResultTable("The server's share of a round", (*columns, "share of the paper's round below"), rows)


PART = Part(
    NAME,
    100,
    cases,
    table,
    "Server: a round of 10 clients with 2,500 samples each as benchmarks/server_step.py works it out, with clients one "
    "after another. Side by side they may be faster: the last column is the share of a whole round of ten epochs.",
)
