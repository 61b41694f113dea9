"""Where does the time of local training go?

``python -m benchmarks.hot_spots``. Runs clients of the peers' workloads under JAX's profiler and adds up the compiled
operations by the layer they come from. A fused operation counts for the layer of its result.
"""

import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import time_in_turn
from benchmarks.workload import (
    Workload,
    build_train_cohort,
    built_in,
    initial_params,
    random_clients,
    train_cohort_arguments,
)

WORKLOADS: Mapping[str, Workload] = {
    "cnn": Workload(built_in("cnn"), (28, 28, 1), batch_size=20, steps=5),
    "resnet8": Workload(built_in("resnet8"), (32, 32, 3), batch_size=20, steps=5),
    "vit": Workload(built_in("vit"), (32, 32, 3), batch_size=16, steps=4),
}
"""The clients of the peers' workloads A and C, and T's blocks on images: 64 patches for 64 symbols."""

_KINDS = (
    ("norms", r"norm"),
    ("dense layers", r"/(dense|classifier|query|key|value|output)\w*/"),
    ("attention's own products and softmax", r"/attention/"),
    ("convolutions", r"/(stem|conv|shortcut|projection|patches)\w*/"),
    ("activations, pooling, sums of blocks", r"jvp|max_pool"),
    ("batches, optimizer, the rest", r""),
)
"""Kinds of work and what the name of an operation holds, the first that fits."""

_NAMED = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = (.*?)op_name="([^"]*)"', re.MULTILINE)
_COMPUTATION = re.compile(r"^%?([\w.-]+) \([^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


class Share(NamedTuple):
    """What a kind of work took, in seconds of the profiled run.

    Attributes:
        kind: of work.
        forward: in the pass forward, and outside of the passes.
        backward: in the pass backward.
    """

    kind: str
    forward: float
    backward: float


class Row(NamedTuple):
    """Where one workload's time went.

    Attributes:
        model: name.
        step: seconds a step, not profiled.
        shares: by kind.
    """

    model: str
    step: float
    shares: Sequence[Share]


def kind_of(operation: str) -> str:
    """The kind of work that an operation belongs to, by the name that JAX gave it.

    Example:
        >>> kind_of("jit(f)/while/body/transpose(jvp(CNN))/conv/conv_general_dilated")
        'convolutions'
    """
    return next(kind for kind, pattern in _KINDS if re.search(pattern, operation))


def add_up(seconds: Mapping[str, float], program: str) -> list[Share]:
    """Adds up operations by kind.

    Args:
        seconds: by the name of the compiled operation.
        program: text of the compiled program, which tells where each operation comes from.

    Returns:
        One share a kind.
    """
    forward = dict.fromkeys((kind for kind, _ in _KINDS), 0.0)
    backward = dict(forward)
    with_convolution = {name for name, body in _COMPUTATION.findall(program) if " convolution(" in body}
    for name, call, origin in _NAMED.findall(program):
        # Loops and branches hold other operations, which are counted by themselves.
        if not re.match(r"while|conditional|call", name):
            called = re.search(r"calls=%?([\w.-]+)", call)
            kind = "convolutions" if called and called[1] in with_convolution else kind_of(origin)
            (backward if "transpose(" in origin else forward)[kind] += seconds.get(name, 0.0)
    return [Share(kind, forward[kind], backward[kind]) for kind, _ in _KINDS]


def measure(name: str, clients: int, repetitions: int) -> Row:
    """Times and profiles clients one after another.

    Args:
        name: of the workload.
        clients: how many.
        repetitions: timings; the median counts.

    Returns:
        The row.
    """
    workload = WORKLOADS[name]
    arguments = train_cohort_arguments(initial_params(workload), random_clients(workload, clients), clients)
    call = jax.jit(build_train_cohort(workload, clients_per_chunk=1)).lower(*arguments).compile()
    seconds = time_in_turn({name: lambda: call(*arguments)}, repetitions)[name].median
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call(*arguments))
        (trace,) = Path(folder).rglob("*.xplane.pb")
        spent: dict[str, float] = defaultdict(float)
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
            for line in plane.lines:
                for event in line.events:
                    spent[event.name] += event.duration_ns / 1e9
    return Row(name, seconds / clients / workload.steps, add_up(spent, call.as_text() or ""))


def build_report(rows: Sequence[Row], command: str) -> Report:
    """A table a workload, notes and CSV rows.

    Args:
        rows: the workloads.
        command: the command line.

    Returns:
        The report.
    """

    def table(row: Row) -> ResultTable:
        total = sum(share.forward + share.backward for share in row.shares)
        cells: list[tuple[str, ...]] = [
            (share.kind, f"{100 * share.forward / total:.0f} %", f"{100 * share.backward / total:.0f} %")
            for share in row.shares
        ]
        return ResultTable(f"{row.model}: {row.step * 1000:.3g} ms a step", ("work", "forward", "backward"), cells)

    notes = (
        "Batches of 20, of the vit 16; one client after another, on one core. The time of a step is taken without the "
        "profiler, the shares with it. A fused operation counts as a convolution if it holds one, otherwise for the "
        "layer of its result; what recomputes a layer's input for a gradient counts with the gradient.",
    )
    measurements = [{"model": row.model, "step": row.step, **share._asdict()} for row in rows for share in row.shares]
    return Report("hot_spots", command, tuple(map(table, rows)), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Shows what local training spends its time on."""

    models: tuple[str, ...] = tuple(WORKLOADS)
    """Which workloads."""
    clients: int = 10
    """Clients one after another."""
    repetitions: int = 5
    """Timings without the profiler."""
    results: Path = RESULTS
    """Folder of the written tables."""
    quick: bool = False
    """One client, one repetition, nothing written: shows that the benchmark runs."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    import tyro

    options = tyro.cli(Options, prog="python -m benchmarks.hot_spots")
    clients, repetitions = (1, 1) if options.quick else (options.clients, options.repetitions)
    if hasattr(os, "sched_setaffinity"):
        # With several cores XLA lets some convolutions run beside what follows, and their time goes missing.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = [measure(name, clients, repetitions) for name in options.models]
    report = build_report(rows, " ".join(("python -m benchmarks.hot_spots", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
