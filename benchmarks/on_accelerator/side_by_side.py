"""One to 64 clients side by side: time of a client, and memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from benchmarks.hot_spots import WORKLOADS
from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, compare, repetitions_of, timings_of
from benchmarks.on_accelerator.part import Choice, Part, cells_of, with_failure
from benchmarks.report import ResultTable
from benchmarks.timing import compile_timed
from benchmarks.utilisation import QUICK_WORKLOADS, default_scale
from benchmarks.workload import (
    Workload,
    build_train_cohort,
    initial_params,
    random_clients,
    train_cohort_arguments,
)
from fedhm_jax.layers.convolution import ConvMethod

NAME = "side_by_side"
METHODS: tuple[ConvMethod, ...] = ("lax", "gemm")
CLIENTS, LANES = 64, (1, 4, 8, 16, 32, 64)
MIB = 2**20


def cases(tiny: bool) -> Sequence[Case]:
    """The CNN, then ResNet-8, from few clients side by side to many: the allocator's peak never falls.

    Args:
        tiny: two clients of a small model.

    Returns:
        The cases.
    """
    workloads, clients, lanes = (QUICK_WORKLOADS, 2, (1, 2)) if tiny else (WORKLOADS, CLIENTS, LANES)
    return [
        Case(f"{name}, {together} side by side", partial(_measure, name, workload, clients, together, tiny))
        for name, workload in workloads.items()
        for together in lanes
    ]


def _measure(name: str, workload: Workload, clients: int, together: int, tiny: bool, emit: Emit) -> None:
    data, params, before = random_clients(workload, clients), initial_params(workload), allocated_at_most()
    arguments = train_cohort_arguments(params, data, clients)

    def build(method: ConvMethod) -> Callable[[], Any]:
        own = workload._replace(build=lambda _: workload.build(method))
        program = compile_timed(build_train_cohort(own, together), *arguments).call
        needed = getattr(program, "memory_analysis", lambda: None)()
        if needed is not None:
            size = needed.temp_size_in_bytes + needed.argument_size_in_bytes + needed.output_size_in_bytes
            emit(Measurement(NAME, name, f"{method}, {together}", "bytes", 0, float(size)))
        return partial(program, *arguments)

    # On a CPU the choice is made kernel by kernel.
    default = None if jax.default_backend() == "cpu" else f"lax, {default_scale().clients_per_chunk}"
    ways = {f"{method}, {together}": partial(build, method) for method in METHODS}
    compare(NAME, name, ways, emit, repetitions_of(tiny), default=default, scale=1 / clients)
    after = allocated_at_most()
    if after > before:
        emit(Measurement(NAME, name, f"peak, {together}", "peak bytes", 0, after))


def allocated_at_most() -> float:
    """Most bytes that the device's allocator has held in this process; 0 where it does not say."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return float(statistics.get("peak_bytes_in_use", 0))


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Milliseconds a client, and MiB, by model and number side by side.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    own = [one for one in measurements if one.part == NAME]
    defaults = {(one.case, one.way) for one in own if one.default}
    times = cells_of(own, NAME, lambda timing: timing.text(1000))
    needed, peaks = timings_of(own, NAME, "bytes"), timings_of(own, NAME, "peak bytes")

    def mib(found: dict[str, Any], way: str) -> str:
        return f"{found[way].median / MIB:,.0f}" if way in found else "-"

    rows = []
    for case, together in dict.fromkeys((one.case, one.way.rpartition(", ")[2]) for one in own):
        ways = [f"{method}, {together}" for method in METHODS] if together else []
        texts = [times.get((case, way), "-") + (" *" if (case, way) in defaults else "") for way in ways]
        memory = [mib(needed.get(case, {}), way) for way in ways]
        peak = mib(peaks.get(case, {}), f"peak, {together}")
        rows.append((case, together, *(texts or with_failure(times.get((case, "")), ["-", "-"])), *memory, peak))
        rows[-1] += ("-",) * (7 - len(rows[-1]))
    columns = ("model", "side by side", *(f"{method}, ms a client" for method in METHODS))
    columns += (*(f"{method}, MiB of the program" for method in METHODS), "MiB at the peak")
    return ResultTable("Clients side by side", columns, rows)


PART = Part(
    NAME,
    150,
    cases,
    table,
    f"Side by side: {CLIENTS} clients with five steps of batch 20 each, all of them the whole model, in float32. MiB "
    "of the program: what it was compiled to hold, with arguments and results. Peak: the most that the allocator has "
    "held, of both ways, where it rose.",
    Choice("The number of clients side by side (`server.clients_per_chunk` unset) with the automatic convolution"),
)
