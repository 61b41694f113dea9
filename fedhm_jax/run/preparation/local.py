"""From the config of local training to how clients train, and whether their samples suffice."""

from collections.abc import Sequence

import numpy as np

from fedhm_jax.client import LocalTraining, optimizer_by_name
from fedhm_jax.config import LocalConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.server import samples_trained
from fedhm_jax.tasks import CLASSIFICATION, Task


def local_training(local: LocalConfig, task: Task = CLASSIFICATION) -> LocalTraining:
    """How clients train.

    Args:
        local: the config's part.
        task: what there is to learn.

    Returns:
        What the compiled round closes over.

    Raises:
        ConfigError: there is no such optimizer.

    Example:
        >>> local_training(LocalConfig(epochs=2)).epochs
        2
    """
    return LocalTraining(
        optimizer=optimizer_by_name(local.optimizer, local.momentum, local.clip),
        batch_size=local.batch_size,
        epochs=local.epochs,
        steps=local.steps,
        weight_decay=float(local.weight_decay),
        frobenius_decay=float(local.frobenius_decay),
        proximal=float(local.proximal),
        task=task,
    )


def check_batch_size(batch_size: int, parts: Sequence[np.ndarray]) -> None:
    """Refuses batches that some client cannot fill.

    Args:
        batch_size: samples per step.
        parts: sample indices of each client.

    Raises:
        ConfigError: the smallest client holds fewer.
    """
    smallest = min(len(part) for part in parts)
    if batch_size > smallest:
        raise ConfigError.of(
            "local.batch_size", batch_size, f"at most {smallest}, the number of samples of the smallest client"
        )


def check_samples(local: LocalConfig, sizes: np.ndarray, cohort_size: int) -> None:
    """Refuses rounds of more samples than the device can count in 32 bits.

    Args:
        local: the config's part.
        sizes: (clients,) samples of each client.
        cohort_size: clients of a round.

    Raises:
        ConfigError: the largest cohort trains on 2**31 samples or more.
    """
    trained = samples_trained(np.sort(sizes)[-cohort_size:], local.batch_size, local.epochs, local.steps)
    if trained.sum(dtype=float) >= 2**31:
        field, value = ("local.epochs", local.epochs) if local.steps is None else ("local.steps", local.steps)
        raise ConfigError.of(field, value, "so small that a round trains on less than 2**31 samples")
