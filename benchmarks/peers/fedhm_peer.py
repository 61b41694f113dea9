"""fedhm_jax, as its README shows it: `simulate` on arrays, with a callback that tells the end of each round."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.data import SOURCES, SYMBOLS, WINDOW, Samples, client_data, probe_batches
from benchmarks.peers.workload import Task, Workload
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
    text_from_tokens,
)
from fedhm_jax.data import AnyData, Dataset, Text
from fedhm_jax.tasks import cross_entropy
from fedhm_jax.tree import Params


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    jax.config.update("jax_num_cpu_devices", task.at_once)
    workload = task.workload
    parts = [client_data(workload, client) for client in range(workload.clients)]
    data = DATA[workload.model](parts, workload)
    result = simulate(config_of(task), data=data, on_round=[lambda _: round_done()])
    return probe_loss(result.params, workload)


def _images(parts: Sequence[Samples], workload: Workload) -> Dataset:
    """The clients' images, the first batch of them once more for the evaluation."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    some = slice(workload.batch_size)
    return dataset_from_arrays(images, labels, images[some], labels[some], classes=SOURCES[workload.model].classes)


def _text(parts: Sequence[Samples], workload: Workload) -> Text:
    """A document a client; its first window stands once more at its end, for that is held out for the evaluation."""
    chains = [np.append(tokens, following[-1, -1]) for tokens, following in parts]
    documents = [np.append(chain, chain[: WINDOW + 1]) for chain in chains]
    share = (WINDOW + 1) / len(documents[0])
    text = text_from_tokens(documents, [chr(ord("0") + symbol) for symbol in range(SYMBOLS)], test_share=share)
    return text.with_test(np.arange(min(workload.batch_size, text.test_size)))


DATA: dict[str, Callable[[Sequence[Samples], Workload], AnyData]] = {
    "cnn": _images,
    "resnet8": _images,
    "decoder": _text,
}
"""How each model's samples are handed over, from those of every client."""


def probe_loss(params: Params, workload: Workload) -> float:
    """Mean loss of a model on `data.probe_batches`, in training mode."""
    model = build_model(workload.model, SOURCES[workload.model].classes)

    def loss(inputs: np.ndarray, targets: np.ndarray) -> float:
        logits: Any = model.apply({"params": params}, jnp.asarray(inputs), train=True)
        return float(cross_entropy(logits, jnp.asarray(targets, jnp.int32)).mean())

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
