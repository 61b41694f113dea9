"""One call runs a whole simulation."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedhm_jax.client import TrainMetrics
from fedhm_jax.cohort import sample_cohort
from fedhm_jax.config import SimulationConfig
from fedhm_jax.data import Dataset
from fedhm_jax.devices import drop_stragglers
from fedhm_jax.evaluation import Metrics
from fedhm_jax.optimizers import learning_rate_schedule
from fedhm_jax.preparation import Preparation, prepare
from fedhm_jax.reporting import reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult, TierCost
from fedhm_jax.strategies import Setting, Strategy
from fedhm_jax.strategies.base import State
from fedhm_jax.validation import check_config

METRICS = ("accuracy", "top5", "loss")


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
    check_config(config)
    run = prepare(config, data, model, strategy)
    with reporting(config) as report:
        report.start(run.plan)
        for tell in on_start:
            tell(run.plan)

        history: list[Record] = []
        for record, state in _rounds(config, run):  # noqa: B007  the last state is used below
            history.append(record)
            report.round(record)
            for tell_round in on_round:
                tell_round(record)

        result = SimulationResult(
            config=config,
            history=tuple(history),
            final={name: history[-1][name] for name in METRICS},
            costs=run.plan.costs,
            params=run.strategy.global_model(state),
            folder=config.output.folder,
        )
        report.end(result)
    return result


def _rounds(config: SimulationConfig, run: Preparation) -> Iterator[tuple[Record, State]]:
    """The host's loop: sample, train and merge, evaluate now and then, write down."""
    rounds = config.server.rounds
    round_step = jax.jit(run.engine.round_step, donate_argnums=0)
    evaluate = jax.jit(run.engine.evaluate)
    learning_rate = learning_rate_schedule(
        config.local.schedule,
        config.local.learning_rate,
        rounds=rounds,
        milestones=config.local.milestones,
        decay_rate=config.local.decay_rate,
    )
    state = run.state
    record: Record = {}
    for finished in range(rounds):
        started = time.perf_counter()
        sampled = sample_cohort(finished, **run.sampling._asdict())
        cohort, stragglers, took = drop_stragglers(sampled, run.client_seconds, config.devices.deadline)
        rate = learning_rate(finished)
        key = jax.random.fold_in(run.key, finished)
        state, trained = round_step(state, run.data, cohort, jnp.asarray(rate, run.data.mean.dtype), key)
        due = finished + 1 == rounds or (finished + 1) % config.evaluation.every == 0
        tested = evaluate(state, run.data, run.test) if due else {}
        trained, tested = jax.device_get((trained, tested))
        record = {
            "round": finished + 1,
            "learning_rate": rate,
            **_training_record(trained, stragglers, run.plan.costs, record),
            "simulated_seconds": took,
            "total_simulated_seconds": record.get("total_simulated_seconds", 0.0) + took,
            **_test_record(tested, ("global", *run.plan.tier_names)),
            "seconds": time.perf_counter() - started,
        }
        yield record, state


def _training_record(
    trained: Sequence[TrainMetrics], stragglers: np.ndarray, costs: Sequence[TierCost], previous: Record
) -> Record:
    """Counts of one round by tier, and running totals."""
    by_tier: dict[str, dict[str, Any]] = {
        name: {} for name in ("clients", "stragglers", "train_loss", "bytes_down", "bytes_up", "macs")
    }
    for cost, metrics, late in zip(costs, trained, stragglers.tolist(), strict=True):
        clients, samples = int(metrics.clients), int(metrics.samples)
        by_tier["clients"][cost.tier] = clients
        by_tier["stragglers"][cost.tier] = late
        by_tier["train_loss"][cost.tier] = float(metrics.loss) / samples if samples else None
        by_tier["bytes_down"][cost.tier] = (clients + late) * cost.bytes_down
        by_tier["bytes_up"][cost.tier] = clients * cost.bytes_up
        by_tier["macs"][cost.tier] = samples * cost.train_macs
    totals = {
        f"total_{name}": previous.get(f"total_{name}", 0) + sum(by_tier[name].values())
        for name in ("bytes_down", "bytes_up", "macs")
    }
    return {**by_tier, **totals}


def _test_record(tested: Mapping[str, Metrics], models: Sequence[str]) -> Record:
    """Mean metrics by model; empty if the round was not evaluated."""
    if not tested:
        return {}
    return {
        name: {model: float(getattr(tested[model], name)) / float(tested[model].samples) for model in models}
        for name in METRICS
    }
