"""Strategies x settings x seeds as one call: tune, run what is missing, report."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn

from fedhm_jax.comparison.progress import study_progress
from fedhm_jax.comparison.report import write_comparison
from fedhm_jax.comparison.study import Study, StudyResult, StudyRun, Trial
from fedhm_jax.comparison.study_file import check_study, portable, read_study, study_to_toml
from fedhm_jax.config import OutputConfig, SimulationConfig, check_config
from fedhm_jax.data import Dataset
from fedhm_jax.errors import ConfigError, OutOfMemoryError
from fedhm_jax.reporting import is_finished, print_notice, read_run
from fedhm_jax.results import Record
from fedhm_jax.run import HandedOver, check_run, simulate_together

_TUNING_SEED = 1000
"""No seed of a final run should be this one; the held-out samples keep the test set out of the choice in any case."""

Show = Callable[[str, Record], None]


class _Job(NamedTuple):
    """Runs of one strategy in one setting that differ in seed or learning rate, and so share a program."""

    title: str
    configs: dict[Path, SimulationConfig]


def compare(
    study: Study | Path | str,
    folder: Path | str | None = None,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    progress: bool = False,
) -> StudyResult:
    """Runs a study and writes its report; finished runs of an earlier call are not run again.

    The folder receives ``study.toml``, a folder for every run under ``trials/`` and ``runs/`` (as `simulate` leaves
    it), and ``report.md``, ``report.html``, ``results.csv`` and ``figures/``.

    Args:
        study: what to compare, or the TOML file that says so.
        folder: where; ``runs/<name of the file>`` if None.
        data: images and labels in place of every setting's ``data``.
        model: a linen module in place of every setting's ``model``.
        progress: show what is left, and how long it will take.

    Returns:
        All runs, and the grid of learning rates.

    Raises:
        ConfigError: a value that cannot be run, or a folder that holds something else, before anything is run.
        OutOfMemoryError: no room for a run, even of fewer clients side by side; those before it are finished.

    Example:
        >>> import tempfile
        >>> from fedhm_jax import ServerConfig, SimulationConfig, Study, compare
        >>> study = Study("Tiny", ("fedhm",), (0,), {"iid": SimulationConfig(server=ServerConfig(rounds=1))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = compare(study, Path(folder) / "tiny")
        ...     sorted(path.name for path in (Path(folder) / "tiny").iterdir())
        ['figures', 'report.html', 'report.md', 'results.csv', 'runs', 'study.toml']
        >>> len(result.runs)
        1
    """
    if not isinstance(study, Study):
        folder = Path("runs") / Path(study).stem if folder is None else folder
        study = read_study(study)
    elif folder is None:
        raise ConfigError.of("folder", None, "given for a study that is not read from a file")
    check_study(study)
    folder = Path(folder)
    trials, final = _trial_jobs(study, folder), _final_jobs(study, folder, {})
    _check(study, [*trials, *final], data, model)
    _open(study, folder)
    with study_progress(_rounds_left([*trials, *final]), progress) as show:
        for job in trials:
            _check_finished(job)
            _run(job, data, model, show, progress)
        tuned = _judge(study, folder)
        for job in _final_jobs(study, folder, {(t.setting, t.strategy): t.learning_rate for t in tuned if t.chosen}):
            _check_finished(job)
            if _unfinished(job):
                _run(job, data, model, show, progress)
                write_comparison(_result(study, folder, tuned), folder)
    result = _result(study, folder, tuned)
    write_comparison(result, folder)
    return result


def _trial_jobs(study: Study, folder: Path) -> list[_Job]:
    def trial(config: SimulationConfig, strategy: str, rate: float) -> SimulationConfig:
        rounds = config.server.rounds if study.tuning_rounds is None else study.tuning_rounds
        config = _with(config, "data", holdout=study.tuning_samples)
        config = _with(config, "server", seed=_TUNING_SEED, rounds=rounds)
        config = _with(config, "evaluation", every=rounds)
        return _with(_with(config, "strategy", name=strategy), "local", learning_rate=rate)

    return [
        _Job(
            f"{setting}, {strategy}: learning rates",
            {_trial_folder(folder, setting, strategy, rate): trial(config, strategy, rate) for rate in rates},
        )
        for setting, config in study.settings.items()
        for strategy in study.strategies
        if (rates := study.learning_rates)
    ]


def _final_jobs(study: Study, folder: Path, rates: dict[tuple[str, str], float]) -> list[_Job]:
    def final(config: SimulationConfig, setting: str, strategy: str, seed: int) -> SimulationConfig:
        rate = rates.get((setting, strategy), config.local.learning_rate)
        config = _with(_with(config, "strategy", name=strategy), "local", learning_rate=rate)
        return _with(config, "server", seed=seed)

    return [
        _Job(
            f"{setting}, {strategy}",
            {
                _run_folder(folder, setting, strategy, seed): final(config, setting, strategy, seed)
                for seed in study.seeds
            },
        )
        for setting, config in study.settings.items()
        for strategy in study.strategies
    ]


def _with(config: SimulationConfig, section: str, **changes: Any) -> SimulationConfig:
    """The config with some fields of one section changed."""
    sections: dict[str, Any] = {section: replace(getattr(config, section), **changes)}
    return replace(config, **sections)


def _trial_folder(folder: Path, setting: str, strategy: str, rate: float) -> Path:
    return folder / "trials" / setting / strategy / f"learning-rate-{rate:g}"


def _run_folder(folder: Path, setting: str, strategy: str, seed: int) -> Path:
    return folder / "runs" / setting / strategy / f"seed-{seed}"


def _unfinished(job: _Job) -> dict[Path, SimulationConfig]:
    return {place: config for place, config in job.configs.items() if not is_finished(place)}


def _check_finished(job: _Job) -> None:
    """A folder with a run of another config, left by other trials, must not pass for this one."""
    for place, config in job.configs.items():
        if is_finished(place) and portable(read_run(place).config) != portable(config):
            allowed = "the folder of a run with the study's config; move it away to run it again"
            raise ConfigError.of("run", str(place), allowed)


def _rounds_left(jobs: Sequence[_Job]) -> int:
    return sum(config.server.rounds for job in jobs for config in _unfinished(job).values())


def _check(study: Study, jobs: Sequence[_Job], data: Dataset | None, model: nn.Module | None) -> None:
    """Raises what any run that is still to come would raise, before the first is started."""
    for job in jobs:
        for config in list(_unfinished(job).values())[:1]:
            try:
                check_config(config)
                check_run(config, HandedOver(data, model))
            except ConfigError as error:
                raise ConfigError(f"{job.title}: {error}") from error


def _open(study: Study, folder: Path) -> None:
    """Makes the folder, or makes sure that it holds this study."""
    wanted, file = study_to_toml(study), folder / "study.toml"
    if folder.exists() and not folder.is_dir():
        raise ConfigError.of("folder", str(folder), "a folder, not a file")
    if file.exists():
        # As studies, not as texts: a field that did not exist yet when the file was written has its default value.
        if study_to_toml(read_study(file)) != wanted:
            raise ConfigError.of("folder", str(folder), "another folder, for its study.toml is not this study")
        return
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError.of("folder", str(folder), "a new folder, or one with this study's study.toml")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, wanted)
    except OSError as error:
        raise ConfigError.of("folder", str(folder), f"a folder that can be made ({error.strerror})") from error


def _write(file: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


def _run(job: _Job, data: Dataset | None, model: nn.Module | None, show: Show, progress: bool) -> None:
    """Runs what is missing; a run's folder gets its name only when it is complete."""
    missing = _unfinished(job)
    if not missing:
        return
    parts = {place: place.with_name(f"{place.name}.part") for place in missing}
    for part in parts.values():
        _set_aside(part)
    configs = [replace(config, output=OutputConfig(folder=parts[place])) for place, config in missing.items()]
    told: list[Callable[[str], None]] = [lambda notice: print_notice(f"{job.title}: {notice}")] if progress else []
    shown = [lambda record: show(job.title, record)]
    try:
        simulate_together(configs, HandedOver(data, model), on_round=shown, on_notice=told)
    except OutOfMemoryError as error:
        raise OutOfMemoryError(f"{job.title}: {error}", error.clients_per_chunk) from error
    for place, part in parts.items():
        os.replace(part, place)


def _set_aside(part: Path) -> None:
    """What an interrupted run left is kept under another name."""
    if part.exists():
        number = 1
        while (kept := part.with_name(f"{part.name}-interrupted-{number}")).exists():
            number += 1
        os.replace(part, kept)


def _judge(study: Study, folder: Path) -> list[Trial]:
    """Every point of the grid, the best of each setting and strategy chosen; the smaller rate of equals."""
    trials = []
    for setting in study.settings:
        for strategy in study.strategies:
            found: dict[float, float | None] = {
                rate: _trial_accuracy(_trial_folder(folder, setting, strategy, rate)) for rate in study.learning_rates
            }
            finite = {rate: accuracy for rate, accuracy in found.items() if accuracy is not None}
            best = min(finite, key=lambda rate: (-finite[rate], rate)) if finite else min(found, default=0.0)
            trials += [Trial(setting, strategy, rate, accuracy, rate == best) for rate, accuracy in found.items()]
    return trials


def _trial_accuracy(place: Path) -> float | None:
    """Mean over the tiers after the last round; None if the loss is no longer a number."""
    last = read_run(place).history[-1]
    tiers = [tier for tier in last["accuracy"] if tier != "global"]
    if any(last["loss"][tier] is None for tier in tiers):
        return None
    return sum(last["accuracy"][tier] for tier in tiers) / len(tiers)


def _result(study: Study, folder: Path, trials: Sequence[Trial]) -> StudyResult:
    """What the folder holds so far."""
    runs = []
    for setting in study.settings:
        for strategy in study.strategies:
            for seed in study.seeds:
                place = _run_folder(folder, setting, strategy, seed)
                if is_finished(place):
                    runs.append(StudyRun(setting, strategy, seed, *read_run(place)))
    return StudyResult(study, tuple(runs), tuple(trials), folder)
