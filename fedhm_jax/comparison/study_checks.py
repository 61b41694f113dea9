"""Checks of a study that need neither data nor a model nor JAX."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedhm_jax.comparison.study import RATE, Study, Variant
from fedhm_jax.comparison.variants import BUILT_IN, changed, follows, grid_of, point_name, value_name
from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import ConfigError

_SET_BY_STUDY = ("server.seed", "output.", "checkpoint.", "data.data_dir", "data.cache_dir", "data.holdout")
"""A study sets these itself, or they are places on this machine."""

_NO_BUILDER = "unset in a study, where builder = 'mine.py:build' in the table of a strategy says it"

_MOST_POINTS = 10_000
_LONGEST_NAME = 200


def check_study(study: Study) -> None:
    """Raises one sentence about the first value that a study cannot have.

    Args:
        study: the study.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    for key in ("name", "description"):
        if not isinstance(getattr(study, key), str):
            raise ConfigError.of(key, getattr(study, key), "a string")
    _check_strategies(study.strategies)
    if not _are(study.seeds, int) or not study.seeds or min(study.seeds) < 0:
        raise ConfigError.of("seeds", study.seeds, "a list of one or more integers of at least 0")
    if not _are(study.learning_rates, int | float) or not all(rate > 0 for rate in study.learning_rates):
        raise ConfigError.of("learning_rates", study.learning_rates, "a list of numbers above 0")
    for key, values in (("strategies", study.names), ("seeds", study.seeds), ("learning_rates", study.learning_rates)):
        if len(set(values)) < len(values):
            raise ConfigError.of(key, values, "a list without repetitions")
    _check_tuning(study)
    if study.reference is not None and study.reference not in study.names:
        raise ConfigError.of("reference", study.reference, f"one of the strategies, {', '.join(study.names)}")
    for name, config in study.settings.items():
        _check_name("settings", name)
        if config.output.folder is not None:
            raise ConfigError.of(f"settings.{name}.output.folder", str(config.output.folder), "unset in a study")
        if config.strategy.builder is not None:
            raise ConfigError.of(f"settings.{name}.strategy.builder", config.strategy.builder, _NO_BUILDER)
    if study.learning_rates and RATE in study.grid:
        raise ConfigError.of("learning_rates", study.learning_rates, f"unset when grid has {RATE}")
    _check_grid("grid", study.grid, study)
    for variant in study.variants:
        _check_variant(variant, study)
        _check_points(f"strategies.{variant.name}", grid_of(study, variant))


@contextmanager
def about(title: str) -> Iterator[None]:
    """Puts what it is about before the sentence of an error.

    Args:
        title: such as ``"strategies.mine"``.

    Raises:
        ConfigError: in place of one that was raised inside.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{title}: {error}") from error


def _check_strategies(strategies: Any) -> None:
    names = f"a list of names among {', '.join(BUILT_IN)}"
    if not _are(strategies, str | Variant) or not strategies:
        raise ConfigError.of("strategies", strategies, names)
    plain = tuple(entry for entry in strategies if isinstance(entry, str))
    if not set(plain) <= set(BUILT_IN):
        raise ConfigError.of("strategies", plain, f"{names}; a table [strategies.<name>] makes others")
    for entry in strategies:
        _check_name("strategies", entry.name if isinstance(entry, Variant) else entry)


def _check_tuning(study: Study) -> None:
    rounds, samples = study.tuning_rounds, study.tuning_samples
    if rounds is not None and not (_is(rounds, int) and rounds >= 1):
        raise ConfigError.of("tuning_rounds", rounds, "an integer of at least 1")
    if not (_is(samples, int) and samples >= 1) and not (_is(samples, float) and 0 < samples < 1):
        raise ConfigError.of("tuning_samples", samples, "an integer of at least 1, or a share above 0 and below 1")


def _check_variant(variant: Variant, study: Study) -> None:
    where = f"strategies.{variant.name}"
    for key in ("changes", "grid"):
        if not isinstance(getattr(variant, key), Mapping):
            raise ConfigError.of(f"{where}.{key}", getattr(variant, key), "a table")
    for field, value in variant.changes.items():
        _check_free(f"{where}.{field}", field, value)
    with about(where):
        changed(SimulationConfig(), variant.changes)
    _check_kind(variant, where)
    for field, value in variant.changes.items():
        if follows(variant, field):
            raise ConfigError.of(f"{where}.{field}", value, "unset, for it follows from the federation's config")
        if field in variant.grid:
            raise ConfigError.of(f"{where}.{field}", value, f"unset when {where}.grid has it")
    if idle := [field for field in variant.grid if follows(variant, field)]:
        raise ConfigError.of(f"{where}.grid.{idle[0]}", variant.grid[idle[0]], "unset, for it makes no difference")
    _check_grid(f"{where}.grid", variant.grid, study)


def _check_kind(variant: Variant, where: str) -> None:
    """Whether a variant is one strategy: a built-in one, or one's own."""
    strategy = variant.changes.get("strategy.name")
    if variant.builder is not None:
        if not callable(variant.builder) and not (isinstance(variant.builder, str) and ":" in variant.builder):
            raise ConfigError.of(f"{where}.builder", variant.builder, "a file and a name in it, like 'mine.py:build'")
        if strategy is not None or variant.name in BUILT_IN:
            raise ConfigError.of(f"{where}.builder", variant.builder, "unset for a built-in strategy")
    elif strategy is None and variant.name not in BUILT_IN:
        known = ", ".join(BUILT_IN)
        raise ConfigError(f"{where} needs strategy.name or builder, for only {known} stand for themselves")
    elif strategy is not None and variant.name in BUILT_IN and strategy != variant.name:
        raise ConfigError.of(f"{where}.strategy.name", strategy, f"{variant.name!r}, or the table of another name")


def _check_grid(where: str, grid: Any, study: Study) -> None:
    if not isinstance(grid, Mapping):
        raise ConfigError.of(where, grid, "a table of lists")
    for field, values in grid.items():
        if not isinstance(values, list | tuple):
            raise ConfigError.of(f"{where}.{field}", values, "a list of values")
        if field == "strategy.name" or (field == "server.rounds" and study.tuning_rounds is not None):
            reason = "tuning_rounds is set" if field == "server.rounds" else "every strategy is a table of its own"
            raise ConfigError.of(f"{where}.{field}", values, f"unset, for {reason}")
        for value in values:
            _check_free(f"{where}.{field}", field, value)
            with about(where):
                changed(SimulationConfig(), {field: value})
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ConfigError.of(f"{where}.{field}", values, "a list without repetitions")
        if len({point_name({field: value}) for value in values}) < len(values):
            raise ConfigError.of(f"{where}.{field}", values, "a list of values whose folders have different names")


def _check_points(where: str, grid: Mapping[str, tuple[Any, ...]]) -> None:
    """Every point is a run with a folder of its own."""
    count = math.prod(map(len, grid.values()))
    if count > _MOST_POINTS:
        raise ConfigError.of(f"{where}.grid", f"{count:,} combinations", f"one of at most {_MOST_POINTS:,}")
    longest = {field: max(values, key=lambda value: len(value_name(value))) for field, values in grid.items()}
    if len(point_name(longest).encode()) > _LONGEST_NAME:
        raise ConfigError.of(f"{where}.grid", tuple(grid), "fewer fields, or shorter values")


def _check_free(where: str, field: str, value: Any) -> None:
    """Whether a variant or a grid may set a field."""
    if not isinstance(field, str):
        raise ConfigError.of(where, field, "a config key, such as 'local.epochs'")
    if field.startswith(_SET_BY_STUDY):
        raise ConfigError.of(where, value, "unset, for the study sets it or the settings do")
    if field == "strategy.builder":
        raise ConfigError.of(where, value, _NO_BUILDER)
    if value is None:
        raise ConfigError.of(where, value, "a value; what is left out keeps the setting's")


def _check_name(key: str, name: Any) -> None:
    """Names become folders."""
    letters = name.replace("-", "").replace("_", "").replace(".", "") if isinstance(name, str) else ""
    if not letters.isalnum() or name.startswith(".") or len(name) > 100:
        raise ConfigError.of(key, name, "a name of at most 100 letters, digits, '-', '_' and '.'")


def _are(values: Any, kind: Any) -> bool:
    return isinstance(values, tuple) and all(_is(value, kind) for value in values)


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
