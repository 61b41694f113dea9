"""A study as jobs: runs that share a compiled program, each with its folder and its config."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.comparison.centralised import CENTRALISED, centralised
from fedhm_jax.comparison.local_only import LOCAL_ONLY, local_only
from fedhm_jax.comparison.study import Study, Variant
from fedhm_jax.comparison.study_checks import about
from fedhm_jax.comparison.variants import Point, config_of, grid_of, point_name, points, value_name, without_rate
from fedhm_jax.config import SimulationConfig
from fedhm_jax.run import HandedOver, StrategyBuilder, with_given_clients

_TUNING_SEED = 1000
"""No seed of a final run should be this one; the held-out samples keep the test set out of the choice in any case."""


class Job(NamedTuple):
    """Runs of one strategy in one setting that differ in seed or learning rate, and so share a program.

    Attributes:
        title: what they are, for messages.
        strategy: its name in the study.
        configs: the config of each run by its folder.
        given: what the runs take besides their configs.
    """

    title: str
    strategy: str
    configs: dict[Path, SimulationConfig]
    given: HandedOver


class Plan(NamedTuple):
    """What jobs are made from.

    Attributes:
        study: the study.
        folder: where its runs go.
        builders: by strategy, None for those that are built in.
        size: numbers of training samples, of those that clients hold, and of clients of a config; asked only where a
            config follows from them.
        given: what is handed over to all of the study.
    """

    study: Study
    folder: Path
    builders: Mapping[str, StrategyBuilder | None]
    size: Callable[[SimulationConfig], tuple[int, int, int]]
    given: HandedOver = HandedOver()


def trial_jobs(plan: Plan) -> list[Job]:
    """The points of all grids on held-out training samples; those that differ in the learning rate together.

    Args:
        plan: what to run.

    Returns:
        No job for a strategy without a grid.

    Raises:
        ConfigError: data of which a share is to be held out cannot be loaded.
    """
    return [
        job
        for setting in plan.study.settings
        for variant in plan.study.variants
        for job in _trials_of(plan, setting, variant)
    ]


def final_jobs(plan: Plan, chosen: Mapping[tuple[str, str], Point]) -> list[Job]:
    """The runs of the report.

    Args:
        plan: what to run.
        chosen: values from the grid by setting and strategy; where there are none, the settings' own.

    Returns:
        One job for each setting and strategy.

    Raises:
        ConfigError: as in `trial_jobs`.
    """
    return [
        _seeds_of(plan, setting, variant, chosen.get((setting, variant.name), {}))
        for setting in plan.study.settings
        for variant in plan.study.variants
    ]


def _trials_of(plan: Plan, setting: str, variant: Variant) -> Iterable[Job]:
    jobs: dict[str, Job] = {}
    for point in points(grid_of(plan.study, variant)):
        others = ", ".join(f"{field} {value_name(value)}" for field, value in without_rate(point).items())
        title = f"{setting}, {variant.name}: {others or 'learning rates'}"
        with about(title):
            config = _trial(plan, config_of(plan.study.settings[setting], variant, point))
            config = _as_run(plan, config, variant)
            job = jobs.setdefault(title, Job(title, variant.name, {}, _given(plan, config, variant)))
        job.configs[trial_folder(plan.folder, setting, variant.name, point)] = config
    return jobs.values()


def _trial(plan: Plan, config: SimulationConfig) -> SimulationConfig:
    rounds = config.server.rounds if plan.study.tuning_rounds is None else plan.study.tuning_rounds
    held = plan.study.tuning_samples
    if held < 1:
        held = max(round(held * plan.size(_with(config, "data", holdout=None))[0]), 1)
    config = _with(config, "data", holdout=held)
    config = _with(config, "server", seed=_TUNING_SEED, rounds=rounds)
    return _with(config, "evaluation", every=rounds)


def _seeds_of(plan: Plan, setting: str, variant: Variant, point: Point) -> Job:
    title = f"{setting}, {variant.name}"
    with about(title):
        config = _as_run(plan, config_of(plan.study.settings[setting], variant, point), variant)
        given = _given(plan, config, variant)
    configs = {
        run_folder(plan.folder, setting, variant.name, seed): _with(config, "server", seed=seed)
        for seed in plan.study.seeds
    }
    return Job(title, variant.name, configs, given)


def _as_run(plan: Plan, config: SimulationConfig, variant: Variant) -> SimulationConfig:
    """A strategy's config as it is, or the one that a frame derives from it."""
    if variant.name == CENTRALISED:
        _, samples, clients = plan.size(config)
        return centralised(config, samples, clients)
    return local_only(config) if variant.name == LOCAL_ONLY else config


def _given(plan: Plan, config: SimulationConfig, variant: Variant) -> HandedOver:
    """What a run takes besides its config; clients that are handed over, only where it does not deal for itself."""
    given = plan.given._replace(strategy=plan.builders[variant.name])
    if given.partition is None or config.partition.method != "given":
        return given._replace(partition=None)
    if variant.name == CENTRALISED:
        everybody = np.unique(np.concatenate([np.asarray(part) for part in given.partition]))
        return given._replace(partition=[everybody])
    with_given_clients(config, given.partition)  # refuses another number of them, which a variant may ask for
    return given


def trial_folder(folder: Path, setting: str, strategy: str, point: Point) -> Path:
    """Folder of the run of a grid's point."""
    return folder / "trials" / setting / strategy / point_name(point)


def run_folder(folder: Path, setting: str, strategy: str, seed: int) -> Path:
    """Folder of a run of the report."""
    return folder / "runs" / setting / strategy / f"seed-{seed}"


def _with(config: SimulationConfig, section: str, **changes: Any) -> SimulationConfig:
    """The config with some fields of one section changed."""
    sections: dict[str, Any] = {section: replace(getattr(config, section), **changes)}
    return replace(config, **sections)
