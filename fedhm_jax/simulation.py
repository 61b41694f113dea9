"""One call runs a whole simulation."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.client import TrainMetrics
from fedhm_jax.cohort import sample_cohort
from fedhm_jax.config import SimulationConfig
from fedhm_jax.data import Dataset
from fedhm_jax.evaluation import Metrics
from fedhm_jax.optimizers import learning_rate_schedule
from fedhm_jax.preparation import prepare
from fedhm_jax.reporting import reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult, TierCost
from fedhm_jax.validation import check_config


def simulate(
    config: SimulationConfig | None = None,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
) -> SimulationResult:
    """Runs a federated simulation from its config.

    Args:
        config: what to run; the defaults if not given.
        data: images and labels in place of ``config.data``, from `fedhm_jax.dataset_from_arrays`.
        model: a linen module in place of ``config.model``, called as ``module(images, mask=mask, train=train)``. Tiers factorize the kernels
            of its `LowRankDense` and `LowRankConv` layers.
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
    with reporting(config) as report:
        run = prepare(config, data, model)
        for call in (report.start, *on_start):
            call(run.plan)

        round_step, evaluate = jax.jit(run.engine.round_step, donate_argnums=0), jax.jit(run.engine.evaluate)
        learning_rate = learning_rate_schedule(
            config.local.schedule,
            config.local.learning_rate,
            rounds=config.server.rounds,
            milestones=config.local.milestones,
            decay_rate=config.local.decay_rate,
        )
        state, history = run.state, []
        for finished in range(config.server.rounds):
            started = time.perf_counter()
            cohort = sample_cohort(finished, **run.sampling._asdict())
            rate = learning_rate(finished)
            key = jax.random.fold_in(run.key, finished)
            state, trained = round_step(state, run.data, cohort, jnp.asarray(rate, run.data.mean.dtype), key)
            last = finished + 1 == config.server.rounds
            tested = evaluate(state, run.data, run.test) if last or (finished + 1) % config.evaluation.every == 0 else {}
            trained, tested = jax.device_get((trained, tested))
            record = {
                "round": finished + 1,
                "learning_rate": rate,
                **_training_record(trained, run.plan.costs, history[-1] if history else {}),
                **_test_record(tested),
                "seconds": time.perf_counter() - started,
            }
            history.append(record)
            for call in (report.round, *on_round):
                call(record)

        final = {name: history[-1][name] for name in ("accuracy", "top5", "loss")}
        params = run.strategy.global_model(state)
        result = SimulationResult(config, tuple(history), final, run.plan.costs, params, config.output.folder)
        report.end(result)
    return result


def _training_record(trained: Sequence[TrainMetrics], costs: Sequence[TierCost], previous: Mapping[str, Any]) -> Record:
    """Counts of one round by tier, and running totals."""
    by_tier: dict[str, dict[str, Any]] = {
        name: {} for name in ("clients", "train_loss", "bytes_down", "bytes_up", "macs")
    }
    for cost, metrics in zip(costs, trained, strict=True):
        clients, samples = int(metrics.clients), round(float(metrics.samples))
        by_tier["clients"][cost.tier] = clients
        by_tier["train_loss"][cost.tier] = float(metrics.loss) / samples if samples else None
        by_tier["bytes_down"][cost.tier] = clients * cost.bytes_down
        by_tier["bytes_up"][cost.tier] = clients * cost.bytes_up
        by_tier["macs"][cost.tier] = samples * cost.macs
    totals = {
        f"total_{name}": previous.get(f"total_{name}", 0) + sum(by_tier[name].values())
        for name in ("bytes_down", "bytes_up", "macs")
    }
    return {**by_tier, **totals}


def _test_record(tested: Mapping[str, Metrics]) -> Record:
    """Mean metrics by model; empty if the round was not evaluated."""
    if not tested:
        return {}
    return {
        name: {model: float(getattr(sums, name)) / float(sums.samples) for model, sums in tested.items()}
        for name in ("accuracy", "top5", "loss")
    }
