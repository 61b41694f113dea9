"""The samples of a run, and which client holds which."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedhm_jax.config import DataConfig, PartitionConfig, SimulationConfig, check_types, number_of_clients
from fedhm_jax.data import (
    AnyData,
    ArrayData,
    Dataset,
    Text,
    check_text,
    data_from_arrays,
    dataset_from_arrays,
    given,
    hold_out,
    is_text,
    load_dataset,
    load_text,
    natural,
    partition,
    partition_unlabelled,
    without_held_out,
)
from fedhm_jax.errors import ConfigError
from fedhm_jax.server import Tier


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


def build_dataset(data: DataConfig, handed_over: AnyData | None) -> AnyData:
    """The samples that a config names, or those handed over.

    Args:
        data: the run's data config.
        handed_over: in place of the config's data set; its ``holdout`` holds all the same.

    Returns:
        The data set.

    Raises:
        ConfigError: the data set is missing, unusable or too small.
    """
    dataset: AnyData
    if handed_over is None and is_text(data.name):
        dataset = load_text(
            data.name,
            data_dir=data.data_dir,
            train_split=data.train_split,
            window=data.window,
            test_share=data.test_share,
            tokenizer=data.tokenizer,
            client_pattern=data.client_pattern,
            text_field=data.text_field,
            client_field=data.client_field,
            train_samples=data.train_samples,
            test_samples=data.test_samples,
        )
    elif handed_over is None:
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
    else:
        dataset = _checked(handed_over)
    return dataset if data.holdout is None else hold_out(dataset, data.holdout)


def _checked(handed_over: AnyData) -> AnyData:
    """Data put together by hand pass the same checks as arrays."""
    if isinstance(handed_over, ArrayData):
        return data_from_arrays(*handed_over[:4], name=handed_over.name, clients=handed_over.train_clients)
    if isinstance(handed_over, Text):
        check_text(handed_over)
        return handed_over
    if not isinstance(handed_over, Dataset):
        allowed = "of fedhm_jax.dataset_from_arrays, text_from_strings, text_from_tokens or data_from_arrays"
        raise ConfigError(f"data is of type {type(handed_over).__name__}, but must be {allowed}")
    arrays, owners = handed_over[:4], handed_over.train_clients
    dataset = dataset_from_arrays(*arrays, classes=handed_over.classes, name=handed_over.name, clients=owners)
    return dataset._replace(class_names=handed_over.class_names)


def deal(
    dataset: AnyData, data: DataConfig, dealing: PartitionConfig, handed_over: Sequence[Any] | None, seed: int
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
        available = dataset.train_size + held
        parts = given(handed_over, available)
        return without_held_out(parts, available, held) if held else parts
    if dealing.method == "natural":
        if dataset.train_clients is None:
            reason = f"another one for data that do not say whose the samples are, as {dataset.name!r}"
            raise ConfigError.of("partition.method", "natural", reason)
        return natural(dataset.train_clients, dealing.clients, dealing.min_samples, seed)
    clients = number_of_clients(dealing)
    assert clients is not None  # as it is only where the data tell
    if not isinstance(dataset, Dataset):
        return partition_unlabelled(
            dealing.method,
            dataset.train_size,
            clients=clients,
            alpha=dealing.alpha,
            min_samples=dealing.min_samples,
            seed=seed,
        )
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


def notices_of(
    dataset: AnyData, dealing: PartitionConfig, tiers: Sequence[Tier], tier_of_client: np.ndarray | None
) -> tuple[str, ...]:
    """What the user may not expect of data and clients, in lines.

    Args:
        dataset: the samples.
        dealing: how they are dealt out.
        tiers: from the strongest to the weakest.
        tier_of_client: (clients,) index of each client's tier; None if tiers are drawn anew every round.

    Returns:
        A line for clients that are left out, for tiers without a client, and for images or labels that look as if they
        were meant otherwise.
    """
    return (*_left_out(dataset, dealing), *_empty(tiers, tier_of_client), *_odd(dataset))


def _empty(tiers: Sequence[Tier], tier_of_client: np.ndarray | None) -> tuple[str, ...]:
    if tier_of_client is None:
        return ()
    names = [tier.name for index, tier in enumerate(tiers) if not (tier_of_client == index).any()]
    if not names:
        return ()
    clients = len(tier_of_client)
    return (f"no client is of tier {', '.join(names)}: {clients} are dealt out to {len(tiers)} tiers",)


def _odd(dataset: AnyData) -> tuple[str, ...]:
    if not isinstance(dataset, Dataset):
        return ()
    lines = []
    height, width, channels = dataset.train_images.shape[1:]
    if height in (1, 3) and width == channels:
        lines.append(
            f"images of shape {(height, width, channels)} are read as height {height}, width {width} and {channels} "
            "channels; channels come last"
        )
    if dataset.classes > 1 and not (dataset.train_labels == 0).any() and not (dataset.test_labels == 0).any():
        lines.append(f"no sample is of class 0, and {dataset.classes} classes are counted; labels begin with 0")
    return tuple(lines)


def _left_out(dataset: AnyData, dealing: PartitionConfig) -> tuple[str, ...]:
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
