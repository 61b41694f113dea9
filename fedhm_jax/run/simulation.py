"""One call runs a whole simulation."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optax
from flax import linen as nn

from fedhm_jax.config import OutputConfig, SimulationConfig, check_config
from fedhm_jax.data import AnyData
from fedhm_jax.engine import is_first
from fedhm_jax.errors import CallbackError, ConfigError, StopSimulation
from fedhm_jax.reporting import Report, print_notice, reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult
from fedhm_jax.run.blas_threads import one_blas_thread
from fedhm_jax.run.host_loop import Blocks, Keeping, run_rounds, until_diverged, with_checkpoints
from fedhm_jax.run.preparation.assembly import Run, prepare
from fedhm_jax.run.preparation.data import with_given_clients
from fedhm_jax.run.preparation.handed_over import NOTHING, HandedOver, names_of, refuse_others
from fedhm_jax.run.program import program_of
from fedhm_jax.run.program_cache import kept_programs
from fedhm_jax.run.resumption import (
    Start,
    find_common_start,
    find_start,
    fingerprints_of,
    stored_config,
    with_checkpoint,
)
from fedhm_jax.run.round_record import test_record
from fedhm_jax.run.seeds import can_share_a_program
from fedhm_jax.run.trained.model_folder import write_models
from fedhm_jax.run.trained.trained_model import GLOBAL, Models, trained_models
from fedhm_jax.run.watching import end_early, enter, tell
from fedhm_jax.run.worst_client import WORST_CLIENT, worst_client_record
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tasks import Task
from fedhm_jax.trackers import Tracker, trackers_of
from fedhm_jax.tree import Params


def simulate(
    config: SimulationConfig | None = None,
    *,
    data: AnyData | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    partition: Sequence[Any] | None = None,
    server_optimizer: optax.GradientTransformation | None = None,
    init: Params | None = None,
    task: Task | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
    trackers: Sequence[Tracker] = (),
    resume: Path | str | None = None,
) -> SimulationResult:
    """Runs a federated simulation from its config.

    With an output folder, the run writes checkpoints. After Ctrl-C or SIGTERM it finishes the round, writes one more
    and stops; a second signal stops it at once. Resumed on the same machine, a run goes on to the results, bit for bit,
    of one that was never stopped; only the wall times in its records are its own.

    Args:
        config: what to run; the defaults if not given, or the config of the run to resume.
        data: samples in place of ``config.data``: images and labels from `fedhm_jax.dataset_from_arrays`, or with a
            task of your own any arrays from `fedhm_jax.data_from_arrays`.
        model: a linen module in place of ``config.model``, called as ``module(inputs, mask=mask, train=train)``. Tiers
            factorize the kernels of its `LowRankDense` and `LowRankConv` layers.
        strategy: builder of a federated method in place of ``config.strategy.name``, see docs/adding_a_strategy.md.
        partition: sample indices of each client in place of ``config.partition``, see docs/clients.md.
        server_optimizer: an optax optimizer in place of ``config.server.optimizer``; it is given what each round's
            merge changed as a gradient, in the shapes of the strategy's global model.
        init: a parameter tree to start from, such as another run's ``result.params``, in place of a fresh one or of
            ``config.model.init``; factorized kernels are multiplied out.
        task: what the samples are to teach, in place of the data's own: see docs/tasks.md.
        on_start: called once with the run's plan, after all checks and before the first round.
        on_round: called after every round with its record; to end the run there, raise `fedhm_jax.StopSimulation`.
        trackers: viewers that get every record as well, from `fedhm_jax.trackers`, beside ``config.output.trackers``.
        resume: folder of a run to go on with from its latest checkpoint, or the folder of one checkpoint. Data, model,
            strategy, partition, server optimizer, init and task must be given again if they were given. A finished run
            is read back.

    Returns:
        History, final metrics, costs, trained models, and the folder with the run's files.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written; or a run that cannot be resumed
            like this, see `fedhm_jax.run.resumption.find_start`.
        CallbackError: one of ``on_start`` or ``on_round`` has raised an exception; the latest checkpoint is good.
        DivergedError: training has left the finite numbers; the model of the latest checkpoint is good.
        Interrupted: Ctrl-C or SIGTERM came, and the run has an output folder.
        OutOfMemoryError: no room for a round, even of fewer clients side by side, an evaluation, or the data.
        WriteError: a record or a checkpoint could not be written, on a full disk for instance.

    Example:
        >>> from fedhm_jax import ModelConfig, ServerConfig, SimulationConfig, simulate
        >>> result = simulate(SimulationConfig(model=ModelConfig("mlp"), server=ServerConfig(rounds=1)))
        >>> sorted(result.final["accuracy"])
        ['f1', 'f2', 'f4', 'f8', 'global']
    """
    given = HandedOver(data, model, strategy, partition, server_optimizer, init, task)
    if partition is not None:
        own = SimulationConfig() if resume is None else stored_config(resume)
        config = with_given_clients(own if config is None else config, partition)
    if resume is None:
        start = Start(SimulationConfig() if config is None else config, None, finished=False, handed_over={})
        check_config(start.config)
    else:
        start = find_start(resume, config)
        refuse_others(names_of(given), start.handed_over, f"simulate(resume={str(resume)!r}, ")
    config = start.config
    viewers = [*trackers, *trackers_of(config.output)]
    with kept_programs(config.output.compilation_cache), one_blas_thread():
        run = prepare(config, given)
        fingerprint = {} if config.output.folder is None else fingerprints_of([run])[0]
        history: Sequence[Record] = ()
        if start.checkpoint is not None:
            run, history = with_checkpoint(run, start.checkpoint, fingerprint), start.checkpoint.history
        if start.finished:
            return _result(run, history, run.state, trained_models(run, run.state))
        notify = _notices([config], ())
        for notice in run.parts.notices:
            notify(notice)
        blocks = until_diverged(run_rounds([run], [history], notify))
        if config.output.folder is not None and is_first():
            kept = [Keeping(config.output.folder, history, fingerprint)]
            blocks = with_checkpoints(kept, blocks, config, announce=config.output.progress)
        before = None if resume is None else [history]
        return _reported([run], blocks, on_start, on_round, before, [viewers])[0]


def simulate_seeds(
    config: SimulationConfig,
    seeds: Sequence[int],
    *,
    folders: Sequence[Path] | None = None,
    data: AnyData | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    partition: Sequence[Any] | None = None,
    server_optimizer: optax.GradientTransformation | None = None,
    init: Params | None = None,
    task: Task | None = None,
    on_round: Sequence[Callable[[Record], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Runs several seeds of one config as one program, compiled once; each result is that of a run of its own.

    Seeds whose partitions have unequal numbers of samples do not fit into one program and run one after another, and so
    do those whose samples are sharded. With folders, each run writes checkpoints, from which `simulate` can go on.

    Args:
        config: what to run; its ``server.seed`` and ``output.folder`` are replaced.
        seeds: the seeds.
        folders: a new folder for each seed's files; None writes nothing.
        data: as in `simulate`.
        model: as in `simulate`.
        strategy: as in `simulate`.
        partition: as in `simulate`.
        server_optimizer: as in `simulate`.
        init: as in `simulate`; every seed starts from it.
        task: as in `simulate`.
        on_round: called with every record of every seed. A record's ``seconds`` are its share of the wall time.

    Returns:
        One result a seed.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
        Interrupted: Ctrl-C or SIGTERM came, and there are folders.
        OutOfMemoryError: as in `simulate`.
        WriteError: as in `simulate`.

    Example:
        >>> from fedhm_jax import ModelConfig, ServerConfig, SimulationConfig, TiersConfig, simulate_seeds
        >>> tiers = TiersConfig(rank_factors=(1, 4))
        >>> config = SimulationConfig(model=ModelConfig("mlp"), tiers=tiers, server=ServerConfig(rounds=1))
        >>> results = simulate_seeds(config, seeds=(0, 1))
        >>> [result.config.server.seed for result in results]
        [0, 1]
    """
    places: Sequence[Path | None] = [None] * len(seeds) if folders is None else folders
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ConfigError.of("seeds", tuple(seeds), "one or more different integers")
    if len(places) != len(seeds):
        raise ConfigError.of("folders", tuple(map(str, places)), f"one folder for each of the {len(seeds)} seeds")
    configs = [
        replace(config, server=replace(config.server, seed=seed), output=replace(config.output, folder=place))
        for seed, place in zip(seeds, places, strict=True)
    ]
    given = HandedOver(data, model, strategy, partition, server_optimizer, init, task)
    return simulate_together(configs, given, on_round=on_round)


def simulate_together(
    configs: Sequence[SimulationConfig],
    given: HandedOver = NOTHING,
    *,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
    on_notice: Sequence[Callable[[str], None]] = (),
    go_on: bool = False,
) -> tuple[SimulationResult, ...]:
    """Runs configs that differ in nothing but seed, learning rate and output folder, as one program.

    Args:
        configs: one a run.
        given: what is handed over in place of what the configs say.
        on_start: called with every run's plan.
        on_round: called with every record of every run.
        on_notice: called with a line about what the runs decided for themselves.
        go_on: the folders may be there, of runs that were interrupted: they go on from the latest round that all of
            them can go on from, and where there is none, begin anew in other folders' place.

    Returns:
        One result a run.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
        Interrupted: as in `simulate_seeds`.
        OutOfMemoryError: as in `simulate`.
        WriteError: as in `simulate`.
    """
    if given.partition is not None:
        configs = [with_given_clients(config, given.partition) for config in configs]
    for config in configs:
        check_config(replace(config, output=replace(config.output, folder=None)) if go_on else config)
    viewers = [trackers_of(config.output) for config in configs]
    alone = partial(
        simulate_together, given=given, on_start=on_start, on_round=on_round, on_notice=on_notice, go_on=go_on
    )
    if len(configs) > 1 and configs[0].server.samples == "sharded":
        # What is where follows from the partition, and so from the seed.
        return tuple(alone([config])[0] for config in configs)
    with kept_programs(configs[0].output.compilation_cache), one_blas_thread():
        runs = [prepare(config, given) for config in configs]
        if not can_share_a_program([run.data for run in runs]):
            return tuple(alone([config])[0] for config in configs)
        notify = _notices(configs, on_notice)
        for notice in dict.fromkeys(notice for run in runs for notice in run.parts.notices):
            notify(notice)
        folders = [config.output.folder for config in configs if config.output.folder is not None]
        fingerprints = fingerprints_of(runs) if folders else []
        start = find_common_start(folders, configs, fingerprints) if go_on else None
        histories: list[Sequence[Record]] = [()] * len(runs)
        if start is not None:
            runs = [with_checkpoint(*of_run) for of_run in zip(runs, start, fingerprints, strict=True)]
            histories = [checkpoint.history for checkpoint in start]
            notify(f"going on after round {start[0].round}")
        blocks = run_rounds(runs, histories, notify)
        if folders and is_first():
            kept = [Keeping(*of_run) for of_run in zip(folders, histories, fingerprints, strict=True)]
            announce = bool(on_notice) or configs[0].output.progress
            blocks = with_checkpoints(kept, blocks, configs[0], announce)
        return _reported(runs, blocks, on_start, on_round, None if start is None else histories, viewers)


def _notices(configs: Sequence[SimulationConfig], on_notice: Sequence[Callable[[str], None]]) -> Callable[[str], None]:
    """Notifies everyone who asked, and with progress on, standard error."""
    shown = is_first() and any(config.output.progress for config in configs)

    def notify(notice: str) -> None:
        for callback in (*on_notice, *([print_notice] if shown else [])):
            callback(notice)

    return notify


def _reported(
    runs: Sequence[Run],
    blocks: Blocks,
    on_start: Sequence[Callable[[RunPlan], None]],
    on_round: Sequence[Callable[[Record], None]],
    before: Sequence[Sequence[Record]] | None,
    trackers: Sequence[Sequence[Tracker]],
) -> tuple[SimulationResult, ...]:
    """Runs the rounds and calls everyone who watches; ``before`` are the finished rounds of runs that are resumed."""
    configs = [run.parts.plan.config for run in runs]
    with ExitStack() as stack:
        stack.enter_context(closing(blocks))
        reports = [
            stack.enter_context(reporting(config if is_first() else _silent(config), run.parts.plan.score))
            for config, run in zip(configs, runs, strict=True)
        ]
        begun = [None] * len(runs) if before is None else before
        for report, run, history in zip(reports, runs, begun, strict=True):
            report.start(run.parts.plan, history)
            if tell(on_start, run.parts.plan, "before the first round"):
                raise ConfigError("on_start must not raise StopSimulation, for there is no round yet to stop after")
        watchers = [
            [*on_round, *(enter(stack, tracker, run.parts.plan) for tracker in viewers if is_first())]
            for run, viewers in zip(runs, trackers, strict=True)
        ]

        histories: list[list[Record]] = [list(history or ()) for history in begun]
        states = [run.state for run in runs]
        for block, states in blocks:  # noqa: B007  the last states are used below
            try:
                stop = [
                    _pass_on(record, history, report, watching)
                    for records in block
                    for history, report, watching, record in zip(histories, reports, watchers, records, strict=True)
                ]
            except CallbackError as error:
                end_early(blocks, error)
                raise
            if any(stop):
                end_early(blocks, StopSimulation())
                break

        models = [trained_models(run, state) for run, state in zip(runs, states, strict=True)]
        results = tuple(map(_result, runs, histories, states, models))
        for report, result, trained in zip(reports, results, models, strict=True):
            if result.folder is not None and is_first():
                write_models(result.folder, trained)
            report.end(result)
    return results


def _pass_on(
    record: Record, history: list[Record], report: Report, on_round: Sequence[Callable[[Record], object]]
) -> bool:
    """A record to everyone who wants it; whether the run is to end."""
    history.append(record)
    report.round(record)
    return tell(on_round, record, f"in round {record['round']}")


def _silent(config: SimulationConfig) -> SimulationConfig:
    """Of several processes that run one simulation, only the first reports."""
    return replace(config, output=OutputConfig())


def _result(run: Run, history: Sequence[Record], state: State, models: Models) -> SimulationResult:
    config = run.parts.plan.config
    return SimulationResult(
        config=config,
        history=tuple(history),
        final=_final(run, history[-1], state),
        costs=run.parts.plan.costs,
        params=models[GLOBAL].params,
        folder=config.output.folder,
        models=models,
        score=run.parts.plan.score,
    )


def _final(run: Run, last: Record, state: State) -> Record:
    """Metrics of the last round; it was not evaluated if a callback has made it the last."""
    plan = run.parts.plan
    if plan.score.metric in last:
        return {name: last[name] for name in (*plan.metrics, WORST_CLIENT) if name in last}
    (tested,) = program_of([run]).evaluate(state)
    models = ("global", *plan.tier_names)
    return {**test_record(tested, models, plan.metrics), **worst_client_record(run.parts, tested)}
