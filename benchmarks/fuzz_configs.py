"""Random configs: every field of the config is drawn, most from values that make sense, a few from any nonsense.

The fields are read off the dataclasses, so a new one is drawn from its type until it has a row in `_SENSIBLE`.
"""

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import optax
import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st

from fedhm_jax import (
    AggregationConfig,
    DataConfig,
    Dataset,
    DevicesConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
)
from fedhm_jax.data import is_text

BASE = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    partition=PartitionConfig(clients=4, min_samples=2),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    local=LocalConfig(epochs=1, batch_size=4),
    server=ServerConfig(rounds=1),
)
"""A run of a second on `tiny_data`; a field that is not drawn has its value here."""

_SCENES = (
    BASE,
    BASE,
    BASE,
    replace(BASE, strategy=StrategyConfig(name="heterofl", widths=(1.0, 0.5))),
    replace(BASE, strategy=StrategyConfig(name="fiarse", densities=(1.0, 0.3))),
    replace(BASE, model=ModelConfig(name="mlp", hidden=(8, 8)), strategy=StrategyConfig(name="depthfl", depths=(2, 1))),
    replace(BASE, strategy=StrategyConfig(name="fedhm_adapters", adapter_ranks=(4, 2))),
    replace(BASE, strategy=StrategyConfig(name="flora", adapter_ranks=(4, 2), alpha=4.0)),
    replace(BASE, aggregation=AggregationConfig(merge="median", reject=100.0)),
    replace(BASE, partition=PartitionConfig(method="natural", min_samples=4)),
    replace(BASE, server=ServerConfig(rounds=1, optimizer="yogi", learning_rate=0.01)),
    # where the text is, the scratch folder says
    replace(
        BASE,
        data=DataConfig(name="text", client_pattern="^([A-Z]+):$", window=8, test_share=0.2),
        partition=PartitionConfig(method="iid", clients=4),
        model=ModelConfig(name="decoder", width=8, depth=1, heads=2),
    ),
    replace(BASE, devices=DevicesConfig(flops=(1e6, 1e5), deadline=5.0, dropout=0.3)),
    replace(
        BASE,
        strategy=StrategyConfig("fedhm", classifier_rows="all", history=False),
        aggregation=AggregationConfig(clip=1.0),
        privacy=PrivacyConfig(noise_multiplier=1.0),
    ),
)
"""What fields are drawn on top of: features that need several fields to be set together hardly ever meet by chance."""


class Field(NamedTuple):
    """One field of the config.

    Attributes:
        section: such as ``"local"``.
        name: such as ``"epochs"``.
        annotation: its type.
    """

    section: str
    name: str
    annotation: Any

    @property
    def path(self) -> str:
        """Its name in sentences, such as ``"local.epochs"``."""
        return f"{self.section}.{self.name}"

    def of(self, config: SimulationConfig) -> Any:
        """Its value in a config."""
        return getattr(getattr(config, self.section), self.name)

    def put(self, config: SimulationConfig, value: Any) -> SimulationConfig:
        """A config with another value."""
        return replace(config, **{self.section: replace(getattr(config, self.section), **{self.name: value})})


FIELDS = tuple(
    Field(section, entry.name, get_type_hints(section_type)[entry.name])
    for section, section_type in get_type_hints(SimulationConfig).items()
    for entry in fields(section_type)
)
"""All fields, in the order of the config."""


def tiny_data() -> Dataset:
    """Sixty training and twenty test images of 8 x 8 noise, three classes, four clients."""
    images, labels = np.random.default_rng(0).random((80, 8, 8, 1)), np.arange(80) % 3
    clients = np.arange(60) % _OWN_CLIENTS
    return dataset_from_arrays(images[:60], labels[:60], images[60:], labels[60:], clients=clients)


def write_arrays(scratch: Path) -> None:
    """The file of arrays that configs may name: forty images of noise of four clients."""
    images, numbers = np.random.default_rng(0).random((40, 8, 8)), np.arange(40)
    labels, clients = numbers // 4 % 2, numbers % _OWN_CLIENTS
    np.savez(scratch / _ARRAYS, images=images, labels=labels, client=clients, pair=numbers // 2)


def write_texts(scratch: Path) -> None:
    """The text, JSON lines and table that configs may name: of two speakers, a few hundred characters each."""
    said = {"ANN": "to be or not to be, " * 20, "BOB": "that is the question. " * 20}
    (scratch / _PLAY).write_text("".join(f"{speaker}:\n{text}\n\n" for speaker, text in said.items()))
    (scratch / _LINES).write_text(
        "".join(json.dumps({"text": text, "by": speaker}) + "\n" for speaker, text in said.items())
    )
    table = pyarrow.table({"text": list(said.values()), "by": list(said)})
    pyarrow.parquet.write_table(table, scratch / _TABLE)


_OWN_CLIENTS = 4
_ARRAYS, _PLAY, _LINES, _TABLE = "small.npz", "small.txt", "small.jsonl", "small.parquet"


@st.composite
def configs(draw: st.DrawFn, scratch: Path) -> SimulationConfig:
    """Configs near one that runs: seven in ten fields as they are, and at times one or two that are nonsense.

    Args:
        draw: given by Hypothesis.
        scratch: folder that the run's folder and the decoded images may be put in.

    Returns:
        The config.
    """
    # Hypothesis varies what it drew before, which is not uniform: fields drawn seldom might not be drawn at all.
    chance = draw(st.randoms(use_true_random=True))
    config = chance.choice(_SCENES)
    if config.data.name == "text":
        config = replace(config, data=replace(config.data, data_dir=scratch / _PLAY))
    if chance.random() < 0.3:
        config = _with_tiers(config, chance.choice(_RANK_FACTORS))
    if chance.random() < 0.3:
        config = replace(config, partition=replace(config.partition, clients=chance.choice((1, 2, 5, 12))))
    clients = config.partition.clients or _OWN_CLIENTS
    around = _Around(len(config.tiers.rank_factors), clients, scratch)
    for field in FIELDS:
        share = 0.08 if field.path in _SELDOM else 0.3
        if field.path in _OF_TEXT and not is_text(config.data.name):
            share = 0.02
        if field.path not in ("tiers.rank_factors", "partition.clients") and chance.random() < share:
            config = field.put(config, draw(_sensible(field, around)))
    for field in chance.sample(FIELDS, chance.choice((0, 0, 1, 1, 2))):
        config = field.put(config, draw(_nonsense(field, around)))
    return config


def _with_tiers(config: SimulationConfig, factors: tuple[float, ...]) -> SimulationConfig:
    """A config with other tiers, and with no value left that is one a tier."""
    return replace(
        config,
        tiers=TiersConfig(factors),
        strategy=replace(config.strategy, widths=None, densities=None, depths=None, adapter_ranks=None),
        devices=replace(config.devices, flops=(1e6,)),
    )


_SELDOM = {
    *(
        "data.name",
        "data.client_feature",
        "data.train_split",
        "data.test_split",
        "data.train_samples",
        "data.test_samples",
        "data.holdout",
    ),
    *("partition.min_samples", "model.name", "model.full_rank_blocks", "model.classifier", "model.init"),
    *("model.width", "model.depth", "model.heads", "tiers.shares", "tiers.counts", "tiers.of_client"),
    *(
        "strategy.builder",
        "strategy.widths",
        "strategy.densities",
        "strategy.depths",
        "strategy.adapter_ranks",
        "strategy.weighting",
        "aggregation.merge",
        "privacy.noise_multiplier",
        "devices.deadline",
    ),
    *("local.schedule", "local.batch_size", "local.optimizer", "output.folder", "output.trackers"),
}
"""What decides about refusal or costs time is drawn less often, so that many configs run, and soon."""

_OF_TEXT = {
    f"data.{name}" for name in ("window", "test_share", "tokenizer", "client_pattern", "text_field", "client_field")
}
"""What images are refused with is hardly drawn for them."""

_RANK_FACTORS: tuple[tuple[float, ...], ...] = ((1.0,), (2.0,), (1, 2), (1.5, 3.0), (1.0, 2.0, 8.0), (1.0, 1e6))


def values_of(field: Field, scratch: Path, *, sensible: bool) -> st.SearchStrategy[Any]:
    """Values of one field alone, with two tiers and four clients around it.

    Args:
        field: the field.
        scratch: folder that a run's folder may be put in.
        sensible: within the documented range; otherwise mostly not.

    Returns:
        The values.
    """
    around = _Around(2, 4, scratch)
    return _sensible(field, around) if sensible else _nonsense(field, around)


# --- values that make sense ------------------------------------------------------------------------------------------


class _Around(NamedTuple):
    """What the sensible values of a field depend on: number of tiers, of clients, and a folder to write to."""

    tiers: int
    clients: int
    scratch: Path


def _sensible(field: Field, around: _Around) -> st.SearchStrategy[Any]:
    """Values within the documented range; not every combination of them can be run."""
    if field.path in _SENSIBLE:
        return st.sampled_from(tuple(_SENSIBLE[field.path](around)))
    return _of_type(field.annotation)


@cache
def _optimizers() -> tuple[str, ...]:
    """Names of everything in optax that is written in small letters, the well-known ones most often."""
    known = ("sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "yogi", "lamb", "lars", "novograd", "radam", "sm3")
    return known * 12 + tuple(name for name in dir(optax) if name.islower() and not name.startswith("_"))


_SENSIBLE: Mapping[str, Callable[[_Around], Any]] = {
    "data.name": lambda _: (
        *("digits", "npz", "folder", "cifar10", "mnist", "text", "jsonl", "huggingface"),
        *("huggingface:nobody/plays", "tfds_text:tiny_shakespeare"),
    ),
    "data.data_dir": lambda around: (
        None,
        *(around.scratch / name for name in ("nowhere", _ARRAYS, _PLAY, _LINES, _TABLE)),
    ),
    "data.train_split": lambda _: ("train", "test"),
    "data.test_split": lambda _: ("test", "train"),
    "data.train_samples": lambda _: (None, 60, 1437),
    "data.test_samples": lambda _: (None, 20, 360),
    "data.holdout": lambda _: (None, 5, 20),
    "data.cache_dir": lambda around: (None, around.scratch / "cache"),
    "data.client_feature": lambda _: (None, "client", "pair"),
    "data.window": lambda _: (64, 8, 1, 1000),
    "data.test_share": lambda _: (0.1, 0.5, 1e-9),
    "data.tokenizer": lambda around: ("characters", "bytes", f"{around.scratch}/tokenizer.json"),
    "data.client_pattern": lambda _: (None, "^([A-Z]+):$", "^$", "to be"),
    "data.text_field": lambda _: ("text", "by", "body"),
    "data.client_field": lambda _: (None, "by", "writer"),
    "partition.clients": lambda _: (1, 2, 4, 12),
    "partition.alpha": lambda _: (0.5, 1e-6, 0.1, 10.0, 1e6, 1),
    "partition.min_samples": lambda _: (2, 1, 4, 15, 16),
    "partition.classes_per_client": lambda _: (1, 2, 3),
    # the larger ones compile for long
    "model.name": lambda _: ("mlp", "cnn") * 6 + ("resnet8", "vit"),
    "model.full_rank_blocks": lambda _: (None, 0, 1, 3),
    "model.init": lambda around: (None, around.scratch / "nowhere.safetensors", around.scratch / "file"),
    # another value is refused for most models
    "model.width": lambda _: (128, 128, 8, 12),
    "model.depth": lambda _: (4, 4, 1),
    "model.heads": lambda _: (4, 4, 1, 2),
    "model.hidden": lambda _: ((16,), (4,), (24, 12), (), (1,), (7, 3)),
    "tiers.rank_factors": lambda _: _RANK_FACTORS,
    "tiers.shares": lambda around: (None, (1 / around.tiers,) * around.tiers, (1.0, *(0.0,) * (around.tiers - 1))),
    "tiers.counts": lambda around: (None, (around.clients, *(0,) * (around.tiers - 1))),
    "tiers.of_client": lambda around: (None, tuple(client % around.tiers for client in range(around.clients))),
    "strategy.builder": lambda around: (None, f"{around.scratch}/nowhere.py:build"),
    "strategy.temperature": lambda _: (1.0, 0.1, 100.0),
    "strategy.widths": lambda around: (None, tuple(0.7**tier for tier in range(around.tiers))),
    "strategy.densities": lambda around: (None, tuple(0.3**tier for tier in range(around.tiers))),
    "strategy.depths": lambda around: (None, (1,) * around.tiers, (3, *(1,) * (around.tiers - 1))),
    "strategy.distillation": lambda _: (1.0, 0.0, 0.5),
    "strategy.adapter_ranks": lambda around: (None, (1,) * around.tiers, (3, *(1,) * (around.tiers - 1))),
    "strategy.alpha": lambda _: (16.0, 1.0, 4.0),
    "strategy.energy": lambda _: (0.99, 0.5, 1.0),
    "local.optimizer": lambda _: _optimizers(),
    "local.learning_rate": lambda _: (0.02, 1e-3, 1e-6, 0.1, 0.05),
    "local.momentum": lambda _: (0.9, 0.0, 0.5),
    "local.epochs": lambda _: (1, 2),
    "local.steps": lambda _: (None, 1, 2, 5),
    "local.batch_size": lambda _: (4, 1, 3, 5, 15, 60),
    "local.weight_decay": lambda _: (1e-4, 0.0, 1e-2),
    "local.frobenius_decay": lambda _: (1e-4, 0.0, 1e-2),
    "local.proximal": lambda _: (0.0, 0.1, 1.0),
    "local.milestones": lambda _: ((), (1,), (1, 2), (100, 150)),
    "local.clip": lambda _: (None, 1.0, 1e-6, 1e30),
    "local.decay_rate": lambda _: (0.1, 1.0, 1e-9),
    "aggregation.trim": lambda _: (0.1, 0.0, 0.25, 0.49),
    "aggregation.clip": lambda _: (None, 1.0, 1e-6, 1e6),
    "aggregation.reject": lambda _: (None, 1.0, 1e-6, 1e6),
    "privacy.noise_multiplier": lambda _: (None, 1.0, 0.5, 10.0, 1e-3),
    "privacy.delta": lambda _: (None, 1e-5, 1e-2),
    "server.rounds": lambda _: (1, 1, 2),
    "server.participation": lambda _: (0.5, 1.0, 0.01, 1),
    "server.cohort_size": lambda around: (None, 1, around.clients),
    "server.learning_rate": lambda _: (1.0, 0.5, 0.01),
    "server.momentum": lambda _: (0.9, 0.0),
    "server.second_moment": lambda _: (0.99, 0.0),
    "server.epsilon": lambda _: (1e-3, 1e-15, 1.0),
    "server.seed": lambda _: (0, 1, 2**32 - 1),
    "server.devices": lambda _: (None, 1),
    "server.clients_per_chunk": lambda _: (None, 1, 2, 16),
    "devices.flops": lambda around: ((1e10,), (1e6,) * around.tiers, (1e3,)),
    "devices.download": lambda around: ((2.5e6,), (1e5,) * around.tiers),
    "devices.upload": lambda around: ((1.25e6,), (1e5,) * around.tiers),
    "devices.latency": lambda around: ((0.05,), (0.0,) * around.tiers),
    "devices.deadline": lambda _: (None, 1e-3, 0.5, 1e6),
    "devices.dropout": lambda _: (0.0, 0.3, 0.999),
    "evaluation.every": lambda _: (1, 2, 100),
    "evaluation.batch_size": lambda _: (500, 1, 7, 20),
    "evaluation.statistics_samples": lambda _: (2000, 1, 10, 60),
    "output.folder": lambda around: (None, around.scratch / "run", around.scratch / "deep" / "run"),
    "output.trackers": lambda _: ((), ("tensorboard",)),
    "checkpoint.every": lambda _: (None, 1, 2),
    "checkpoint.keep": lambda _: (3, 1, 100),
}


def _of_type(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a type alone: all of a choice, and small numbers."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(_of_type, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_of_type(arguments[0]), max_size=3).map(tuple)
    small: Mapping[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(1, 4),
        float: st.sampled_from((0.1, 0.5, 1.0)),
        str: st.sampled_from(("a", "b")),
        type(None): st.none(),
    }
    return small[annotation] if annotation in small else st.nothing()


# --- nonsense --------------------------------------------------------------------------------------------------------

_WRONG_TYPES: tuple[Any, ...] = (None, "text", True, 3, 2.5, (), (1,), [1], {}, b"bytes", 1j, np.float32(1), object)
_NUMBERS: tuple[Any, ...] = (
    *(0, -1, -(10**9), 1, 2, 2**31 - 1, 2**31, 2**32, 2**63, 10**30, 10**400),
    *(0.0, -0.0, -0.5, 0.5, 1.0, 1.5, 1e-300, 5e-324, 1e-30, 1e30, 1e39, 1e300, float("inf"), float("nan")),
)
_TEXTS = ("", " ", "nope", "Digits", "äöü", "a/b/c", "../x", "a:9.9.9", "a:b:c", "x" * 5000, "nul\0l", "train[:5%]")
_LEFT_OUT = {
    # these run, for ever or without end in sight
    "model.depth": lambda value: isinstance(value, int) and value > 2,
    "server.rounds": lambda value: isinstance(value, int) and value > 2,
    "local.epochs": lambda value: isinstance(value, int) and 2 < value < 2**31,
    "local.steps": lambda value: isinstance(value, int) and 2 < value < 2**31,
    # these take seconds, or ask for an account
    "output.trackers": lambda value: isinstance(value, tuple) and {"wandb", "mlflow"} & {*map(str, value)},
}


def _nonsense(field: Field, around: _Around) -> st.SearchStrategy[Any]:
    """Values of the wrong type, out of range, or of the wrong length; some turn out to be fine."""
    left_out = _LEFT_OUT.get(field.path, lambda value: False)
    values = (value for value in _odd(field.annotation, around) if not left_out(value))
    # a text is a path as well, and would be one beside the caller's files
    wrong = [value for value in _WRONG_TYPES if not (isinstance(value, str) and Path in get_args(field.annotation))]
    return st.one_of(st.sampled_from(tuple(values)), st.sampled_from(wrong))


def _odd(annotation: Any, around: _Around) -> tuple[Any, ...]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return tuple(value for argument in arguments for value in _odd(argument, around))
    if origin is Literal:
        return (*arguments, *_TEXTS)
    if origin is tuple:
        alone = [(value,) for value in _odd(arguments[0], around)]
        each = [value * around.tiers for value in alone]
        return ((), *alone, *each, (1, 1, 1), (3, 2, 1), (0.5, 0.25), (1.0, 2.0, 4.0, 8.0, 16.0))
    if annotation in (int, float):
        return _NUMBERS
    if annotation is str:
        return _TEXTS
    if annotation is Path:
        return _odd_places(around.scratch)
    return (True, False, None)


def _odd_places(scratch: Path) -> tuple[Path | str, ...]:
    return (
        *(scratch, scratch / "file", scratch / "file" / "run", scratch / ("x" * 300), scratch / "nul\0l"),
        str(scratch / "text"),
        *(Path("/proc/nope"), Path("/dev/null"), Path(""), scratch / "~" / ".." / "run", Path("~nobody-here/run")),
    )
