"""How near does a round come to the machine's own rate?

``python -m benchmarks.utilisation``. A round of several clients, compiled as the simulator compiles it, is timed in
turn with one large matrix product of the same floating type. Utilisation is the round's floating-point operations a
second over the product's.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, compile_timed, time_in_turn
from benchmarks.workload import (
    Workload,
    build_train_cohort,
    built_in,
    initial_params,
    random_clients,
    rank_plan,
    tier_params,
    train_cohort_arguments,
    training_macs,
)
from fedhm_jax.data.client_data import ClientData
from fedhm_jax.tree import Params

Model = Literal["cnn", "resnet8", "resnet18"]
Compute = Literal["float32", "bfloat16"]
RANK_FACTORS = (1.0, 2.0, 4.0, 8.0)

WORKLOADS: dict[str, Workload] = {
    "cnn": Workload(built_in("cnn"), (28, 28, 1), batch_size=20, steps=5),
    "resnet8": Workload(built_in("resnet8"), (32, 32, 3), batch_size=32, steps=4),
    "resnet18": Workload(built_in("resnet18"), (32, 32, 3), batch_size=32, steps=2),
}
QUICK_WORKLOADS = {"mlp": Workload(built_in("mlp"), (4, 4, 1), batch_size=4, steps=1)}


class Utilisation(NamedTuple):
    """One tier's round beside the matrix product.

    Attributes:
        model: key of the workload.
        tier: ``f1`` and so on.
        compute: floating type of the forward and backward passes.
        flops: of the round, two for each multiply-accumulate.
        round: seconds.
        matmul_flops: of the product.
        matmul: seconds.
    """

    model: str
    tier: str
    compute: str
    flops: float
    round: Timing
    matmul_flops: float
    matmul: Timing

    @property
    def share(self) -> Timing:
        """``(flops / round seconds) / (matmul flops / matmul seconds)``, repetition by repetition."""
        return self.matmul.over(self.round).scaled(self.flops / self.matmul_flops)


class Scale(NamedTuple):
    """Sizes that differ between a CPU and an accelerator.

    Attributes:
        clients: K.
        clients_per_chunk: of them side by side.
        matmul: n of the n x n product.
    """

    clients: int
    clients_per_chunk: int
    matmul: int


def default_scale() -> Scale:
    """As the simulator would run on this backend."""
    return Scale(2, 1, 2048) if jax.default_backend() == "cpu" else Scale(16, 16, 8192)


def measure(
    workloads: Mapping[str, Workload], computes: Sequence[Compute], scale: Scale, repetitions: int
) -> Iterator[Utilisation]:
    """Times the rounds of every tier and the product in turn.

    Args:
        workloads: what to run.
        computes: floating types.
        scale: sizes.
        repetitions: timings of each.

    Yields:
        One result per workload, type and tier.
    """
    for name, workload in workloads.items():
        for compute in computes:
            params, data = initial_params(workload), random_clients(workload, scale.clients)
            matrix = jax.random.normal(jax.random.key(0), (scale.matmul, scale.matmul), jnp.dtype(compute))
            calls: dict[str, Any] = {"matmul": partial(compile_timed(jnp.dot, matrix, matrix).call, matrix, matrix)}
            macs = {}
            for factor in RANK_FACTORS:
                received = tier_of(workload, params, factor)
                calls[f"f{factor:g}"] = compiled_round(workload, received, data, scale, compute)
                macs[f"f{factor:g}"] = training_macs(workload, received) * workload.steps * scale.clients
            timings = time_in_turn(calls, repetitions)
            for tier, count in macs.items():
                yield Utilisation(
                    *(name, tier, compute, 2.0 * count, timings[tier]),
                    *(2.0 * scale.matmul**3, timings["matmul"]),
                )


def tier_of(workload: Workload, params: Params, factor: float) -> Params:
    """The model that the tier of a rank factor receives; the whole one for f = 1."""
    return tier_params(params, rank_plan(workload, factor)) if factor > 1 else params


def compiled_round(
    workload: Workload, received: Params, data: ClientData, scale: Scale, compute: Compute
) -> Callable[[], Any]:
    """The round of one tier's clients, compiled.

    Args:
        workload: what each client does.
        received: the tier's model.
        data: of at least ``scale.clients`` clients.
        scale: how many clients, and how many side by side.
        compute: floating type of the clients' passes.

    Returns:
        A call without arguments.
    """
    arguments = train_cohort_arguments(received, data, scale.clients)
    train = build_train_cohort(workload, scale.clients_per_chunk, compute_dtype=jnp.dtype(compute))
    return partial(compile_timed(train, *arguments).call, *arguments)


def build_report(rows: Sequence[Utilisation], scale: Scale, command: str) -> Report:
    """Table, notes and CSV rows of finished measurements.

    Args:
        rows: from `measure`.
        scale: what they were measured at.
        command: the command line.

    Returns:
        The report.
    """
    table = ResultTable(
        f"{scale.clients} clients, {scale.clients_per_chunk} side by side: median (least..most)",
        ("model", "compute", "tier", "GFLOP a round", "round ms", "round GFLOP/s", "product GFLOP/s", "utilisation"),
        [
            (
                *(row.model, row.compute, row.tier, f"{row.flops / 1e9:.4g}", row.round.text(1000)),
                f"{row.flops / row.round.median / 1e9:.4g}",
                f"{row.matmul_flops / row.matmul.median / 1e9:.4g}",
                row.share.text(),
            )
            for row in rows
        ],
    )
    notes = (
        "GFLOP a round: two per multiply-accumulate of the matrix products and convolutions of the forward and "
        "backward pass, counted from the traced program, a convolution as the matrix product it amounts to, padding "
        f"included. The product is {scale.matmul} x {scale.matmul}, timed in turn with the rounds in the same process.",
    )
    measurements = [
        {
            **{"model": row.model, "compute": row.compute, "tier": row.tier, "repetition": repetition},
            **{"flops": row.flops, "seconds": seconds, "matmul_flops": row.matmul_flops, "matmul_seconds": product},
        }
        for row in rows
        for repetition, (seconds, product) in enumerate(zip(row.round.values, row.matmul.values, strict=True))
    ]
    return Report("utilisation", command, (table,), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Sets a round's arithmetic against a matrix product."""

    models: tuple[Model, ...] = get_args(Model)
    """Models to time."""
    computes: tuple[Compute, ...] = ("float32",)
    """Floating types of the clients' passes."""
    clients: int | None = None
    """Clients of a round; by the backend if unset."""
    clients_per_chunk: int | None = None
    """Clients side by side; by the backend if unset."""
    repetitions: int = 5
    """Timings of each; the table gives their median and spread."""
    quick: bool = False
    """Tiny sizes, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    import tyro

    options = tyro.cli(Options, prog="python -m benchmarks.utilisation")
    usual = default_scale()
    scale = Scale(options.clients or usual.clients, options.clients_per_chunk or usual.clients_per_chunk, usual.matmul)
    workloads: Mapping[str, Workload] = {name: WORKLOADS[name] for name in options.models}
    if options.quick:
        scale, workloads = Scale(2, 1, 64), QUICK_WORKLOADS
    total = len(workloads) * len(options.computes) * len(RANK_FACTORS)
    found = measure(workloads, options.computes, scale, 1 if options.quick else options.repetitions)
    report = build_report(
        list(track(found, "Timing rounds", total=total)),
        scale,
        " ".join(("python -m benchmarks.utilisation", *sys.argv[1:])),
    )
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
