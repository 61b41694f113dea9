"""Runs in which every client trains alone: one record, of the state after the last round.

A client of a federation is one of the m of K in a round, and so takes part in R m / K of R rounds in the mean. So many
rounds, rounded and at least one, each client trains here, every round as there: E epochs with a fresh optimizer. The
j-th of n has the learning rate of the federation's round floor((j + 1/2) R / n), so that all of the schedule is passed
through.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from fedhm_jax.client import TrainMetrics, even_lanes
from fedhm_jax.config import OutputConfig, SimulationConfig, check_config
from fedhm_jax.engine import Metrics, build_alone, is_first
from fedhm_jax.errors import ConfigError, OutOfMemoryError
from fedhm_jax.reporting import reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult
from fedhm_jax.run.blas_threads import one_blas_thread
from fedhm_jax.run.interruption import wait
from fedhm_jax.run.memory import reporting_out_of_memory, training_error
from fedhm_jax.run.preparation.assembly import Run, prepare
from fedhm_jax.run.preparation.cohort import client_seconds_of
from fedhm_jax.run.preparation.handed_over import NOTHING, HandedOver
from fedhm_jax.run.preparation.platform_defaults import RUNS_OFTEN, compiler_options
from fedhm_jax.run.program_cache import kept_programs
from fedhm_jax.run.round_plan import learning_rates
from fedhm_jax.run.round_record import test_record, training_record
from fedhm_jax.run.watching import tell
from fedhm_jax.run.worst_client import WORST_CLIENT, own_accuracies, samples_by_class, worst_of
from fedhm_jax.tasks import BY_CLASS

Tree = TypeVar("Tree")

Program = Callable[..., tuple[TrainMetrics, Metrics]]
"""A compiled `fedhm_jax.engine.alone.TrainAlone`."""

_NAME = "local_only"
"""What such a run is called in its files, where another names the strategy that was handed over."""


class _Tier(NamedTuple):
    """Clients of a tier after their training, the largest first; metrics have a leading axis of clients."""

    number: int
    clients: np.ndarray
    trained: TrainMetrics
    tested: Metrics


def local_rounds(rounds: int, cohort_size: int, clients: int) -> int:
    """How many rounds a client of a federation takes part in, ``max(round(R m / K), 1)``.

    Args:
        rounds: of the federation, R.
        cohort_size: clients of a round, m.
        clients: registered clients, K.

    Returns:
        The expected number, rounded.

    Example:
        >>> local_rounds(10, 10, 20), local_rounds(3, 1, 100)
        (5, 1)
    """
    return max(round(rounds * cohort_size / clients), 1)


def local_schedule(schedule: Callable[[int], float], rounds: int, own: int) -> list[float]:
    """The learning rates of a client's own rounds, spread evenly over a federation's.

    Args:
        schedule: from a round of the federation, from 0, to its rate.
        rounds: how many there are.
        own: number of the client's rounds.

    Returns:
        One rate a round.

    Example:
        >>> local_schedule(float, rounds=10, own=5), local_schedule(float, rounds=3, own=3)
        ([1.0, 3.0, 5.0, 7.0, 9.0], [0.0, 1.0, 2.0])
    """
    return [schedule((2 * number + 1) * rounds // (2 * own)) for number in range(own)]


def simulate_alone(
    configs: Sequence[SimulationConfig],
    given: HandedOver = NOTHING,
    *,
    on_round: Sequence[Callable[[Record], None]] = (),
    on_notice: Sequence[Callable[[str], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Trains every client of some runs alone, from the first model of its tier; the runs share a program.

    Args:
        configs: one a run; they differ in nothing but seed, learning rate and output folder. Tiers are fixed.
        given: what is handed over in place of what the configs say.
        on_round: called with every run's one record.
        on_notice: called with a line about what the runs decided for themselves.

    Returns:
        One result a run, without trained models. Accuracy and loss of a tier are means over its clients' own models;
        there is no global one, and nothing for a tier that has no clients.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
        OutOfMemoryError: as in `fedhm_jax.simulate`.
    """
    for config in configs:
        check_config(config)
        if config.server.samples == "sharded":
            raise ConfigError.of("server.samples", "sharded", "'replicated' for clients that train alone")

    def notify(notice: str) -> None:
        for callback in on_notice:
            callback(notice)

    with kept_programs(configs[0].output.compilation_cache), one_blas_thread():
        runs = [prepare(config, given) for config in configs]
        for notice in dict.fromkeys(notice for run in runs for notice in run.parts.notices):
            notify(notice)
        first, capacity = runs[0].parts, max(int(run.parts.sampling.sizes.max()) for run in runs)
        options = compiler_options(jax.default_backend(), RUNS_OFTEN)
        programs = [
            jax.jit(build_alone(first.strategy, first.training, capacity, tier, first.mesh), compiler_options=options)
            for tier in range(len(first.plan.tier_names))
        ]
        return tuple(_simulate(run, programs, on_round, notify) for run in runs)


def _simulate(
    run: Run,
    programs: Sequence[Program],
    on_round: Sequence[Callable[[Record], None]],
    notify: Callable[[str], None],
) -> SimulationResult:
    """One run, reported like any other."""
    config, sampling = run.parts.plan.config, run.parts.sampling
    with reporting(config if is_first() else replace(config, output=OutputConfig())) as report:
        plan = _plan(run)
        report.start(plan)
        started = time.perf_counter()
        own = local_rounds(config.server.rounds, sampling.cohort_size, len(sampling.sizes))
        rates = local_schedule(learning_rates(run), config.server.rounds, own)
        run, tiers = _train(run, programs, rates, notify)
        record = {**_record(run, plan, tiers, rates), "seconds": time.perf_counter() - started}
        report.round(record)
        tell(on_round, record, "in its only record")
        final = {name: record[name] for name in (*plan.metrics, WORST_CLIENT) if name in record}
        result = SimulationResult(config, (record,), final, plan.costs, None, config.output.folder, score=plan.score)
        report.end(result)
    return result


def _plan(run: Run) -> RunPlan:
    """The run's plan where nothing is sent: no bytes, and no tier without clients, for which nothing is trained."""
    plan = run.parts.plan
    costs = tuple(replace(cost, bytes_down=0, bytes_up=0) for cost in plan.costs if cost.clients > 0)
    return replace(plan, costs=costs, handed_over={**plan.handed_over, "strategy": _NAME})


def _train(
    run: Run, programs: Sequence[Program], rates: Sequence[float], notify: Callable[[str], None]
) -> tuple[Run, list[_Tier]]:
    """Trains all clients; fewer side by side where they do not fit into memory and nobody chose how many."""
    config, tier_of_client = run.parts.plan.config, run.parts.sampling.tier_of_client
    assert tier_of_client is not None
    occupied = sorted(set(tier_of_client.tolist()))
    automatic = config.server.clients_per_chunk is None and jax.process_count() == 1
    while True:
        try:
            with reporting_out_of_memory(partial(training_error, config, run.clients_per_chunk)):
                return run, [_train_tier(run, programs[tier], tier, rates) for tier in occupied]
        except OutOfMemoryError as error:
            if not automatic or error.clients_per_chunk is None:
                raise
            fewer = error.clients_per_chunk
        notify(f"ran out of memory with {run.clients_per_chunk} clients side by side; trying {fewer}")
        run = run._replace(clients_per_chunk=fewer)


def _train_tier(run: Run, program: Program, tier: int, rates: Sequence[float]) -> _Tier:
    """Trains a tier's clients, some at a time, the largest first."""
    sampling, mesh = run.parts.sampling, run.parts.mesh
    members = np.flatnonzero(sampling.tier_of_client == tier)
    clients = members[np.argsort(-sampling.sizes[members], kind="stable")].astype(np.int32)
    places = even_lanes(len(clients), run.clients_per_chunk * (1 if mesh is None else mesh.size))
    schedule, found = np.asarray(rates, np.float32), []
    for start in range(0, len(clients), places):
        some = clients[start : start + places]
        padded = np.pad(some, (0, places - len(some)))
        results = program(run.state, run.data, run.test, padded, np.int32(len(some)), schedule, run.key)
        wait(partial(jax.block_until_ready, results))
        found.append(_first(len(some), jax.device_get(results)))
    return _Tier(tier, clients, *jax.tree.map(lambda *leaves: np.concatenate(leaves), *found))


def _first(count: int, results: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf[:count], results)


def _record(run: Run, plan: RunPlan, tiers: Sequence[_Tier], rates: Sequence[float]) -> Record:
    """The last of the clients' rounds as the federation's last, with the totals of all of them."""
    config, nobody = plan.config, np.zeros(len(tiers), int)
    at_once = replace(config, devices=replace(config.devices, latency=(0.0,)))
    costs = [replace(cost, bytes_down=0, bytes_up=0) for cost in run.parts.plan.costs]
    by_client = client_seconds_of(at_once, costs, run.parts.sampling.sizes)
    seconds = max(float(by_client[tier.number, tier.clients].max()) for tier in tiers)
    trained = [TrainMetrics(*(np.sum(values, dtype=float) for values in tier.trained)) for tier in tiers]
    tested = {plan.tier_names[tier.number]: _summed(tier.tested) for tier in tiers}
    of_a_round = sum(int(sums.samples) * cost.train_macs for sums, cost in zip(trained, plan.costs, strict=True))
    before = {"total_macs": (len(rates) - 1) * of_a_round}
    return {
        "round": config.server.rounds,
        "learning_rate": rates[-1],
        "clients_per_chunk": run.clients_per_chunk,
        **training_record(trained, nobody, nobody, plan.costs, before),
        "simulated_seconds": seconds,
        "total_simulated_seconds": len(rates) * seconds,
        **test_record(tested, tuple(tested), plan.metrics),
        **_worst_client(run, tiers),
    }


def _summed(metrics: Metrics) -> Metrics:
    summed: Metrics = jax.tree.map(lambda values: np.sum(values, axis=0, dtype=float), metrics)
    return summed


def _worst_client(run: Run, tiers: Sequence[_Tier]) -> Record:
    """Each client is judged by its own model."""
    plan = run.parts.plan
    if not plan.config.evaluation.worst_client:
        return {}
    samples = samples_by_class(run.parts)
    found = [np.asarray(tier.tested[BY_CLASS].sum) for tier in tiers]
    own = [
        own_accuracies(plan.label_counts[tier.clients], hits, samples) for tier, hits in zip(tiers, found, strict=True)
    ]
    return worst_of(np.concatenate(own))
