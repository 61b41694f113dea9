"""The rounds that are compiled: every strategy, and every model."""

import string
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np

from fedhm_jax import (
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    text_from_strings,
)
from fedhm_jax.data import Dataset
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.strategies import STRATEGIES

CLASSES = 10
RANK_FACTORS = (1.0, 2.0, 4.0, 8.0)
STEPS = 20
"""Local steps of a client."""

MODELS: tuple[str, ...] = get_args(get_type_hints(ModelConfig)["name"])


class Case(NamedTuple):
    """A round.

    Attributes:
        strategy: a name in `fedhm_jax.strategies.STRATEGIES`.
        model: a name that `fedhm_jax.config.ModelConfig` takes.
        side_by_side: clients that a chip trains at a time; each tier has so many a chip.
        batch_size: samples per step.
    """

    strategy: Any
    model: Any
    side_by_side: int = 16
    batch_size: int = 64


EVERY = (
    *(Case(strategy, "cnn") for strategy in STRATEGIES),
    *(Case("fedhm", model) for model in MODELS if model != "cnn"),
)


def config_of(case: Case, devices: int) -> SimulationConfig:
    """The config of a case, with a cohort that keeps all chips busy.

    Args:
        case: the round.
        devices: chips that share its clients.

    Returns:
        The config.
    """
    return SimulationConfig(
        model=ModelConfig(name=case.model),
        partition=PartitionConfig(clients=case.side_by_side * len(RANK_FACTORS) * devices),
        tiers=TiersConfig(rank_factors=RANK_FACTORS),
        strategy=StrategyConfig(name=case.strategy),
        local=LocalConfig(batch_size=case.batch_size, steps=STEPS),
        server=ServerConfig(participation=1.0, clients_per_chunk=case.side_by_side, devices=1),
        evaluation=EvaluationConfig(statistics_samples=64),
    )


def data_of(case: Case, devices: int) -> HandedOver:
    """Black images of the size that the model's benchmarks have, two batches a client; windows of text for a decoder.

    Args:
        case: the round.
        devices: chips that share its clients.

    Returns:
        What is handed over in place of the config's data set.
    """
    shape = (28, 28, 1) if case.model in ("mlp", "cnn") else (32, 32, 3)
    samples = 2 * case.batch_size * case.side_by_side * len(RANK_FACTORS) * devices
    if case.model == "decoder":
        windows = samples + 2
        text = text_from_strings([string.printable[:64] * windows], window=64, test_share=1.5 / windows)
        return HandedOver(data=text)

    def images(number: int) -> np.ndarray:
        return np.zeros((number, *shape), np.uint8)

    def labels(number: int) -> np.ndarray:
        return np.arange(number) % CLASSES

    return HandedOver(data=Dataset(images(samples), labels(samples), images(64), labels(64), CLASSES, "black"))
