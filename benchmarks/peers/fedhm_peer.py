"""fedhm_jax, as its README shows it: `simulate` on arrays, with a callback that tells the end of each round."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.workload import CLASSES, Task, client_data, probe_batches
from fedhm_jax import (
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    build_model,
    dataset_from_arrays,
    simulate,
)
from fedhm_jax.tasks import cross_entropy


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    jax.config.update("jax_num_cpu_devices", task.at_once)
    workload = task.workload
    parts = [client_data(workload, client) for client in range(workload.clients)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    some = slice(workload.batch_size)
    data = dataset_from_arrays(images, labels, images[some], labels[some], classes=CLASSES)
    result = simulate(config_of(task), data=data, on_round=[lambda _: round_done()])

    model = build_model(workload.model, CLASSES)

    def loss(images: np.ndarray, labels: np.ndarray) -> float:
        logits: Any = model.apply({"params": result.params}, jnp.asarray(images), train=True)
        return float(cross_entropy(logits, jnp.asarray(labels, jnp.int32)).mean())

    return float(np.mean([loss(*batch) for batch in probe_batches(workload)]))


def config_of(task: Task) -> SimulationConfig:
    """The task in fedhm_jax's terms: plain SGD and equal weights.

    Rounds up to an evaluation go to the device together, and are told of when they are finished. An evaluation, of one
    batch, therefore ends the warm-up and the timed rounds; what it takes is timed.
    """
    workload = task.workload
    tiers = len(workload.rank_factors)
    return SimulationConfig(
        partition=PartitionConfig(clients=workload.clients),
        model=ModelConfig(name=workload.model),
        tiers=TiersConfig(
            rank_factors=workload.rank_factors, counts=tuple(workload.clients // tiers for _ in range(tiers))
        ),
        strategy=StrategyConfig(name="fedavg" if tiers == 1 else "fedhm", classifier_rows="all", history=False),
        local=LocalConfig(
            learning_rate=workload.learning_rate,
            momentum=0.0,
            epochs=1,
            batch_size=workload.batch_size,
            weight_decay=0.0,
            frobenius_decay=0.0,
            masked_loss=False,
        ),
        server=ServerConfig(rounds=task.total_rounds, cohort_size=workload.cohort, devices=task.at_once),
        evaluation=EvaluationConfig(every=math.gcd(task.warm_up, task.rounds), statistics_samples=workload.batch_size),
    )
