"""Does a round over K clients in one compiled program take longer than the same clients one after another?

``python -m benchmarks.round_time``. The rival is what a JAX user writes without a simulator: a Python loop over clients
and batches around one compiled training step. It may use XLA's fast convolution (``lax``), which on a CPU exists only
outside of loops, knows its batches beforehand, and needs no masks.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
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
    residual_block,
    tier_params,
    train_cohort_arguments,
)
from fedhm_jax.client.update import add_penalties
from fedhm_jax.data.client_data import ClientData, epoch_order
from fedhm_jax.layers.convolution import ConvMethod
from fedhm_jax.tasks import CLASSIFICATION
from fedhm_jax.tree import Params

Model = Literal["cnn", "resnet18", "block128", "block256", "block512"]
RANK_FACTORS = (1.0, 4.0)
SEQUENTIAL: dict[str, ConvMethod] = {"sequential lax": "lax", "sequential gemm": "gemm"}
BATCHED = ("batched loop", "batched vmap")
# Other batches give a difference of the order of 1. Rounding alone grows to a few hundredths in two steps of ResNet-18,
# between the two sequential ways too, where it decides on which side of zero a ReLU falls.
ALLOWED_DIFFERENCE = 0.1


class Case(NamedTuple):
    """A workload and the numbers of clients K to run it with."""

    workload: Workload
    cohorts: tuple[int, ...]


CASES: dict[str, Case] = {
    "cnn": Case(Workload(built_in("cnn"), (28, 28, 1), batch_size=20, steps=5), (1, 4, 16)),
    "resnet18": Case(Workload(built_in("resnet18"), (32, 32, 3), batch_size=32, steps=2), (1, 4)),
    # The stages of a ResNet-18 on their own: 16 whole ResNets side by side would not fit a laptop.
    "block128": Case(Workload(residual_block(128), (16, 16, 3), batch_size=32, steps=2), (1, 4, 16)),
    "block256": Case(Workload(residual_block(256), (8, 8, 3), batch_size=32, steps=2), (1, 4, 16)),
    "block512": Case(Workload(residual_block(512), (4, 4, 3), batch_size=32, steps=2), (1, 4, 16)),
}
QUICK_CASES = {"block8": Case(Workload(residual_block(8), (4, 4, 3), batch_size=4, steps=2), (2,))}


class RoundTime(NamedTuple):
    """One row of the results.

    Attributes:
        model: key of the case.
        tier: ``f1`` or ``f4``.
        clients: K.
        compile_seconds: by variant.
        timings: seconds of a round, by variant; ``batched vmap`` is left out for one client.
        difference: largest distance of a variant's result from the first one's, over the length of the round's update.
    """

    model: str
    tier: str
    clients: int
    compile_seconds: Mapping[str, float]
    timings: Mapping[str, Timing]
    difference: float

    def ratio(self, variant: str) -> Timing:
        """Time over that of the better of the two sequential ways."""
        best = min((self.timings[name] for name in SEQUENTIAL), key=lambda timing: timing.median)
        return self.timings[variant].over(best)


def measure(cases: Mapping[str, Case], repetitions: int) -> Iterator[RoundTime]:
    """Times every case in every tier with every number of clients.

    Args:
        cases: what to run.
        repetitions: timings of each variant.

    Yields:
        One row per case, tier and K.

    Raises:
        RuntimeError: batched and sequential training disagree.
    """
    for model, (workload, cohorts) in cases.items():
        params = initial_params(workload)
        for rank_factor in RANK_FACTORS:
            received = tier_params(params, rank_plan(workload, rank_factor))
            for clients in cohorts:
                yield _measure_round(model, f"f{rank_factor:g}", workload, received, clients, repetitions)


def _measure_round(
    model: str, tier: str, workload: Workload, received: Params, clients: int, repetitions: int
) -> RoundTime:
    data = random_clients(workload, clients)
    built = {name: _sequential(workload, method, received, data) for name, method in SEQUENTIAL.items()}
    for name, chunk in zip(BATCHED, (1, clients), strict=True):
        # A chunk of one client is the loop itself.
        if name == "batched loop" or chunk > 1:
            built[name] = _batched(workload, received, data, chunk)

    calls = {name: call for name, (call, _) in built.items()}
    difference = largest_difference([call() for call in calls.values()], received, clients)
    compile_seconds = {name: seconds for name, (_, seconds) in built.items()}
    return RoundTime(model, tier, clients, compile_seconds, time_in_turn(calls, repetitions), difference)


def largest_difference(results: Sequence[Params], received: Params, clients: int) -> float:
    """Distance of each result from the first, over the length of the round's update; the largest of them.

    Args:
        results: sums of the clients' trained models.
        received: the model that each client started from.
        clients: K.

    Returns:
        ``max_i ||W_i - W_0|| / ||W_0 - K W||``.

    Raises:
        RuntimeError: more than rounding can explain.

    Example:
        >>> largest_difference([jnp.array([2.0]), jnp.array([2.0])], received=jnp.array([0.5]), clients=2)
        0.0
    """
    first, *others = (_flat(result) for result in results)
    update = np.linalg.norm(first - clients * _flat(received))
    difference = max(float(np.linalg.norm(other - first) / update) for other in others)
    if not difference < ALLOWED_DIFFERENCE:
        raise RuntimeError(f"difference of the results is {difference:.2g}, but must be below {ALLOWED_DIFFERENCE:g}")
    return difference


def _flat(params: Params) -> np.ndarray:
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(jax.device_get(params))])


def _batched(workload: Workload, received: Params, data: ClientData, chunk: int) -> tuple[Callable[[], Params], float]:
    """A round as the engine runs it, in one compiled program; and the seconds to compile it."""
    arguments = train_cohort_arguments(received, data, len(data.counts))
    train_cohort = compile_timed(build_train_cohort(workload, chunk), *arguments)
    return lambda: train_cohort.call(*arguments)[0], train_cohort.seconds


def _sequential(
    workload: Workload, method: ConvMethod, received: Params, data: ClientData
) -> tuple[Callable[[], Params], float]:
    """The same round as a Python loop over clients and batches; and the seconds to compile its parts."""
    training = workload.training
    *_, learning_rate, key = train_cohort_arguments(received, data, len(data.counts))
    optimizer = training.optimizer(jnp.float32(learning_rate))
    model = workload.build(method)
    batches = _batches(workload, data, key)

    def train_step(params: Params, opt_state: Any, received: Params, data: ClientData, rows: jax.Array) -> Any:
        images, labels = CLASSIFICATION.look_up(data.samples, rows)

        def loss(params: Params) -> jax.Array:
            logits: Any = model.apply({"params": params}, images, train=True)
            return CLASSIFICATION.loss(logits, labels).mean()

        gradient = add_penalties(jax.grad(loss)(params), params, received, training)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    start = compile_timed(optimizer.init, received)
    step = compile_timed(train_step, received, start.call(received), received, data, batches[0, 0])
    add = compile_timed(lambda total, params: jax.tree.map(jnp.add, total, params), received, received)

    def run() -> Params:
        total = None
        for client_batches in batches:
            params, opt_state = received, start.call(received)
            for rows in client_batches:
                params, opt_state = step.call(params, opt_state, received, data, rows)
            total = params if total is None else add.call(total, params)
        return total

    return run, start.seconds + step.seconds + add.seconds


def _batches(workload: Workload, data: ClientData, key: jax.Array) -> np.ndarray:
    """Rows of the samples in each batch of the engine's first epoch, (clients, steps, batch)."""
    samples = workload.steps * workload.batch_size
    rows = []
    for client_id in range(len(data.counts)):
        order = epoch_order(jax.random.fold_in(jax.random.fold_in(key, client_id), 0), data.counts[client_id], samples)
        rows.append(data.indices[data.offsets[client_id] + order])
    return np.asarray(jnp.stack(rows)).reshape(len(rows), workload.steps, workload.batch_size)


def build_report(rows: Sequence[RoundTime], command: str) -> Report:
    """Tables, notes and CSV rows of finished measurements.

    Args:
        rows: from `measure`.
        command: the command line.

    Returns:
        The report.
    """
    variants = (*SEQUENTIAL, *BATCHED)
    times = ResultTable(
        "Milliseconds a round, and ratios to the better sequential way: median (least..most)",
        ("model", "tier", "K", *variants, *(f"{name.split()[1]} / sequential" for name in BATCHED)),
        [
            (
                *(row.model, row.tier, str(row.clients)),
                *(row.timings[name].text(1000) if name in row.timings else "-" for name in variants),
                *(row.ratio(name).text() if name in row.timings else "-" for name in BATCHED),
            )
            for row in rows
        ],
    )
    compilation = ResultTable(
        "Seconds to compile, and relative difference of the results",
        ("model", "tier", "K", *variants, "difference"),
        [
            (
                *(row.model, row.tier, str(row.clients)),
                *(f"{row.compile_seconds[name]:.1f}" if name in row.timings else "-" for name in variants),
                f"{row.difference:.1e}",
            )
            for row in rows
        ],
    )
    measurements = [
        {
            **{"model": row.model, "tier": row.tier, "clients": row.clients, "variant": name},
            **{"repetition": repetition, "seconds": seconds, "compile_seconds": row.compile_seconds[name]},
        }
        for row in rows
        for name, timing in row.timings.items()
        for repetition, seconds in enumerate(timing.values)
    ]
    notes = (
        "sequential: a Python loop over clients and batches around one compiled step, convolutions as named. "
        "batched: the engine's one program, a loop over clients or all of them side by side (vmap). "
        "A ratio below 1 means that the batched round is faster. "
        "difference: distance of the summed models over the length of the summed updates.",
    )
    return Report("round_time", command, (times, compilation), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Times a round of K clients in one program against the same clients one after another."""

    models: tuple[Model, ...] = get_args(Model)
    """What to train; blockN is one residual block of ResNet-18 with N channels between a stem and a classifier."""
    repetitions: int = 5
    """Timings of each variant; the table gives their median and spread."""
    quick: bool = False
    """Tiny sizes, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.round_time")
    cases: dict[str, Case] = QUICK_CASES if options.quick else {name: CASES[name] for name in options.models}
    total = len(RANK_FACTORS) * sum(len(case.cohorts) for case in cases.values())
    repetitions = 1 if options.quick else options.repetitions
    rows = list(track(measure(cases, repetitions), "Timing rounds", total=total))
    report = build_report(rows, " ".join(("python -m benchmarks.round_time", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
