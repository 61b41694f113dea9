"""One call runs a whole simulation."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
from flax import linen as nn

from fedhm_jax.cohort import sample_cohort
from fedhm_jax.config import SimulationConfig
from fedhm_jax.data import Dataset
from fedhm_jax.devices import drop_stragglers
from fedhm_jax.errors import ConfigError
from fedhm_jax.optimizers import learning_rate_schedule
from fedhm_jax.preparation import Preparation, prepare
from fedhm_jax.program import program_of
from fedhm_jax.reporting import reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult
from fedhm_jax.round_record import METRICS, test_record, training_record
from fedhm_jax.seeds import can_share_a_program
from fedhm_jax.strategies import Setting, Strategy
from fedhm_jax.strategies.base import State
from fedhm_jax.validation import check_config


def simulate(
    config: SimulationConfig | None = None,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
) -> SimulationResult:
    """Runs a federated simulation from its config.

    Args:
        config: what to run; the defaults if not given.
        data: images and labels in place of ``config.data``, from `fedhm_jax.dataset_from_arrays`.
        model: a linen module in place of ``config.model``, called as ``module(images, mask=mask, train=train)``. Tiers
            factorize the kernels of its `LowRankDense` and `LowRankConv` layers.
        strategy: builder of a federated method in place of ``config.strategy.name``, see docs/adding_a_strategy.md.
        on_start: called once with the run's plan, after all checks and before the first round.
        on_round: called after every round with its record.

    Returns:
        History, final metrics, costs, global model, and the folder with the run's files.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.

    Example:
        >>> from fedhm_jax import ServerConfig, SimulationConfig, simulate
        >>> result = simulate(SimulationConfig(server=ServerConfig(rounds=1)))
        >>> sorted(result.final["accuracy"])
        ['f1', 'f2', 'f4', 'f8', 'global']
    """
    config = SimulationConfig() if config is None else config
    together = simulate_together(
        [config], data=data, model=model, strategy=strategy, on_start=on_start, on_round=on_round
    )
    return together[0]


def simulate_seeds(
    config: SimulationConfig,
    seeds: Sequence[int],
    *,
    folders: Sequence[Path] | None = None,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    on_round: Sequence[Callable[[Record], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Runs several seeds of one config as one program, compiled once; each result is that of a run of its own.

    Seeds whose partitions have unequal numbers of samples do not fit into one program and run one after another.

    Args:
        config: what to run; its ``server.seed`` and ``output.folder`` are replaced.
        seeds: the seeds.
        folders: a new folder for each seed's files; None writes nothing.
        data: as in `simulate`.
        model: as in `simulate`.
        strategy: as in `simulate`.
        on_round: called with every record of every seed. A record's ``seconds`` are its share of the wall time.

    Returns:
        One result a seed.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.

    Example:
        >>> from fedhm_jax import ServerConfig, SimulationConfig, simulate_seeds
        >>> results = simulate_seeds(SimulationConfig(server=ServerConfig(rounds=1)), seeds=(0, 1))
        >>> [result.config.server.seed for result in results]
        [0, 1]
    """
    places: Sequence[Path | None] = [None] * len(seeds) if folders is None else folders
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ConfigError.of("seeds", tuple(seeds), "one or more different integers")
    if len(places) != len(seeds):
        raise ConfigError.of("folders", tuple(map(str, places)), f"one folder for each of the {len(seeds)} seeds")
    configs = [
        replace(config, server=replace(config.server, seed=seed), output=replace(config.output, folder=place))
        for seed, place in zip(seeds, places, strict=True)
    ]
    return simulate_together(configs, data=data, model=model, strategy=strategy, on_round=on_round)


def simulate_together(
    configs: Sequence[SimulationConfig],
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Runs configs that differ in nothing but seed, learning rate and output folder, as one program.

    Args:
        configs: one a run.
        data: as in `simulate`.
        model: as in `simulate`.
        strategy: as in `simulate`.
        on_start: called with every run's plan.
        on_round: called with every record of every run.

    Returns:
        One result a run.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
    """
    for config in configs:
        check_config(config)
    runs = [prepare(config, data, model, strategy) for config in configs]
    if not can_share_a_program([run.data for run in runs]):
        alone = partial(simulate_together, data=data, model=model, strategy=strategy)
        return tuple(alone([config], on_start=on_start, on_round=on_round)[0] for config in configs)
    with ExitStack() as stack:
        reports = [stack.enter_context(reporting(config)) for config in configs]
        for report, run in zip(reports, runs, strict=True):
            report.start(run.plan)
            for tell in on_start:
                tell(run.plan)

        histories: list[list[Record]] = [[] for _ in runs]
        for records, states in _rounds(configs, runs):  # noqa: B007  the last states are used below
            for history, report, record in zip(histories, reports, records, strict=True):
                history.append(record)
                report.round(record)
                for tell_round in on_round:
                    tell_round(record)

        results = tuple(
            SimulationResult(
                config=config,
                history=tuple(history),
                final={name: history[-1][name] for name in METRICS},
                costs=run.plan.costs,
                params=run.strategy.global_model(state),
                folder=config.output.folder,
            )
            for config, run, history, state in zip(configs, runs, histories, states, strict=True)
        )
        for report, result in zip(reports, results, strict=True):
            report.end(result)
    return results


def _rounds(
    configs: Sequence[SimulationConfig], runs: Sequence[Preparation]
) -> Iterator[tuple[list[Record], list[State]]]:
    """The host's loop: sample, train and merge, evaluate now and then, write down."""
    config, program = configs[0], program_of(runs)
    rounds = config.server.rounds
    schedules = [
        learning_rate_schedule(
            local.schedule,
            local.learning_rate,
            rounds=rounds,
            milestones=local.milestones,
            decay_rate=local.decay_rate,
        )
        for local in (one.local for one in configs)
    ]
    state = program.state
    records: list[Record] = [{} for _ in runs]
    for finished in range(rounds):
        started = time.perf_counter()
        sampled = [sample_cohort(finished, **run.sampling._asdict()) for run in runs]
        in_time = [
            drop_stragglers(cohort, run.client_seconds, config.devices.deadline)
            for cohort, run in zip(sampled, runs, strict=True)
        ]
        rates = [schedule(finished) for schedule in schedules]
        keys = [jax.random.fold_in(run.key, finished) for run in runs]
        cohorts = [cohort for cohort, _, _ in in_time]
        state, trained = program.round_step(state, cohorts, rates, keys)
        due = finished + 1 == rounds or (finished + 1) % config.evaluation.every == 0
        tested = program.evaluate(state) if due else [{}] * len(runs)
        trained, tested = jax.device_get((trained, tested))
        seconds = (time.perf_counter() - started) / len(runs)
        records = [
            {
                "round": finished + 1,
                "learning_rate": rate,
                **training_record(metrics, stragglers, run.plan.costs, previous),
                "simulated_seconds": took,
                "total_simulated_seconds": previous.get("total_simulated_seconds", 0.0) + took,
                **test_record(test, ("global", *run.plan.tier_names)),
                "seconds": seconds,
            }
            for run, rate, previous, metrics, test, (_, stragglers, took) in zip(
                runs, rates, records, trained, tested, in_time, strict=True
            )
        ]
        yield records, program.states(state)
