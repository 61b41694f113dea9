"""How much of a round is the server's work?

``python -m benchmarks.server_step``. The server decomposes every low-rank kernel once, cuts out each tier's model,
recovers and adds up what the clients send, and merges. Its time is set against the clients' training in the paper's
setting (arXiv 2111.14655): 10 clients a round in four equal tiers, 2,500 samples each.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, compile_timed, time_in_turn
from benchmarks.workload import (
    Workload,
    build_train_cohort,
    built_in,
    fedhm_setting,
    initial_params,
    random_clients,
    train_cohort_arguments,
)
from fedhm_jax.data.client_data import Client, client_by_id
from fedhm_jax.lowrank.decomposition import Factors, RankPlan, factorize_tree, largest_ranks
from fedhm_jax.lowrank.truncation import DecompositionMethod
from fedhm_jax.run.blas_threads import one_blas_thread
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.strategies import fedhm
from fedhm_jax.strategies.base import State, Strategy, rank_plans
from fedhm_jax.tree import Params

Model = Literal["cnn", "resnet8", "resnet18"]
RANK_FACTORS = (1.0, 2.0, 4.0, 8.0)
TIERS = tuple(f"f{factor:g}" for factor in RANK_FACTORS)
COHORT_SIZE, SAMPLES, EPOCHS = 10, 2500, (1, 10)

WORKLOADS: dict[str, Workload] = {
    "cnn": Workload(built_in("cnn"), (28, 28, 1), batch_size=64, steps=10),
    "resnet8": Workload(built_in("resnet8"), (32, 32, 3), batch_size=64, steps=4),
    "resnet18": Workload(built_in("resnet18"), (32, 32, 3), batch_size=64, steps=2),
}
QUICK_WORKLOADS = {"mlp": Workload(built_in("mlp"), (4, 4, 1), batch_size=4, steps=1)}


class ServerTime(NamedTuple):
    """What one model costs the server and its clients.

    Attributes:
        model: key of the workload.
        batch_size: samples per local step.
        decomposition: factorizing every kernel that some tier factorizes; a part of ``aggregate``.
        distribute: cutting every tier's model out of the server's state.
        contribute: recovering, weighting and adding one client's model, by tier.
        aggregate: merging, and decomposing the merged model.
        step: one local step of one client, by tier.
        method: how the server decomposes; ``decomposition`` and ``aggregate`` depend on it, the rest is shared.
    """

    model: str
    batch_size: int
    decomposition: Timing
    distribute: Timing
    contribute: Mapping[str, Timing]
    aggregate: Timing
    step: Mapping[str, Timing]
    method: DecompositionMethod = "auto"

    @property
    def label(self) -> str:
        """The model, with the method unless it is left to the package."""
        return self.model if self.method == "auto" else f"{self.model}, {self.method}"

    @property
    def server_seconds(self) -> float:
        """``distribute + aggregate + clients per tier * sum_f contribute_f``, of medians."""
        received = sum(timing.median for timing in self.contribute.values())
        return self.distribute.median + self.aggregate.median + COHORT_SIZE / len(TIERS) * received

    def training_seconds(self, epochs: int) -> float:
        """``clients per tier * epochs * ceil(samples / batch) * sum_f step_f``, of medians."""
        steps = epochs * math.ceil(SAMPLES / self.batch_size)
        return COHORT_SIZE / len(TIERS) * steps * sum(timing.median for timing in self.step.values())

    def share(self, epochs: int) -> float:
        """The server's part of a round, ``server / (server + training)``."""
        return self.server_seconds / (self.server_seconds + self.training_seconds(epochs))


def measure(
    workloads: Mapping[str, Workload], repetitions: int, methods: Sequence[DecompositionMethod] = ("auto",)
) -> Iterator[ServerTime]:
    """Times every part of the server's work, and a local step of each tier.

    Args:
        workloads: what to run.
        repetitions: timings of each part.
        methods: how to decompose, side by side.

    Yields:
        One result per workload and method.
    """
    for model, workload in workloads.items():
        timings = time_in_turn(_parts(workload, methods), repetitions)
        for method in methods:
            yield ServerTime(
                model,
                workload.batch_size,
                decomposition=timings[f"decomposition {method}"],
                distribute=timings["distribute"],
                contribute={tier: timings[f"contribute {tier}"] for tier in TIERS},
                aggregate=timings[f"aggregate {method}"],
                step={tier: timings[f"train {tier}"].scaled(1 / workload.steps) for tier in TIERS},
                method=method,
            )


def _parts(workload: Workload, methods: Sequence[DecompositionMethod]) -> dict[str, Any]:
    """Everything to be timed, compiled."""
    setting = fedhm_setting(workload, RANK_FACTORS)
    strategies = {method: fedhm(setting, decomposition=method) for method in methods}
    strategy, plan = strategies[methods[0]], largest_ranks(rank_plans(setting))
    data = random_clients(workload, clients=1)
    client = client_by_id(data, jnp.int32(0), jnp.array(True))
    params = initial_params(workload)
    state = jax.jit(strategy.init)(params, jax.random.key(0))

    calls: dict[str, Any] = {"distribute": _compiled(partial(_every_tier, strategy), state, client)}
    shapes = jax.eval_shape(partial(_contribute, strategy, 0), state, params, client)
    zeros = jax.device_put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
    total: Contribution = zeros
    for tier, (name, received) in enumerate(zip(TIERS, calls["distribute"](), strict=True)):
        add = compile_timed(partial(_add_contribution, strategy, tier), state, zeros, received, client).call
        total = add(state, total, received, client)
        calls[f"contribute {name}"] = partial(add, state, zeros, received, client)
        calls[f"train {name}"] = _compiled(
            build_train_cohort(workload, clients_per_chunk=1), *train_cohort_arguments(received, data, clients=1)
        )
    counts = jnp.ones(len(TIERS), jnp.int32)
    for method, own in strategies.items():
        calls[f"decomposition {method}"] = _compiled(partial(_factorize, plan, method), params, state.factors)
        # One tier's sum stands for all: merging the others is one more addition each.
        calls[f"aggregate {method}"] = _compiled(own.aggregate, state, [total] * len(TIERS), counts)
    return calls


def _factorize(plan: RankPlan, method: DecompositionMethod, params: Params, earlier: dict[str, Factors]) -> Any:
    return factorize_tree(params, plan, method, earlier)


def _compiled(function: Any, *args: Any) -> Any:
    return partial(compile_timed(function, *args).call, *args)


def _every_tier(strategy: Strategy, state: State, client: Client) -> tuple[Params, ...]:
    return tuple(strategy.distribute(state, tier, client) for tier in range(len(TIERS)))


def _contribute(strategy: Strategy, tier: int, state: State, trained: Params, client: Client) -> Contribution:
    return strategy.contribute(state, tier, trained, client)


def _add_contribution(
    strategy: Strategy, tier: int, state: State, total: Contribution, trained: Params, client: Client
) -> Contribution:
    added = strategy.contribute(state, tier, trained, client)
    summed: Contribution = jax.tree.map(jnp.add, total, added)
    return summed


def build_report(rows: Sequence[ServerTime], command: str) -> Report:
    """Tables, notes and CSV rows of finished measurements.

    Args:
        rows: from `measure`.
        command: the command line.

    Returns:
        The report.
    """
    parts = [_named_parts(row) for row in rows]
    measured = ResultTable(
        "Measured milliseconds: median (least..most)",
        ("part", *(row.label for row in rows)),
        [(name, *(timings[name].text(1000) for timings in parts)) for name in parts[0]],
    )
    per_round = f"A round of {COHORT_SIZE} clients with {SAMPLES:,} samples each"
    extrapolated = ResultTable(
        f"{per_round}, extrapolated from the medians",
        ("model", "batch", "local epochs", "server s", "training s", "server's share"),
        [
            (
                *(row.label, str(row.batch_size), str(epochs)),
                *(f"{row.server_seconds:.3g}", f"{row.training_seconds(epochs):.3g}", f"{row.share(epochs):.2%}"),
            )
            for row in rows
            for epochs in EPOCHS
        ],
    )
    per_tier = f"{COHORT_SIZE / len(TIERS):g}"
    notes = (
        "decomposition: factorize every low-rank kernel, by the method named beside the model (auto if none is); it is "
        "measured on its own and is also a part of aggregate, which merges and decomposes. distribute: cut out every "
        "tier's model. contribute: recover, weight and add one client's model. step: one local step of one client, "
        "inside the engine's loop.",
        f"server = distribute + aggregate + {per_tier} * (sum over tiers of contribute). "
        f"training = {per_tier} * epochs * ceil({SAMPLES} / batch) * (sum over tiers of step). "
        "share = server / (server + training). "
        f"{per_tier} is the mean number of clients of a tier in a cohort; the clients train one after another.",
    )
    measurements = [
        {"model": row.model, "method": row.method, "part": name, "repetition": repetition, "seconds": seconds}
        for row, timings in zip(rows, parts, strict=True)
        for name, timing in timings.items()
        for repetition, seconds in enumerate(timing.values)
    ]
    return Report("server_step", command, (measured, extrapolated), notes, measurements)


def _named_parts(row: ServerTime) -> dict[str, Timing]:
    return {
        "decomposition": row.decomposition,
        "distribute": row.distribute,
        **{f"contribute {tier}": timing for tier, timing in row.contribute.items()},
        "aggregate": row.aggregate,
        **{f"step {tier}": timing for tier, timing in row.step.items()},
    }


@dataclass(frozen=True)
class Options:
    """Times the server's part of a round against the clients' training."""

    models: tuple[Model, ...] = get_args(Model)
    """Models to time."""
    methods: tuple[DecompositionMethod, ...] = ("auto",)
    """Ways to decompose, side by side: svd gram subspace."""
    repetitions: int = 5
    """Timings of each part; the table gives their median and spread."""
    quick: bool = False
    """Tiny sizes, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    import tyro

    options = tyro.cli(Options, prog="python -m benchmarks.server_step")
    workloads: dict[str, Workload] = (
        QUICK_WORKLOADS if options.quick else {name: WORKLOADS[name] for name in options.models}
    )
    repetitions = 1 if options.quick else options.repetitions
    total = len(workloads) * len(options.methods)
    with one_blas_thread():
        rows = list(track(measure(workloads, repetitions, options.methods), "Timing the server", total=total))
    report = build_report(rows, " ".join(("python -m benchmarks.server_step", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
