"""The samples of a run, and which client holds which."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedhm_jax.config import DataConfig, PartitionConfig, SimulationConfig, check_types, number_of_clients
from fedhm_jax.data import (
    Dataset,
    dataset_from_arrays,
    given,
    hold_out,
    load_dataset,
    natural,
    partition,
    without_held_out,
)
from fedhm_jax.errors import ConfigError


def with_given_clients(config: SimulationConfig, given: Sequence[Any]) -> SimulationConfig:
    """The config of a run whose clients are handed over: it says so, and how many they are.

    Args:
        config: the config; of its ``partition`` only ``clients`` is read.
        given: sample indices of each client.

    Returns:
        The config with ``partition.method = "given"``.

    Raises:
        ConfigError: what was handed over is no list, or one of another length than ``partition.clients``.

    Example:
        >>> with_given_clients(SimulationConfig(), [[0, 1], [2]]).partition.clients
        2
    """
    check_types(config)
    is_list = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    if not is_list and not (isinstance(given, np.ndarray) and given.ndim > 0):
        kind = type(given).__name__
        raise ConfigError(f"partition is of type {kind}, but must be a list with the sample indices of each client")
    clients = config.partition.clients
    if len(given) == 0:
        raise ConfigError("partition is empty, but must hold the sample indices of at least one client")
    if clients not in (None, len(given)):
        allowed = f"unset or {len(given)}, the number of clients in simulate(partition=...)"
        raise ConfigError.of("partition.clients", clients, allowed)
    return replace(config, partition=replace(config.partition, method="given", clients=len(given)))


def build_dataset(data: DataConfig, handed_over: Dataset | None) -> Dataset:
    """The samples that a config names, or those handed over.

    Args:
        data: the run's data config.
        handed_over: in place of the config's data set; its ``holdout`` holds all the same.

    Returns:
        The data set.

    Raises:
        ConfigError: the data set is missing, unusable or too small.
    """
    if handed_over is not None:
        # A data set put together by hand passes the same checks as arrays.
        arrays, owners = handed_over[:4], handed_over.train_clients
        dataset = dataset_from_arrays(*arrays, classes=handed_over.classes, name=handed_over.name, clients=owners)
        dataset = dataset._replace(class_names=handed_over.class_names)
    else:
        dataset = load_dataset(
            data.name,
            data_dir=data.data_dir,
            train_split=data.train_split,
            test_split=data.test_split,
            train_samples=data.train_samples,
            test_samples=data.test_samples,
            cache_dir=data.cache_dir,
            client_feature=data.client_feature,
        )
    return dataset if data.holdout is None else hold_out(dataset, data.holdout)


def deal(
    dataset: Dataset, data: DataConfig, dealing: PartitionConfig, handed_over: Sequence[Any] | None, seed: int
) -> list[np.ndarray]:
    """Deals the training samples out.

    Args:
        dataset: the samples.
        data: where they come from.
        dealing: how.
        handed_over: sample indices of each client, with ``partition.method = "given"``.
        seed: of every draw.

    Returns:
        One array of sample indices per client.

    Raises:
        ConfigError: the samples cannot be dealt out like this.
    """
    if dealing.method == "given":
        if handed_over is None:
            reason = "another one, unless simulate(partition=...) gives each client's samples; give them again to go on"
            raise ConfigError.of("partition.method", "given", reason)
        # The lists count the samples before some were held out.
        held = data.holdout or 0
        available = len(dataset.train_labels) + held
        parts = given(handed_over, available)
        return without_held_out(parts, available, held) if held else parts
    if dealing.method == "natural":
        if dataset.train_clients is None:
            reason = f"another one for data that do not say whose the samples are, as {dataset.name!r}"
            raise ConfigError.of("partition.method", "natural", reason)
        return natural(dataset.train_clients, dealing.clients, dealing.min_samples, seed)
    clients = number_of_clients(dealing)
    assert clients is not None  # as it is only where the data tell
    return partition(
        dealing.method,
        dataset.train_labels,
        dataset.classes,
        clients=clients,
        alpha=dealing.alpha,
        min_samples=dealing.min_samples,
        classes_per_client=dealing.classes_per_client,
        seed=seed,
    )


def notices_of(dataset: Dataset, dealing: PartitionConfig) -> tuple[str, ...]:
    """What is decided about the data's own clients, in lines for the user.

    Args:
        dataset: the samples.
        dealing: how they are dealt out.

    Returns:
        One line if some of the clients are left out for having too few samples.
    """
    if dealing.method != "natural" or dataset.train_clients is None:
        return ()
    sizes = np.unique(dataset.train_clients, return_counts=True)[1]
    small = int((sizes < dealing.min_samples).sum())
    if small == 0:
        return ()
    return (
        f"{small} of the data's {len(sizes)} clients are left out, for they have fewer training samples than "
        f"partition.min_samples, which is {dealing.min_samples}",
    )
