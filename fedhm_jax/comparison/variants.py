"""From a study to configs: what a variant changes, and the points of its grid. Standard library only."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

from fedhm_jax.comparison.centralised import CENTRALISED, is_set_by_centralised
from fedhm_jax.comparison.local_only import LOCAL_ONLY, is_set_by_local_only
from fedhm_jax.comparison.study import RATE, Study, Variant
from fedhm_jax.config import SimulationConfig, StrategyConfig, config_from_dict

_FRAMES: Mapping[str, Callable[[str], bool]] = {CENTRALISED: is_set_by_centralised, LOCAL_ONLY: is_set_by_local_only}
"""What is no federation, and of each which config fields follow from the federation's."""

BUILT_IN: tuple[str, ...] = (*get_args(get_type_hints(StrategyConfig)["name"]), *_FRAMES)
"""Names that stand for a strategy without saying more."""

Point = Mapping[str, Any]
"""Values by field, such as ``{"local.learning_rate": 0.1}``."""


def strategy_name(variant: Variant) -> str | None:
    """Which built-in strategy a variant is; None for one's own.

    Args:
        variant: the variant.

    Returns:
        A name of `BUILT_IN`.

    Example:
        >>> strategy_name(Variant("long", {"strategy.name": "fedhm"})), strategy_name(Variant("fedavg"))
        ('fedhm', 'fedavg')
    """
    return None if variant.builder is not None else variant.changes.get("strategy.name", variant.name)


def follows(variant: Variant, field: str) -> bool:
    """Whether a config field of a variant follows from the federation's config, and is not to be set.

    Args:
        variant: the variant; only frames have such fields.
        field: dotted path.

    Returns:
        The answer.

    Example:
        >>> follows(Variant("centralised"), "local.proximal"), follows(Variant("fedavg"), "local.proximal")
        (True, False)
    """
    return variant.name in _FRAMES and _FRAMES[variant.name](field)


def changed(config: SimulationConfig, changes: Mapping[str, Any]) -> SimulationConfig:
    """A config with other values of some fields.

    Args:
        config: the config.
        changes: values by dotted path; lists where the field is a tuple will do.

    Returns:
        The config; types are checked, ranges are not.

    Raises:
        ConfigError: a field does not exist, or its value is of the wrong type.

    Example:
        >>> changed(SimulationConfig(), {"local.epochs": 2, "model.hidden": [8]}).model.hidden
        (8,)
    """
    sections: dict[str, Any] = {}
    for path, value in changes.items():
        section, dot, key = path.partition(".")
        if dot:
            sections[section] = {**sections.get(section, {}), key: value}
        else:
            sections[section] = value
    return config_from_dict(sections, config)


def config_of(config: SimulationConfig, variant: Variant, point: Point) -> SimulationConfig:
    """The config of a variant in a setting, at a point of its grid.

    Args:
        config: the setting's.
        variant: what changes it.
        point: what changes the result.

    Returns:
        The config; that of a frame is still to be derived from it.

    Raises:
        ConfigError: as in `changed`.
    """
    name = strategy_name(variant)
    named = {} if name is None or name in _FRAMES else {"strategy.name": name}
    return changed(changed(config, {**named, **variant.changes}), point)


def grid_of(study: Study, variant: Variant) -> dict[str, tuple[Any, ...]]:
    """The grid of a variant: the study's, with its own fields in place of those; what it sets itself is not searched.

    Args:
        study: the study.
        variant: one of its variants.

    Returns:
        Values by field, empty if nothing is to be chosen.

    Example:
        >>> study = Study("S", ("fedhm",), (0,), {}, learning_rates=(0.1, 1.0), grid={"local.proximal": (0.0, 0.1)})
        >>> grid_of(study, Variant("fedhm", {"local.proximal": 0.2}))
        {'local.learning_rate': (0.1, 1.0)}
    """
    shared = {
        field: values
        for field, values in shared_grid(study).items()
        if field not in variant.changes and not follows(variant, field)
    }
    return {field: tuple(values) for field, values in {**shared, **variant.grid}.items() if len(values) > 0}


def shared_grid(study: Study) -> dict[str, Sequence[Any]]:
    """The study's own grid, ``learning_rates`` written out.

    Args:
        study: the study.

    Returns:
        Values by field.
    """
    rates = {RATE: study.learning_rates} if study.learning_rates else {}
    return {**rates, **study.grid}


def points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """All combinations of a grid's values; none of an empty grid.

    Args:
        grid: values by field.

    Yields:
        The points, the last field changing fastest.

    Example:
        >>> list(points({"a.b": (1, 2), "c.d": (3,)}))
        [{'a.b': 1, 'c.d': 3}, {'a.b': 2, 'c.d': 3}]
    """
    for values in itertools.product(*grid.values()) if grid else ():
        yield dict(zip(grid, values, strict=True))


def values_of(config: SimulationConfig, fields: Iterable[str]) -> dict[str, Any]:
    """The point that a config lies at.

    Args:
        config: the config.
        fields: dotted paths.

    Returns:
        Values by field.

    Example:
        >>> values_of(SimulationConfig(), ["local.epochs", "local.optimizer"])
        {'local.epochs': 5, 'local.optimizer': 'sgd'}
    """
    paths = {field: field.split(".") for field in fields}
    return {field: getattr(getattr(config, section), key) for field, (section, key) in paths.items()}


def without_rate(point: Point) -> dict[str, Any]:
    """A point's values but for the learning rate: points that have them in common share a program."""
    return {field: value for field, value in point.items() if field != RATE}


def point_name(point: Point) -> str:
    """A point as the name of a folder.

    Args:
        point: values by field.

    Returns:
        The name, such as ``learning-rate-0.1``.

    Example:
        >>> point_name({"local.learning_rate": 0.1, "model.hidden": (16, 8)})
        'learning-rate-0.1,hidden-16-8'
    """
    parts = (f"{field.rpartition('.')[2].replace('_', '-')}-{value_name(value)}" for field, value in point.items())
    return ",".join(re.sub(r"[^\w.+-]+", "-", part).strip("-") for part in parts)


def value_name(value: Any) -> str:
    """A value in a table: numbers as short as they can be told from all others.

    Args:
        value: of a config field.

    Returns:
        The text.

    Example:
        >>> value_name(0.10), value_name(1e-06), value_name(0.1234567), value_name((16, 8)), value_name("sgd")
        ('0.1', '1e-06', '0.1234567', '16, 8', 'sgd')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(value_name, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))
    return str(value)
