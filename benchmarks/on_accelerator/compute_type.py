"""bfloat16 against float32 in the clients' passes: whole models and a low-rank tier."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, compare, repetitions_of, timings_of
from benchmarks.on_accelerator.part import Part, cells_of, with_failure
from benchmarks.report import ResultTable
from benchmarks.utilisation import (
    QUICK_WORKLOADS,
    WORKLOADS,
    Compute,
    Scale,
    compiled_round,
    default_scale,
    tier_of,
)
from benchmarks.workload import Workload, initial_params, random_clients, training_macs

NAME = "compute"
COMPUTES: tuple[Compute, ...] = get_args(Compute)
_ORDER = (("resnet18", 1.0), ("resnet8", 1.0), ("resnet18", 4.0), ("resnet8", 4.0), ("cnn", 1.0), ("cnn", 4.0))


def cases(tiny: bool) -> Sequence[Case]:
    """Models and tiers.

    Args:
        tiny: one small model, two clients.

    Returns:
        The cases.
    """
    if tiny:
        return [Case("mlp, f1", partial(_measure, "mlp, f1", QUICK_WORKLOADS["mlp"], 1.0, Scale(2, 1, 32), 1))]
    return [
        Case(
            f"{model}, f{factor:g}",
            partial(_measure, f"{model}, f{factor:g}", WORKLOADS[model], factor, None, repetitions_of(tiny)),
        )
        for model, factor in _ORDER
    ]


def _measure(name: str, workload: Workload, factor: float, scale: Scale | None, repetitions: int, emit: Emit) -> None:
    scale = scale or default_scale()
    received, data = tier_of(workload, initial_params(workload), factor), random_clients(workload, scale.clients)

    def build(compute: Compute) -> Callable[[], Any]:
        return compiled_round(workload, received, data, scale, compute)

    macs = training_macs(workload, received) * workload.steps * scale.clients
    emit(Measurement(NAME, name, "", "flops", 0, 2.0 * macs))
    compare(NAME, name, {compute: partial(build, compute) for compute in COMPUTES}, emit, repetitions, "float32")


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Milliseconds and rates of a round, and the ratio of the types.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    own = [one for one in measurements if one.part == NAME]
    cells, seconds = cells_of(own, NAME, lambda timing: timing.text(1000)), timings_of(own, NAME)
    flops = timings_of(own, NAME, "flops")
    rows = []
    for case in dict.fromkeys(one.case for one in own):
        ways = seconds.get(case, {})
        texts = [cells.get((case, way), "-") for way in COMPUTES]
        both = all(way in ways for way in COMPUTES)
        ratio = ways["bfloat16"].over(ways["float32"]).text() if both else "-"
        rates = [
            f"{flops[case][''].median / ways[way].median / 1e12:.3g}" if way in ways and case in flops else "-"
            for way in COMPUTES
        ]
        rows.append((case, *with_failure(cells.get((case, "")), texts), ratio, *rates))
    columns = ("model, tier", *(f"{way}, ms a round" for way in COMPUTES), "bfloat16 / float32")
    columns += tuple(f"{way}, TFLOP/s" for way in COMPUTES)
    return ResultTable("Floating types of the clients' passes", columns, rows)


PART = Part(
    NAME,
    90,
    cases,
    table,
    "Floating types (`local.compute`): a round of 16 clients side by side, as in benchmarks/utilisation.py. Parameters "
    "are float32 in both; a GPU multiplies float32 in TF32.",
)
