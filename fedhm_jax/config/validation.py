"""Checks of a config that need neither data nor a model. Standard library only, so that they cost no import time."""

import math
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from fedhm_jax.config.clients import check_clients, number_of_clients
from fedhm_jax.config.field_types import check_types
from fedhm_jax.config.schema import ModelConfig, SimulationConfig
from fedhm_jax.errors import ConfigError


class _Rule(NamedTuple):
    """What one field's value must fulfil by itself; an unset field (None) is not looked at."""

    field: str
    holds: Callable[[Any], bool]
    allowed: str


class _Relation(NamedTuple):
    """What a field must fulfil in view of other fields."""

    field: str
    holds: Callable[[SimulationConfig], bool]
    allowed: str


def check_config(config: SimulationConfig) -> None:
    """Raises one sentence about the first value that the simulator cannot run with.

    Types come first, then ranges, then relations between fields, and last the output folder. Checks that need the
    data, the model or the optimizer library are made where those are built.

    Args:
        config: the config to check.

    Raises:
        ConfigError: naming the field, its value and what is allowed.

    Example:
        >>> from fedhm_jax.config import LocalConfig
        >>> check_config(SimulationConfig())
        >>> check_config(SimulationConfig(local=LocalConfig(epochs=0)))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: local.epochs is 0, but must be an integer of at least 1
    """
    check_types(config)
    for rule in _RULES:
        value = _value(config, rule.field)
        if value is not None and not rule.holds(value):
            raise ConfigError.of(rule.field, value, rule.allowed)
    for relation in _RELATIONS:
        if not relation.holds(config):
            raise ConfigError.of(relation.field, _value(config, relation.field), relation.allowed.format(config=config))
    if (clients := number_of_clients(config.partition)) is not None:
        check_clients(config, clients)
    if config.output.folder is not None:
        _check_new_folder("output.folder", config.output.folder)


def _value(config: SimulationConfig, field: str) -> Any:
    """The value at a dotted path, such as ``"local.epochs"``."""
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


# --- values ----------------------------------------------------------------------------------------------------------


def _at_least(bound: int, *names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: value >= bound, f"an integer of at least {bound}") for name in names)


def _not_negative(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: value >= 0, "a number of at least 0") for name in names)


def _below_1(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: 0 <= value < 1, "a number of at least 0 and below 1") for name in names)


def _positive(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: value > 0, "a number above 0") for name in names)


def _all_positive(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda values: min(values, default=0) > 0, "numbers above 0") for name in names)


def _not_empty(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: bool(value.strip()), "a name that is not empty") for name in names)


_LARGEST = 3.4e38
"""The training's numbers have 32 bits."""


def _fits_32_bits(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: value <= _LARGEST, f"a number of at most {_LARGEST:g}") for name in names)


def _below_2_31(*names: str) -> tuple[_Rule, ...]:
    return tuple(_Rule(name, lambda value: value < 2**31, "an integer below 2**31") for name in names)


def _all_within(least: float, *names: str) -> tuple[_Rule, ...]:
    allowed = f"numbers from {least:g} to 1e+30"
    return tuple(_Rule(name, lambda values: all(least <= value <= 1e30 for value in values), allowed) for name in names)


def _shrinking(*names: str) -> tuple[_Rule, ...]:
    def holds(shares: tuple[float, ...]) -> bool:
        return len(shares) > 0 and shares[0] <= 1 and shares[-1] > 0 and _increases(shares[::-1])

    return tuple(_Rule(name, holds, "one or more numbers above 0 and at most 1, strictly decreasing") for name in names)


def _possible_paths(*names: str) -> tuple[_Rule, ...]:
    allowed = "a path without a null character, and with a home directory where it begins with ~"
    return tuple(_Rule(name, _is_possible_path, allowed) for name in names)


def _is_possible_path(path: Path) -> bool:
    try:
        return "\0" not in str(path.expanduser())
    except RuntimeError:  # nobody of that name
        return False


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _increases(values: tuple[float, ...]) -> bool:
    return all(left < right for left, right in pairwise(values))


_RULES: tuple[_Rule, ...] = (
    *_not_empty("data.name", "data.train_split", "data.test_split", "data.client_feature", "local.optimizer"),
    *_not_empty("data.tokenizer", "data.client_pattern", "data.text_field", "data.client_field"),
    _Rule("data.client_pattern", _is_pattern, "a regular expression"),
    *_at_least(1, "data.window"),
    *_below_2_31("data.window"),
    _Rule("data.test_share", lambda share: 0 < share < 1, "a number above 0 and below 1"),
    *_possible_paths("data.data_dir", "data.cache_dir", "model.init", "output.folder"),
    *_at_least(1, "data.train_samples", "data.test_samples", "data.holdout"),
    *_at_least(1, "partition.clients", "partition.min_samples", "partition.classes_per_client"),
    *_positive("partition.alpha"),
    *_at_least(0, "model.full_rank_blocks"),
    *_at_least(1, "model.width", "model.depth", "model.heads"),
    _Rule("model.hidden", lambda widths: all(width >= 1 for width in widths), "integers of at least 1"),
    _Rule("model.hidden", lambda widths: all(width < 2**31 for width in widths), "integers below 2**31"),
    _Rule(
        "tiers.rank_factors",
        lambda factors: len(factors) > 0 and factors[0] >= 1 and _increases(factors),
        "one or more numbers of at least 1, strictly increasing",
    ),
    _Rule(
        "tiers.shares",
        lambda shares: min(shares, default=0) >= 0 and abs(math.fsum(shares) - 1) <= 1e-6,
        "numbers of at least 0 that sum to 1",
    ),
    *_shrinking("strategy.widths", "strategy.densities"),
    _Rule(
        "strategy.depths",
        lambda depths: len(depths) > 0 and depths[-1] >= 1 and all(one >= other for one, other in pairwise(depths)),
        "one or more integers of at least 1, not increasing",
    ),
    _Rule(
        "strategy.adapter_ranks",
        lambda ranks: len(ranks) > 0 and ranks[-1] >= 1 and all(one >= other for one, other in pairwise(ranks)),
        "one or more integers of at least 1, not increasing",
    ),
    _Rule("strategy.energy", lambda share: 0 < share <= 1, "a number above 0 and at most 1"),
    _Rule("strategy.alpha", lambda alpha: 1e-6 <= alpha <= 1e6, "a number from 1e-6 to 1e6"),
    _Rule(
        "strategy.builder",
        lambda name: re.fullmatch(r".+\.py:[^\W\d]\w*", name) is not None,
        "a Python file and a name in it, such as 'mine.py:build'",
    ),
    *_not_negative("strategy.distillation"),
    _Rule("tiers.counts", lambda counts: min(counts, default=0) >= 0, "integers of at least 0"),
    _Rule("tiers.of_client", lambda tiers: min(tiers, default=0) >= 0, "integers of at least 0"),
    *_positive("strategy.temperature", "local.learning_rate", "server.learning_rate", "devices.deadline"),
    *_positive("local.clip", "aggregation.clip", "aggregation.reject", "privacy.noise_multiplier"),
    _Rule("aggregation.trim", lambda share: 0 <= share < 0.5, "a number of at least 0 and below 0.5"),
    _Rule("devices.dropout", lambda share: 0 <= share < 1, "a number of at least 0 and below 1"),
    *_all_positive("devices.flops", "devices.download", "devices.upload"),
    _Rule("devices.latency", lambda values: min(values, default=-1) >= 0, "numbers of at least 0"),
    *_below_1("local.momentum", "server.momentum", "server.second_moment"),
    _Rule("server.epsilon", lambda value: 1e-15 <= value <= 1e15, "a number from 1e-15 to 1e15"),
    *_at_least(1, "local.epochs", "local.steps", "local.batch_size"),
    *_not_negative("local.weight_decay", "local.frobenius_decay", "local.proximal"),
    _Rule(
        "local.milestones",
        lambda rounds: min(rounds, default=1) >= 1 and _increases(rounds),
        "integers of at least 1, strictly increasing",
    ),
    _Rule("local.decay_rate", lambda rate: 0 < rate <= 1, "a number above 0 and at most 1"),
    *_at_least(1, "server.rounds", "server.cohort_size", "server.devices", "server.clients_per_chunk"),
    _Rule("server.participation", lambda share: 0 < share <= 1, "a number above 0 and at most 1"),
    _Rule("server.seed", lambda seed: 0 <= seed < 2**32, "an integer of at least 0 and below 2**32"),
    *_all_within(1e-30, "devices.flops", "devices.download", "devices.upload"),
    *_all_within(0, "devices.latency"),
    _Rule("privacy.noise_multiplier", lambda value: 1e-6 <= value <= 1e6, "a number from 1e-6 to 1e6"),
    *_below_2_31("local.epochs", "local.steps", "server.rounds", "model.width"),
    *_fits_32_bits("local.learning_rate", "local.weight_decay", "local.frobenius_decay", "local.proximal"),
    *_fits_32_bits(
        "strategy.distillation", "local.clip", "aggregation.clip", "aggregation.reject", "server.learning_rate"
    ),
    *_at_least(1, "evaluation.every", "evaluation.batch_size", "evaluation.statistics_samples"),
    *_at_least(1, "checkpoint.every", "checkpoint.keep"),
)


def _is_transformer(model: ModelConfig) -> bool:
    return model.name in ("vit", "decoder")


def _of_transformers(name: str) -> _Relation:
    default = getattr(ModelConfig(), name)
    return _Relation(
        f"model.{name}",
        lambda config: _is_transformer(config.model) or getattr(config.model, name) == default,
        f"left at {default} unless model.name is 'vit' or 'decoder' (model.name is {{config.model.name!r}})",
    )


def _one_or_per_tier(name: str) -> _Relation:
    return _Relation(
        name,
        lambda config: len(_value(config, name)) in (1, len(config.tiers.rank_factors)),
        "one value for all tiers, or one per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    )


def _with_privacy(name: str, holds: Callable[[SimulationConfig], bool], allowed: str) -> _Relation:
    """What a field must fulfil for the privacy guarantee to hold."""
    return _Relation(
        name,
        lambda config: config.privacy.noise_multiplier is None or holds(config),
        f"{allowed} when privacy.noise_multiplier is set",
    )


def _noise_fits(config: SimulationConfig) -> bool:
    multiplier, clip = config.privacy.noise_multiplier, config.aggregation.clip
    return multiplier is None or clip is None or multiplier <= _LARGEST / clip


_PRIVACY_RELATIONS: tuple[_Relation, ...] = (
    _Relation(
        "privacy.noise_multiplier",
        _noise_fits,
        f"at most {_LARGEST:g} when multiplied by aggregation.clip (which is {{config.aggregation.clip}})",
    ),
    _with_privacy(
        "aggregation.clip",
        lambda config: config.aggregation.clip is not None,
        "a number, which bounds what one client can change,",
    ),
    _with_privacy("aggregation.merge", lambda config: config.aggregation.merge == "mean", "'mean'"),
    _with_privacy(
        "aggregation.reject",
        lambda config: config.aggregation.reject is None,
        "unset, since it would make the number of merged clients depend on their data,",
    ),
    _with_privacy("strategy.weighting", lambda config: config.strategy.weighting == "uniform", "'uniform'"),
    _with_privacy(
        "strategy.classifier_rows",
        lambda config: config.strategy.classifier_rows == "all",
        "'all', since weights by class tell who holds it,",
    ),
    _with_privacy(
        "strategy.history",
        lambda config: config.strategy.name != "fedhm" or not config.strategy.history,
        "False, since it makes the merge depend on which tiers were sampled,",
    ),
    _with_privacy(
        "devices.deadline",
        lambda config: config.devices.deadline is None,
        "unset, since who is late depends on the size of its data,",
    ),
)


_TEXTS = ("text", "jsonl", "huggingface")
"""Values of data.name that stand for text."""


def _left_as_it_is(name: str, needed: Callable[[str], bool], where: str) -> _Relation:
    """A field of the data that some data sets do not have: there it keeps its default."""
    default = _value(SimulationConfig(), name)
    return _Relation(
        name,
        lambda config: _value(config, name) == default or needed(config.data.name),
        f"{'unset' if default is None else repr(default)} {where} (data.name is {{config.data.name!r}})",
    )


_TEXT_RELATIONS: tuple[_Relation, ...] = (
    _Relation(
        "data.data_dir",
        lambda config: config.data.name not in _TEXTS or config.data.data_dir is not None,
        "where the text is when data.name is {config.data.name!r}",
    ),
    *(
        _left_as_it_is(
            f"data.{name}", lambda source: source in _TEXTS, "unless data.name is 'text', 'jsonl' or 'huggingface'"
        )
        for name in ("window", "test_share", "tokenizer")
    ),
    _left_as_it_is("data.client_pattern", lambda source: source == "text", "unless data.name is 'text'"),
    *(
        _left_as_it_is(
            f"data.{name}",
            lambda source: source in ("jsonl", "huggingface"),
            "unless data.name is 'jsonl' or 'huggingface'",
        )
        for name in ("text_field", "client_field")
    ),
    _left_as_it_is(
        "data.train_split", lambda source: source not in ("text", "jsonl"), "for a text, whose split is data.test_share"
    ),
    _left_as_it_is(
        "data.test_split", lambda source: source not in _TEXTS, "for a text, whose split is data.test_share"
    ),
    _Relation(
        "partition.method",
        lambda config: (
            config.data.name not in _TEXTS or config.partition.method not in ("dirichlet", "dirichlet_equal", "shards")
        ),
        "'iid', 'quantity', 'natural' or 'given' for a text, whose samples have no classes",
    ),
)


_RELATIONS: tuple[_Relation, ...] = (
    _Relation(
        "aggregation.merge",
        lambda config: config.aggregation.merge == "mean" or config.strategy.weighting == "uniform",
        "'mean' unless strategy.weighting is 'uniform' (strategy.weighting is {config.strategy.weighting!r})",
    ),
    *_PRIVACY_RELATIONS,
    _Relation(
        "data.data_dir",
        lambda config: config.data.name != "folder" or config.data.data_dir is not None,
        "the folder of the images when data.name is 'folder'",
    ),
    _Relation(
        "data.data_dir",
        lambda config: config.data.name != "npz" or config.data.data_dir is not None,
        "the file of the arrays when data.name is 'npz'",
    ),
    *_TEXT_RELATIONS,
    _Relation(
        "data.client_feature",
        lambda config: config.data.client_feature is None or config.data.name not in ("digits", "folder", *_TEXTS),
        "unset when data.name is {config.data.name!r}",
    ),
    _Relation(
        "model.full_rank_blocks",
        lambda config: config.model.full_rank_blocks is None or config.model.name.startswith("resnet"),
        "unset unless model.name is a ResNet (model.name is {config.model.name!r})",
    ),
    *(_of_transformers(name) for name in ("width", "depth", "heads")),
    _Relation(
        "model.width",
        lambda config: not _is_transformer(config.model) or config.model.width % config.model.heads == 0,
        "a multiple of model.heads (model.heads is {config.model.heads})",
    ),
    _Relation(
        "model.norm",
        lambda config: config.model.norm is None or not _is_transformer(config.model),
        "unset when model.name is {config.model.name!r}, which has layer norms",
    ),
    _Relation(
        "model.norm",
        lambda config: config.model.norm != "group" or config.strategy.name != "fedrolex",
        "'none', 'batch_static' or 'batch_test' when strategy.name is 'fedrolex', whose rolling mixes the groups",
    ),
    _Relation(
        "tiers.shares",
        lambda config: config.tiers.shares is None or len(config.tiers.shares) == len(config.tiers.rank_factors),
        "one share per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "tiers.counts",
        lambda config: config.tiers.counts is None or config.tiers.shares is None,
        "unset when tiers.shares is given (tiers.shares is {config.tiers.shares})",
    ),
    _Relation(
        "tiers.counts",
        lambda config: config.tiers.counts is None or len(config.tiers.counts) == len(config.tiers.rank_factors),
        "one count per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "tiers.of_client",
        lambda config: config.tiers.of_client is None or config.tiers.shares is config.tiers.counts is None,
        "unset when tiers.shares or tiers.counts is given",
    ),
    _Relation(
        "tiers.of_client",
        lambda config: config.tiers.of_client is None or config.tiers.assignment == "fixed",
        "unset unless tiers.assignment is 'fixed' (tiers.assignment is {config.tiers.assignment!r})",
    ),
    _Relation(
        "tiers.of_client",
        lambda config: max(config.tiers.of_client or (0,)) < len(config.tiers.rank_factors),
        "numbers of tiers, from 0 to the number of tiers less one (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "strategy.widths",
        lambda config: config.strategy.widths is None or len(config.strategy.widths) == len(config.tiers.rank_factors),
        "one width per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "strategy.densities",
        lambda config: (
            config.strategy.densities is None or len(config.strategy.densities) == len(config.tiers.rank_factors)
        ),
        "one density per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "strategy.depths",
        lambda config: config.strategy.depths is None or len(config.strategy.depths) == len(config.tiers.rank_factors),
        "one depth per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    _Relation(
        "strategy.adapter_ranks",
        lambda config: (
            config.strategy.adapter_ranks is None
            or len(config.strategy.adapter_ranks) == len(config.tiers.rank_factors)
        ),
        "one rank per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    *(_one_or_per_tier(f"devices.{name}") for name in ("flops", "download", "upload", "latency")),
    _Relation(
        "local.milestones",
        lambda config: config.local.schedule != "step" or len(config.local.milestones) > 0,
        "one or more rounds when local.schedule is 'step'",
    ),
)


def _check_new_folder(field: str, folder: Path) -> None:
    """A run's folder must be new, for nothing is ever overwritten, and it must be possible to make it."""
    if os.path.lexists(folder):
        raise ConfigError.of(field, str(folder), "a folder that does not exist yet")
    # parents of an absolute path end at the root, which exists
    ancestor = next(parent for parent in folder.absolute().parents if os.path.exists(parent))
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigError.of(field, str(folder), f"in a place that can be written to, which {ancestor} is not")
