"""The last part of a report: how the runs came about. Grids and what was chosen, configs, machine and versions."""

from collections.abc import Iterable, Iterator
from typing import Any

from fedhm_jax.comparison.study import StudyResult, Trial, Variant
from fedhm_jax.comparison.study_file import builder_name, portable
from fedhm_jax.comparison.tuning import at_the_edge
from fedhm_jax.comparison.variants import grid_of, points, value_name
from fedhm_jax.config import SimulationConfig, config_to_dict
from fedhm_jax.page import plain, table


def grid_blocks(result: StudyResult, settings: Iterable[str]) -> Iterator[str]:
    """Every point of every grid, what was chosen, and where that lies at an edge.

    Args:
        result: the study, with trials.
        settings: those to show.

    Yields:
        Paragraphs and tables; strategies of equal grids share a table, whose columns are values of its first field.
    """
    held = result.study.tuning_samples
    in_percent = all(trial.score.unit == "%" for trial in result.trials)
    unit = ", in percent" if in_percent else ""
    yield (
        "What a strategy does not set itself is the best point of its grid in each setting (bold), by the mean of the "
        f"tiers on {f'{100 * held:g} % of the' if held < 1 else held} training samples, held out{unit}; the test "
        "set has no part in it."
    )
    groups: dict[str, tuple[dict[str, tuple[Any, ...]], list[Variant]]] = {}
    for variant in result.study.variants:
        grid = grid_of(result.study, variant)
        groups.setdefault(repr(grid), (grid, []))[1].append(variant)
    for setting in settings:
        for grid, variants in groups.values():
            if grid:
                names = [variant.name for variant in variants]
                yield _grid_table(result, setting, grid, names)
                yield from _edges(result, setting, grid, names)


def _grid_table(result: StudyResult, setting: str, grid: dict[str, tuple[Any, ...]], names: list[str]) -> str:
    (first, values), *others = grid.items()
    rows = []
    for name in names:
        trials = [trial for trial in result.trials if (trial.setting, trial.strategy) == (setting, name)]
        for rest in points(dict(others)) if others else [{}]:
            cells = [_cell(trial) for value in values for trial in trials if trial.point == {first: value, **rest}]
            rows.append([name, *(plain(value_name(value)) for value in rest.values()), *cells])
    heading = [setting, *(f"`{field}`" for field, _ in others), *(plain(value_name(value)) for value in values)]
    return f"Columns: `{first}`.\n\n{table(heading, rows)}"


def _cell(trial: Trial) -> str:
    text = "diverged" if trial.value is None else f"{trial.score.in_unit(trial.value):.{trial.score.decimals}f}"
    return f"**{text}**" if trial.chosen else text


def _edges(result: StudyResult, setting: str, grid: dict[str, tuple[Any, ...]], names: list[str]) -> Iterator[str]:
    notes = [
        f"{trial.strategy}: {clause}"
        for trial in result.trials
        if trial.setting == setting and trial.strategy in names and trial.chosen
        for clause in at_the_edge(trial, grid)
    ]
    if notes:
        yield f"**Chosen at the edge of the grid**, beyond which there may be better: {'; '.join(notes)}."


def config_blocks(result: StudyResult) -> Iterator[str]:
    """The settings' configs as what differs from the defaults, and what each strategy changes.

    Args:
        result: the study.

    Yields:
        Paragraphs and blocks of TOML.
    """
    yield (
        "The config of each setting, as far as it differs from the defaults. Strategies differ in `strategy.name`, in "
        "what is chosen from their grids and in what is listed below; runs of a strategy in the seed."
    )
    for setting, config in result.study.settings.items():
        yield f"**{setting}**"
        yield as_toml(differences(portable(config))) or "All defaults."
    for variant in result.study.variants:
        table = {"builder": builder_name(variant.builder)} if variant.builder is not None else {}
        if changes := as_toml({**table, **variant.changes}):
            yield f"**{variant.name}**"
            yield changes


def differences(config: SimulationConfig) -> dict[str, dict[str, Any]]:
    """What in a config differs from the defaults.

    Args:
        config: the config.

    Returns:
        Values by section and field; sections without a difference are left out.

    Example:
        >>> from fedhm_jax.config import LocalConfig
        >>> differences(SimulationConfig(local=LocalConfig(epochs=2)))
        {'local': {'epochs': 2}}
    """
    defaults = config_to_dict(SimulationConfig())
    different = {
        section: {key: value for key, value in keys.items() if value != defaults[section].get(key)}
        for section, keys in config_to_dict(config).items()
    }
    return {section: keys for section, keys in different.items() if keys}


def environment(result: StudyResult) -> str:
    """Machine, device and versions of all runs.

    Args:
        result: the study.

    Returns:
        One line.
    """
    found: dict[str, set[str]] = {}
    for run in result.runs:
        for name, value in run.environment.items():
            found.setdefault(name, set()).add(value)
    return ", ".join(f"{name}: {' and '.join(sorted(values))}" for name, values in found.items())


def as_toml(values: dict[str, Any]) -> str:
    """A block of TOML.

    Args:
        values: tables.

    Returns:
        Markdown; empty without values.

    Example:
        >>> print(as_toml({"local": {"epochs": 2}}))
        ```toml
        [local]
        epochs = 2
        ```
    """
    import tomli_w

    return f"```toml\n{tomli_w.dumps(values).strip()}\n```" if values else ""
