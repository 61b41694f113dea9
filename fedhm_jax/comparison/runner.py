"""Strategies x settings x seeds as one call: tune, run what is missing, report."""

import os
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flax import linen as nn

from fedhm_jax.comparison.builders import builder_of, builder_source
from fedhm_jax.comparison.extension import refuse_other_study
from fedhm_jax.comparison.handed_over import keep, refuse_others
from fedhm_jax.comparison.jobs import Job, Plan, final_jobs, run_folder, trial_jobs
from fedhm_jax.comparison.local_only import LOCAL_ONLY
from fedhm_jax.comparison.progress import study_progress
from fedhm_jax.comparison.report import write_comparison
from fedhm_jax.comparison.study import Study, StudyResult, StudyRun, Trial
from fedhm_jax.comparison.study_checks import about, check_study
from fedhm_jax.comparison.study_file import builder_name, portable, read_study, study_from_dict, study_to_toml
from fedhm_jax.comparison.tuning import chosen_points, judge
from fedhm_jax.comparison.variants import changed, grid_of, value_name, values_of
from fedhm_jax.config import DataConfig, OutputConfig, PartitionConfig, SimulationConfig, check_config
from fedhm_jax.data import AnyData
from fedhm_jax.errors import ConfigError, OutOfMemoryError
from fedhm_jax.files import set_aside
from fedhm_jax.reporting import is_finished, print_notice, read_run
from fedhm_jax.results import Record
from fedhm_jax.run import (
    HandedOver,
    check_run,
    common_rounds,
    simulate_alone,
    simulate_together,
    with_given_clients,
)
from fedhm_jax.tasks import Task

Show = Callable[[str, Record], None]

_SECONDS_BETWEEN_REPORTS = 60.0  # drawing its figures may take as long as a small run


def compare(
    study: Study | Path | str,
    folder: Path | str | None = None,
    *,
    data: AnyData | None = None,
    model: nn.Module | None = None,
    partition: Sequence[Any] | None = None,
    init: Any = None,
    task: Task | None = None,
    progress: bool = False,
) -> StudyResult:
    """Runs a study and writes its report; finished runs of an earlier call are not run again.

    Seeds, strategies, settings and values of grids may be added from call to call; what would change finished runs is
    refused. Where an added value is chosen, the runs of the value before are kept under another name.

    The folder receives ``study.toml``, a folder for every run under ``trials/`` and ``runs/`` (as `simulate` leaves
    it), ``builders/`` with the text of one's own, and ``report.md``, ``report.html``, ``results.csv`` and ``figures/``.

    Args:
        study: what to compare, or the TOML file that says so.
        folder: where; ``runs/<name of the file>`` if None.
        data: samples in place of every setting's ``data``.
        model: a linen module in place of every setting's ``model``.
        partition: sample indices of each client in place of every setting's ``partition``, see docs/clients.md.
        init: parameters that every run starts from, in place of fresh ones, as in `fedhm_jax.simulate`. Clients and
            first parameters must be given again when a study goes on; others are refused.
        task: what the samples are to teach, in place of the data's own, as in `fedhm_jax.simulate`.
        progress: show what is left, and how long it will take.

    Returns:
        All runs, and the points of the grids.

    Raises:
        ConfigError: a value that cannot be run, or a folder that holds something else, before anything is run.
        OutOfMemoryError: no room for a run, even of fewer clients side by side; those before it are finished.

    Example:
        >>> import tempfile
        >>> from fedhm_jax import ModelConfig, ServerConfig, SimulationConfig, Study, compare
        >>> config = SimulationConfig(model=ModelConfig("mlp"), server=ServerConfig(rounds=1))
        >>> study = Study("Tiny", ("fedhm",), (0,), {"iid": config})
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
    folder, given = Path(folder), HandedOver(data, model, partition=partition, init=init, task=task)
    # First of all, for without its clients a study may not even pass the checks.
    if (folder / "study.toml").exists():
        refuse_others(folder, given)
    if partition is not None:
        study = replace(
            study, settings={name: with_given_clients(config, partition) for name, config in study.settings.items()}
        )
    builders = {variant.name: builder_of(variant, study.folder) for variant in study.variants}
    plan = Plan(study, folder, builders, partial(_size, given, {}), given)
    trials, final = trial_jobs(plan), final_jobs(plan, {})
    _check([*trials, *final])
    _open(study, folder, given)
    _keep_builders(study, folder)
    with study_progress(_rounds_left([*trials, *final]), progress) as told:
        for job in trials:
            _check_finished(job)
            _run(job, told.record, progress)
        tuned, grids = judge(study, folder), {variant.name: grid_of(study, variant) for variant in study.variants}
        with _now_and_then(lambda: write_comparison(_result(study, folder, tuned), folder)) as report:
            for job in final_jobs(plan, chosen_points(tuned)):
                left = _rounds_left([job])
                _retire(job, grids[job.strategy])
                told.more(_rounds_left([job]) - left)
                _check_finished(job)
                if _unfinished(job):
                    _run(job, told.record, progress)
                    report()
    result = _result(study, folder, tuned)
    write_comparison(result, folder)
    return result


@contextmanager
def _now_and_then(write: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Yields what is called after every job: it writes a minute after the last time; what fails leaves nothing out."""
    last, left_out = time.monotonic(), False

    def after_a_job() -> None:
        nonlocal last, left_out
        left_out = time.monotonic() - last < _SECONDS_BETWEEN_REPORTS
        if not left_out:
            write()
            last = time.monotonic()

    try:
        yield after_a_job
    except BaseException:
        if left_out:
            write()
        raise


def _size(
    given: HandedOver,
    known: dict[tuple[DataConfig, PartitionConfig], tuple[int, int, int]],
    config: SimulationConfig,
) -> tuple[int, int, int]:
    """Numbers of training samples, of those that clients hold, and of clients of a config; each data set is loaded
    once."""
    key = config.data, config.partition
    if key not in known:
        check_config(config)
        # FedAvg trains any model: what is asked here must not depend on the strategy
        plainest = replace(config, strategy=replace(config.strategy, name="fedavg"))
        dealt = given.partition if config.partition.method == "given" else None
        parts = check_run(plainest, given._replace(partition=dealt))
        known[key] = parts.dataset.train_size, sum(map(len, parts.dealt)), len(parts.dealt)
    return known[key]


def _unfinished(job: Job) -> dict[Path, SimulationConfig]:
    return {place: config for place, config in job.configs.items() if not is_finished(place)}


def _check_finished(job: Job) -> None:
    """A folder with a run of another config, left by other trials, must not pass for this one."""
    for place, config in job.configs.items():
        if is_finished(place) and portable(read_run(place).config) != portable(config):
            allowed = "the folder of a run with the study's config; move it away to run it again"
            raise ConfigError.of("run", str(place), allowed)


def _retire(job: Job, grid: Mapping[str, Sequence[Any]]) -> None:
    """Finished runs at a point of the grid that is chosen no longer, now that there are more, make room."""
    for place, config in job.configs.items():
        if is_finished(place):
            before, now = portable(read_run(place).config), portable(config)
            point = values_of(before, grid).items()
            is_a_point = all(value_name(value) in map(value_name, grid[field]) for field, value in point)
            if is_a_point and before != now and changed(before, values_of(now, grid)) == now:
                set_aside(place, "superseded")


def _rounds_left(jobs: Sequence[Job]) -> int:
    """Clients that train alone report once; runs that were interrupted are likely to go on."""
    left = 0
    for job in jobs:
        if missing := _unfinished(job):
            done = max(common_rounds([_part(place) for place in missing]), default=0)
            rounds = [config.server.rounds for config in missing.values()]
            left += len(missing) if job.strategy == LOCAL_ONLY else sum(rounds) - done * len(missing)
    return left


def _check(jobs: Sequence[Job]) -> None:
    """Raises what any run that is still to come would raise, before the first is started."""
    for job in jobs:
        with about(job.title):
            missing = list(_unfinished(job).values())
            for config in missing:
                check_config(config)
            if missing:
                check_run(missing[0], job.given)


def _open(study: Study, folder: Path, given: HandedOver) -> None:
    """Makes the folder, or makes sure that all it holds is part of this study."""
    wanted, file = study_to_toml(study), folder / "study.toml"
    if folder.exists() and not folder.is_dir():
        raise ConfigError.of("folder", str(folder), "a folder, not a file")
    if file.exists():
        # As studies, not as texts: a field that did not exist yet when the file was written has its default value.
        then = read_study(file)
        if study_to_toml(then) != wanted:
            refuse_other_study(study_from_dict(tomllib.loads(wanted)), then, folder)
            _write(file, wanted)
        return
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError.of("folder", str(folder), "a new folder, or one with this study's study.toml")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep(folder, given)
        _write(file, wanted)
    except OSError as error:
        raise ConfigError.of("folder", str(folder), f"a folder that can be made ({error.strerror})") from error


def _keep_builders(study: Study, folder: Path) -> None:
    """Keeps the text of one's own builders beside their runs: finished runs of another must not pass for theirs."""
    for variant in study.variants:
        if (source := builder_source(study, variant)) is None:
            continue
        kept = folder / "builders" / f"{variant.name}.py"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            _write(kept, source)
        elif kept.read_text(encoding="utf-8") != source:
            places = [place for place in _places_of(study, folder, variant.name) if place.exists()]
            if places:
                allowed = f"as {kept} keeps it, for finished runs were made with that; to run anew, move away {kept}"
                allowed += "".join(f" and {place}" for place in places)
                raise ConfigError.of(f"strategies.{variant.name}.builder", builder_name(variant.builder), allowed)
            _write(kept, source)


def _places_of(study: Study, folder: Path, strategy: str) -> list[Path]:
    return [folder / kind / setting / strategy for setting in study.settings for kind in ("trials", "runs")]


def _write(file: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


def _run(job: Job, show: Show, progress: bool) -> None:
    """Runs what is missing, from where it was interrupted; a run's folder gets its name only when it is complete."""
    missing = _unfinished(job)
    if not missing:
        return
    parts = {place: _part(place) for place in missing}
    configs = [replace(config, output=OutputConfig(folder=parts[place])) for place, config in missing.items()]
    told: list[Callable[[str], None]] = [lambda notice: print_notice(f"{job.title}: {notice}")] if progress else []
    shown = [lambda record: show(job.title, record)]
    with about(job.title):
        try:
            if job.strategy == LOCAL_ONLY:
                for part in parts.values():
                    set_aside(part, "interrupted")
                simulate_alone(configs, job.given, on_round=shown, on_notice=told)
            else:
                simulate_together(configs, job.given, on_round=shown, on_notice=told, go_on=True)
        except OutOfMemoryError as error:
            raise OutOfMemoryError(f"{job.title}: {error}", error.clients_per_chunk) from error
    for place, part in parts.items():
        shutil.rmtree(part / "checkpoints", ignore_errors=True)
        os.replace(part, place)


def _part(place: Path) -> Path:
    """Where a run is until it is complete."""
    return place.with_name(f"{place.name}.part")


def _result(study: Study, folder: Path, trials: Sequence[Trial]) -> StudyResult:
    """What the folder holds so far."""
    runs = []
    for setting in study.settings:
        for strategy in study.names:
            for seed in study.seeds:
                place = run_folder(folder, setting, strategy, seed)
                if is_finished(place):
                    run = read_run(place)
                    seen = run.config, run.history, run.costs, run.seconds, run.environment, run.handed_over, run.score
                    runs.append(StudyRun(setting, strategy, seed, *seen))
    return StudyResult(study, tuple(runs), tuple(trials), folder)
