"""fedhm_jax beside a plain PyTorch loop on the same device, each in a process of its own: workloads A, C and H of
`benchmarks.peers`."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, sentence, timings_of
from benchmarks.on_accelerator.part import Part, cells_of, with_failure
from benchmarks.peers.turns import Variant, quick, run_worker, task_of
from benchmarks.peers.workload import WORKLOADS, Workload
from benchmarks.report import ResultTable
from benchmarks.timing import Timing

NAME = "peers"
NAMES = ("A", "C", "H")
OURS, TORCH = "fedhm_jax", "PyTorch loop"
_LIMIT = 150
"""Seconds of a worker."""


def cases(tiny: bool) -> Sequence[Case]:
    """Two turns of every workload.

    Args:
        tiny: one turn of two clients.

    Returns:
        The cases.
    """
    return [
        Case(name, partial(_turn, name, quick(WORKLOADS[name]) if tiny else WORKLOADS[name], turn, tiny))
        for turn in range(1 if tiny else 2)
        for name in (("A",) if tiny else NAMES)
    ]


def _turn(name: str, workload: Workload, turn: int, tiny: bool, emit: Emit) -> None:
    # The workers take the accelerator, and some let only one process have it.
    jax.config.update("jax_platforms", "cpu")
    rounds, warm_up = (1, 1) if tiny else (20, 10)
    cores = len(os.sched_getaffinity(0))
    for way, peer in ((OURS, "fedhm_jax"), (TORCH, "torch")):
        missing = torch_is_missing() if peer == "torch" else None
        if missing:
            emit(Measurement(NAME, name, way, "seconds", turn, 0.0, failure=missing))
            continue
        task = task_of(workload, Variant(way, peer, 1, cores), rounds=rounds, warm_up=warm_up, cores=cores)
        try:
            found = run_worker(Path(sys.executable), peer, replace(task, device="cuda"), _LIMIT)
        except RuntimeError as error:
            emit(Measurement(NAME, name, way, "seconds", turn, 0.0, failure=sentence(error)))
            continue
        emit(Measurement(NAME, name, way, "seconds", turn, found.wall_seconds / found.rounds))
        emit(Measurement(NAME, name, way, "start-up", turn, found.start_up_seconds))
        emit(Measurement(NAME, name, way, "loss", turn, found.loss))


def torch_is_missing() -> str | None:
    """Why PyTorch cannot compute on a GPU here; None if it can."""
    try:
        import torch
    except ImportError:
        return "left out: PyTorch cannot be imported"
    return None if torch.cuda.is_available() else "left out: PyTorch sees no CUDA device"


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Times of a round, and the PyTorch loop's over fedhm_jax's, turn by turn.

    Args:
        measurements: of all parts.

    Returns:
        The table.
    """
    seconds = timings_of(measurements, NAME)
    start_up, loss = timings_of(measurements, NAME, "start-up"), timings_of(measurements, NAME, "loss")
    cells = cells_of(measurements, NAME, lambda timing: timing.text(1000))
    rows = []
    for case in dict.fromkeys(one.case for one in measurements if one.part == NAME):
        ways = seconds.get(case, {})
        texts = [cells.get((case, way), "-") for way in (OURS, TORCH)]
        # The time may have been over in the middle of a turn.
        turns = min(len(ways[way].values) if way in ways else 0 for way in (OURS, TORCH))
        theirs, ours = (Timing(ways[way].values[:turns]) if turns else None for way in (TORCH, OURS))
        rows.append(
            (
                *(
                    case,
                    *with_failure(cells.get((case, "")), texts),
                    theirs.over(ours).text() if theirs and ours else "-",
                ),
                *(_both(found.get(case, {}), form) for found, form in ((start_up, ".1f"), (loss, ".3f"))),
            )
        )
    columns = ("workload", f"{OURS}, ms a round", f"{TORCH}, ms a round", "PyTorch / fedhm_jax", "start-up s", "loss")
    return ResultTable("Peers: fedhm_jax and a plain PyTorch loop", columns, rows)


def _both(found: Mapping[str, Timing], form: str) -> str:
    return " / ".join(f"{found[way].median:{form}}" if way in found else "-" for way in (OURS, TORCH))


PART = Part(
    NAME,
    150,
    cases,
    table,
    "Peers: workloads of benchmarks/peers/README.md, a process a worker, 20 timed rounds after 10 of warm-up. The "
    "PyTorch loop keeps its data on the GPU, multiplies in TF32 as XLA does, and lets cuDNN try its convolutions.",
)
