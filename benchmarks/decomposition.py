"""Which way to truncate a decomposition is the fastest, and how near does it come to the best?

``python -m benchmarks.decomposition``. Square matrices with singular values 1 / i, and the kernels of a freshly
initialised ResNet-18 at the ranks of four tiers. Subspace iteration starts from the exact factors of the same kernels
before noise of a tenth of their norm was added, as after a round of training.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, compile_timed, time_in_turn
from benchmarks.workload import Workload, built_in, initial_params, rank_plan
from fedhm_jax.lowrank.decomposition import Factors, RankPlan, factorize_tree, largest_ranks, recover, truncate
from fedhm_jax.lowrank.truncation import DecompositionMethod
from fedhm_jax.run.blas_threads import one_blas_thread
from fedhm_jax.tree import map_named, named_leaves

METHODS: tuple[DecompositionMethod, ...] = ("svd", "gram", "subspace")
SIDES, SHARES, SLICES = (192, 768, 1536), (8, 2), (1, 2, 4)
RANK_FACTORS = (2.0, 4.0, 8.0)
DRIFT = 0.1
RESNET18 = Workload(built_in("resnet18"), (32, 32, 3), batch_size=64, steps=1)
QUICK = Workload(built_in("resnet8"), (8, 8, 3), batch_size=2, steps=1)

Kernels = Mapping[str, jax.Array]


class Case(NamedTuple):
    """Kernels to factorize for several tiers at once.

    Attributes:
        name: for tables.
        kernels: by path.
        earlier: the same kernels a round ago.
        plans: rank plan of each low-rank tier, from the strongest to the weakest.
    """

    name: str
    kernels: Kernels
    earlier: Kernels
    plans: tuple[RankPlan, ...]


class Row(NamedTuple):
    """What one way took and reached on one case.

    Attributes:
        case: its name.
        method: the way.
        timing: of all kernels' factors.
        ratio: the same over that of ``svd``, repetition by repetition.
        errors: in each tier, the largest ``||M - M_r||_F`` of a kernel over the least possible.
    """

    case: str
    method: DecompositionMethod
    timing: Timing
    ratio: Timing
    errors: tuple[float, ...]


def cases(quick: bool) -> dict[str, Callable[[], Case]]:
    """The matrices, then the model.

    Args:
        quick: tiny ones instead.

    Returns:
        Builders of the cases, by name.
    """
    matrices = {
        f"{side}, r = {side // share}": partial(_matrix, side, share)
        for side in ((32,) if quick else SIDES)
        for share in SHARES
    }
    name, workload = ("ResNet-8", QUICK) if quick else ("ResNet-18", RESNET18)
    return {**matrices, name: partial(_model, name, workload)}


def _matrix(side: int, share: int) -> Case:
    kernels = {"matrix": _falling_spectrum(side)}
    plans = tuple({"matrix": side // (share * part)} for part in SLICES)
    return Case(f"{side}, r = {side // share}", kernels, _moved(kernels), plans)


def _model(name: str, workload: Workload) -> Case:
    tiers = tuple(rank_plan(workload, factor) for factor in RANK_FACTORS)
    factorized = largest_ranks(tiers)
    kernels = {path: leaf for path, leaf in named_leaves(initial_params(workload)).items() if path in factorized}
    return Case(name, kernels, _moved(kernels), tiers)


def _falling_spectrum(side: int) -> jax.Array:
    """A square matrix with singular values 1, 1/2, 1/3, ... and random singular vectors."""
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.normal(size=(side, side)))[0] for _ in range(2))
    return jnp.asarray(left / (1 + np.arange(side)) @ right, jnp.float32)


def _moved(kernels: Kernels) -> Kernels:
    """Every kernel with noise added, `DRIFT` of its norm."""
    generator = np.random.default_rng(1)

    def move(_: str, kernel: jax.Array) -> jax.Array:
        noise = generator.normal(size=kernel.shape)
        scale = DRIFT * float(jnp.linalg.norm(kernel)) / np.linalg.norm(noise)
        return kernel + jnp.asarray(scale * noise, kernel.dtype)

    moved: Kernels = map_named(move, dict(kernels))
    return moved


def measure(case: Case, repetitions: int) -> list[Row]:
    """Times all ways in turn and holds what they return against the best possible.

    Args:
        case: what to factorize.
        repetitions: timings of each way.

    Returns:
        One row a way.
    """
    plan = largest_ranks(case.plans)
    earlier = jax.jit(lambda kernels: factorize_tree(kernels, plan, "svd"))(case.earlier)
    calls: dict[str, Any] = {}
    for method in METHODS:
        compiled = compile_timed(partial(_factorize, plan, method), case.kernels, earlier).call
        calls[method] = partial(compiled, case.kernels, earlier)
    timings = time_in_turn(calls, repetitions)
    best = {path: _least_errors(kernel) for path, kernel in case.kernels.items()}
    rows = []
    for method in METHODS:
        factors = calls[method]()
        errors = tuple(
            max(
                _error(case.kernels[path], truncate(factors[path], rank)) / best[path][rank]
                for path, rank in tier.items()
            )
            for tier in case.plans
        )
        rows.append(Row(case.name, method, timings[method], timings[method].over(timings["svd"]), errors))
    return rows


def _factorize(
    plan: RankPlan, method: DecompositionMethod, kernels: Kernels, earlier: Mapping[str, Factors]
) -> dict[str, Factors]:
    return factorize_tree(kernels, plan, method, earlier)


def _least_errors(kernel: jax.Array) -> np.ndarray:
    """The distance to the nearest matrix of rank 0, 1, 2, ... (Eckart and Young), in double precision."""
    whole = np.asarray(kernel, np.float64)
    if whole.ndim == 4:
        whole = whole.transpose(1, 2, 0, 3).reshape(whole.shape[1] * whole.shape[2], -1)
    squares = np.linalg.svd(whole, compute_uv=False) ** 2
    return np.sqrt(np.cumsum(squares[::-1])[::-1])


def _error(kernel: jax.Array, factors: Factors) -> float:
    return float(np.linalg.norm(np.asarray(kernel, np.float64) - np.asarray(recover(factors), np.float64)))


def build_report(rows: Sequence[Row], command: str) -> Report:
    """Table, notes and CSV rows of finished measurements.

    Args:
        rows: from `measure`.
        command: the command line.

    Returns:
        The report.
    """
    tiers = ("error, tier 1", "error, tier 2", "error, tier 3")
    table = ResultTable(
        "Time: median (least..most). Error: over the least possible",
        ("kernels", "method", "ms", "time / svd", *tiers),
        [
            (row.case, row.method, row.timing.text(1000), row.ratio.text(), *(f"{error:.5f}" for error in row.errors))
            for row in rows
        ],
    )
    notes = (
        "All kernels are factorized once, at the first tier's ranks; the other tiers' factors are slices of these. "
        f"Matrices: singular values 1 / i; tiers at r, r / 2 and r / 4. The ResNet: its initial kernels; tiers f = "
        f"{', '.join(f'{factor:g}' for factor in RANK_FACTORS)} (f = 1 trains the whole kernels).",
        "error: ||M - M_r||_F over that of the best matrix of rank r (Eckart and Young; NumPy, double precision), the "
        "largest of all kernels.",
        f"subspace starts from the exact factors of these kernels with noise of {DRIFT:g} of their norm added.",
    )
    measurements = [
        {"case": row.case, "method": row.method, "repetition": repetition, "seconds": seconds, **_named(row.errors)}
        for row in rows
        for repetition, seconds in enumerate(row.timing.values)
    ]
    return Report("decomposition", command, (table,), notes, measurements)


def _named(errors: Sequence[float]) -> dict[str, float]:
    return {f"error_tier_{tier}": error for tier, error in enumerate(errors, start=1)}


@dataclass(frozen=True)
class Options:
    """Times the three ways to factorize kernels and measures what they lose."""

    repetitions: int = 7
    """Timings of each way; the table gives their median and spread."""
    quick: bool = False
    """Tiny sizes, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    import tyro

    options = tyro.cli(Options, prog="python -m benchmarks.decomposition")
    repetitions = 1 if options.quick else options.repetitions
    builders = list(cases(options.quick).values())
    with one_blas_thread():
        rows = [row for build in track(builders, "Factorizing") for row in measure(build(), repetitions)]
    report = build_report(rows, " ".join(("python -m benchmarks.decomposition", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
