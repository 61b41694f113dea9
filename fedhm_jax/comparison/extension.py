"""Whether a study may go on in the folder of an earlier one: with all that this had, and what is added to it.

What the seeds, strategies and settings of the earlier study depend on must be as it was: their configs, their builders
and, where something was chosen from a grid, all that the choice depends on. Seeds have no part in a choice, so rates
that were chosen for the earlier seeds are those of added ones. A grid may gain values: what was tried stays, and where
an added value is chosen, the runs begin anew with it. Name, description and reference are the report's alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedhm_jax.comparison.study import Study, Variant
from fedhm_jax.comparison.study_file import builder_name, portable
from fedhm_jax.comparison.variants import grid_of
from fedhm_jax.config import SimulationConfig, config_to_dict
from fedhm_jax.errors import ConfigError, shown


def refuse_other_study(now: Study, then: Study, folder: Path) -> None:
    """Raises one sentence about the first value that finished runs were made with and that is another now.

    Args:
        now: the study to go on with.
        then: the study that the folder holds.
        folder: the folder.

    Raises:
        ConfigError: naming the key, its value and what it was.

    Example:
        >>> then = Study("S", ("fedhm",), (0,), {"iid": SimulationConfig()}, learning_rates=(0.1, 0.2))
        >>> refuse_other_study(Study("S", ("fedhm", "fedavg"), (0, 1), then.settings, (0.1, 0.2)), then, Path("runs/s"))
        >>> refuse_other_study(Study("S", ("fedhm",), (1,), then.settings, (0.1, 0.2)), then, Path("runs/s"))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: seeds is (1,), but must be a list with 0, as in the study that runs/s holds: \
seeds, strategies, settings and values of grids may be added, what else finished runs depend on needs another folder
    """
    for key, value, wanted in _changes(now, then):
        allowed = f"{wanted}, as in the study that {folder} holds: seeds, strategies, settings and values of grids "
        raise ConfigError.of(
            key, value, f"{allowed}may be added, what else finished runs depend on needs another folder"
        )


def _changes(now: Study, then: Study) -> Iterator[tuple[str, Any, str]]:
    """Key, value and what it must be, of all that is not as it was."""
    lists = (
        ("seeds", now.seeds, then.seeds),
        ("strategies", now.names, then.names),
        ("settings", tuple(now.settings), tuple(then.settings)),
    )
    for key, after, before in lists:
        if lost := [str(item) for item in before if item not in after]:
            yield key, after, f"a list with {', '.join(lost)}"
    for name, config in then.settings.items():
        yield from _differences(f"settings.{name}.", _flat(now.settings[name]), _flat(config))
    variants = {variant.name: variant for variant in now.variants}
    for variant in then.variants:
        where, other = f"strategies.{variant.name}.", variants[variant.name]
        yield from _differences(where, _made_of(other), _made_of(variant))
        yield from _lost_values(f"{where}grid.", grid_of(now, other), grid_of(then, variant))
    if any(grid_of(then, variant) for variant in then.variants):
        for key in ("tuning_rounds", "tuning_samples"):
            yield from _differences("", {key: getattr(now, key)}, {key: getattr(then, key)})


def _differences(where: str, now: dict[str, Any], then: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for field in {**then, **now}:
        if (value := now.get(field)) != (wanted := then.get(field)):
            yield where + field, value, "unset" if wanted is None else shown(wanted)


def _lost_values(
    where: str, now: dict[str, tuple[Any, ...]], then: dict[str, tuple[Any, ...]]
) -> Iterator[tuple[str, Any, str]]:
    """Of grids: values that are gone, and fields that are gone or new."""
    for field in {**then, **now}:
        values, wanted = now.get(field), then.get(field)
        if values is None or wanted is None:
            yield where + field, values, "unset" if wanted is None else shown(wanted)
        elif lost := [shown(value) for value in wanted if value not in values]:
            yield where + field, values, f"a list with {', '.join(lost)}"


def _flat(config: SimulationConfig) -> dict[str, Any]:
    sections = config_to_dict(portable(config)).items()
    return {f"{section}.{field}": value for section, fields in sections for field, value in fields.items()}


def _made_of(variant: Variant) -> dict[str, Any]:
    builder = {} if variant.builder is None else {"builder": builder_name(variant.builder)}
    return {**variant.changes, **builder}
