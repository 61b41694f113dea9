"""A report of any finished runs side by side, wherever their folders are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedhm_jax.comparison.provenance import as_toml, differences, environment
from fedhm_jax.comparison.report import drawn, report_page, setting_blocks, settings_run
from fedhm_jax.comparison.study import Study, StudyResult, StudyRun, Variant
from fedhm_jax.config import SimulationConfig, config_to_dict
from fedhm_jax.errors import ConfigError
from fedhm_jax.page import Drawing, plain, table
from fedhm_jax.reporting import FinishedRun, read_run


def runs_page(folders: Sequence[Path]) -> str:
    """The report of finished runs as one HTML page.

    Args:
        folders: of runs, also of runs of studies.

    Returns:
        The HTML: what a study's report says, without a choice of learning rates.

    Raises:
        ConfigError: a folder is none of a finished run, or is named twice.
    """
    result = side_by_side(folders)
    title = "Finished runs" if len(folders) > 1 else f"The run in {folders[0]}"
    rows = [
        [plain(str(folder)), plain(run.setting), run.strategy, str(run.seed), str(len(run.history))]
        for folder, run in zip(folders, result.runs, strict=True)
    ]
    blocks = [f"# {plain(title)}"]
    drawings: dict[str, Drawing] = {}
    for setting in settings_run(result):
        blocks += setting_blocks(result, setting)
        drawings |= drawn(result, setting)
    blocks += ["## Runs", table(["folder", "data and clients", "strategy", "seed", "rounds"], rows)]
    blocks += ["## Configs", *_configs(result), "## Made with", environment(result)]
    return report_page(title, "\n\n".join(block for block in blocks if block) + "\n", drawings)


def _configs(result: StudyResult) -> list[str]:
    """Of each row of each setting, as far as it differs from the defaults; runs of a row differ in seeds besides."""
    blocks = []
    for setting, strategy in dict.fromkeys((run.setting, run.strategy) for run in result.runs):
        run = next(run for run in result.runs if (run.setting, run.strategy) == (setting, strategy))
        given = {"handed_over": dict(run.handed_over)} if run.handed_over else {}
        blocks += [f"**{plain(setting)}, {plain(strategy)}**", as_toml({**differences(run.config), **given})]
    return blocks


def side_by_side(folders: Sequence[Path]) -> StudyResult:
    """Finished runs as if they were those of a study.

    Runs of the same data and clients make a setting, and those in it that differ in their seed alone a strategy.

    Args:
        folders: of finished runs.

    Returns:
        The study, whose runs are in the order of the folders.

    Raises:
        ConfigError: as in `runs_page`.
    """
    if not folders:
        raise ConfigError.of("runs", (), "the folder of a finished run at least")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError.of("runs", str(folder), "named once")
    runs = [read_run(folder) for folder in folders]
    settings = _named(
        [(run.config.data, run.config.partition, run.handed_over.get("data"), run.score) for run in runs],
        [re.sub(r"[^\w.-]+", "-", f"{_data_name(run)}-{run.config.partition.method}") for run in runs],
    )
    first = runs[0].config
    methods = _named(
        [(_method(run.config, first), run.handed_over.get("model"), run.handed_over.get("strategy")) for run in runs],
        [_method_name(run) for run in runs],
    )
    strategies = _with_own_name_if_repeated(settings, methods, runs, folders)
    variants = {
        strategy: Variant(strategy, _changes(run, first)) for strategy, run in zip(strategies, runs, strict=True)
    }
    study = Study(
        name="Finished runs",
        strategies=tuple(variants.values()),
        seeds=tuple(sorted({run.config.server.seed for run in runs})),
        settings={setting: runs[settings.index(setting)].config for setting in dict.fromkeys(settings)},
    )
    found = [
        StudyRun(
            setting,
            strategy,
            run.config.server.seed,
            run.config,
            # A run that was ended early may not have been tested in its last round, but was after it.
            (*run.history[:-1], {**run.history[-1], **run.final}),
            run.costs,
            run.seconds,
            run.environment,
            run.handed_over,
            run.score,
        )
        for setting, strategy, run in zip(settings, strategies, runs, strict=True)
    ]
    return StudyResult(study, found)


def _data_name(run: FinishedRun) -> str:
    return run.handed_over.get("data", run.config.data.name)


def _method_name(run: FinishedRun) -> str:
    given, builder = run.handed_over.get("strategy"), run.config.strategy.builder
    if given is not None:
        return given.rpartition(".")[2]
    return run.config.strategy.name if builder is None else builder.rpartition(":")[2]


def _named(things: Sequence[Any], names: Iterable[str]) -> list[str]:
    """A name for each, the same for equal things and another for others: those after the first have a number."""
    seen: dict[str, list[Any]] = {}
    found = []
    for thing, name in zip(things, names, strict=True):
        others = seen.setdefault(name, [])
        if thing not in others:
            others.append(thing)
        index = others.index(thing)
        found.append(name if index == 0 else f"{name}-{index + 1}")
    return found


def _method(config: SimulationConfig, first: SimulationConfig) -> SimulationConfig:
    """What makes two runs the same method: all but seed, data and clients, which become the first run's."""
    server = replace(config.server, seed=first.server.seed)
    return replace(config, server=server, data=first.data, partition=first.partition, output=first.output)


def _with_own_name_if_repeated(
    settings: Sequence[str], methods: Sequence[str], runs: Sequence[FinishedRun], folders: Sequence[Path]
) -> list[str]:
    """Runs that nothing tells apart, the same run made twice, are each a strategy of the name of its folder."""
    keys = [(*key, run.config.server.seed) for *key, run in zip(settings, methods, runs, strict=True)]
    return [
        method if keys.count(key) == 1 else f"{method} in {folder}"
        for key, method, folder in zip(keys, methods, folders, strict=True)
    ]


def _changes(run: FinishedRun, first: SimulationConfig) -> Mapping[str, Any]:
    before = config_to_dict(first)
    changes = {
        f"{section}.{key}": value
        for section, values in config_to_dict(_method(run.config, first)).items()
        for key, value in values.items()
        if value != before[section].get(key)
    }
    return {**changes, "strategy.name": run.handed_over.get("strategy", run.config.strategy.name)}
