"""One call runs a whole simulation."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from flax import linen as nn

from fedhm_jax.config import OutputConfig, SimulationConfig, check_config
from fedhm_jax.data import Dataset
from fedhm_jax.engine import is_first
from fedhm_jax.errors import ConfigError
from fedhm_jax.reporting import print_notice, reporting
from fedhm_jax.results import Record, RunPlan, SimulationResult
from fedhm_jax.run.handed_over import names_of, refuse_others
from fedhm_jax.run.host_loop import Blocks, run_rounds, until_diverged, with_checkpoints
from fedhm_jax.run.model_folder import write_models
from fedhm_jax.run.preparation import Run, prepare
from fedhm_jax.run.resumption import Start, find_start, fingerprint_of, with_checkpoint
from fedhm_jax.run.round_record import METRICS
from fedhm_jax.run.seeds import can_share_a_program
from fedhm_jax.run.trained import GLOBAL, Models, trained_models
from fedhm_jax.strategies import Setting, Strategy
from fedhm_jax.tree import Params


def simulate(
    config: SimulationConfig | None = None,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    init: Params | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
    resume: Path | str | None = None,
) -> SimulationResult:
    """Runs a federated simulation from its config.

    With an output folder, the run writes checkpoints. After Ctrl-C or SIGTERM it finishes the round, writes one more
    and stops; a second signal stops it at once. Resumed on the same machine, a run goes on to the results, bit for bit,
    of one that was never stopped; only the wall times in its records are its own.

    Args:
        config: what to run; the defaults if not given, or the config of the run to resume.
        data: images and labels in place of ``config.data``, from `fedhm_jax.dataset_from_arrays`.
        model: a linen module in place of ``config.model``, called as ``module(images, mask=mask, train=train)``. Tiers
            factorize the kernels of its `LowRankDense` and `LowRankConv` layers.
        strategy: builder of a federated method in place of ``config.strategy.name``, see docs/adding_a_strategy.md.
        init: a parameter tree to start from, such as another run's ``result.params``, in place of a fresh one or of
            ``config.model.init``; factorized kernels are multiplied out.
        on_start: called once with the run's plan, after all checks and before the first round.
        on_round: called after every round with its record.
        resume: folder of a run to go on with from its latest checkpoint, or the folder of one checkpoint. Data, model,
            strategy and init must be given again if they were given. A finished run is read back.

    Returns:
        History, final metrics, costs, trained models, and the folder with the run's files.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written; or a run that cannot be resumed
            like this, see `fedhm_jax.run.resumption.find_start`.
        DivergedError: training has left the finite numbers; the model of the latest checkpoint is good.
        Interrupted: Ctrl-C or SIGTERM came, and the run has an output folder.
        OutOfMemoryError: no room for a round, even of fewer clients side by side, an evaluation, or the data.
        WriteError: a record or a checkpoint could not be written, on a full disk for instance.

    Example:
        >>> from fedhm_jax import ServerConfig, SimulationConfig, simulate
        >>> result = simulate(SimulationConfig(server=ServerConfig(rounds=1)))
        >>> sorted(result.final["accuracy"])
        ['f1', 'f2', 'f4', 'f8', 'global']
    """
    if resume is None:
        start = Start(SimulationConfig() if config is None else config, None, finished=False, handed_over={})
        check_config(start.config)
    else:
        start = find_start(resume, config)
        given = names_of(data, model, strategy, init)
        refuse_others(given, start.handed_over, f"simulate(resume={str(resume)!r}, ")
    config = start.config
    run = prepare(config, data, model, strategy, init)
    fingerprint = {} if config.output.folder is None else fingerprint_of(run)
    history: Sequence[Record] = ()
    if start.checkpoint is not None:
        run, history = with_checkpoint(run, start.checkpoint, fingerprint), start.checkpoint.history
    if start.finished:
        return _result(run, history, trained_models(run, run.state))
    blocks = until_diverged(run_rounds([run], [history], _notices([config], ())))
    if config.output.folder is not None and is_first():
        blocks = with_checkpoints(config.output.folder, blocks, config, history, fingerprint)
    return _reported([run], blocks, on_start, on_round, None if resume is None else history)[0]


def simulate_seeds(
    config: SimulationConfig,
    seeds: Sequence[int],
    *,
    folders: Sequence[Path] | None = None,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    on_round: Sequence[Callable[[Record], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Runs several seeds of one config as one program, compiled once; each result is that of a run of its own.

    Seeds whose partitions have unequal numbers of samples do not fit into one program and run one after another.

    Args:
        config: what to run; its ``server.seed`` and ``output.folder`` are replaced.
        seeds: the seeds.
        folders: a new folder for each seed's files; None writes nothing.
        data: as in `simulate`.
        model: as in `simulate`.
        strategy: as in `simulate`.
        on_round: called with every record of every seed. A record's ``seconds`` are its share of the wall time.

    Returns:
        One result a seed.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
        OutOfMemoryError: as in `simulate`.

    Example:
        >>> from fedhm_jax import ServerConfig, SimulationConfig, simulate_seeds
        >>> results = simulate_seeds(SimulationConfig(server=ServerConfig(rounds=1)), seeds=(0, 1))
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
    return simulate_together(configs, data=data, model=model, strategy=strategy, on_round=on_round)


def simulate_together(
    configs: Sequence[SimulationConfig],
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
    on_start: Sequence[Callable[[RunPlan], None]] = (),
    on_round: Sequence[Callable[[Record], None]] = (),
    on_notice: Sequence[Callable[[str], None]] = (),
) -> tuple[SimulationResult, ...]:
    """Runs configs that differ in nothing but seed, learning rate and output folder, as one program.

    Args:
        configs: one a run.
        data: as in `simulate`.
        model: as in `simulate`.
        strategy: as in `simulate`.
        on_start: called with every run's plan.
        on_round: called with every record of every run.
        on_notice: called with a line about what the runs decided for themselves.

    Returns:
        One result a run.

    Raises:
        ConfigError: a value that cannot be run, before anything is compiled or written.
        OutOfMemoryError: as in `simulate`.
    """
    for config in configs:
        check_config(config)
    runs = [prepare(config, data, model, strategy) for config in configs]
    if not can_share_a_program([run.data for run in runs]):
        alone = partial(simulate_together, data=data, model=model, strategy=strategy, on_notice=on_notice)
        return tuple(alone([config], on_start=on_start, on_round=on_round)[0] for config in configs)
    blocks = run_rounds(runs, [()] * len(runs), _notices(configs, on_notice))
    return _reported(runs, blocks, on_start, on_round)


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
    before: Sequence[Record] | None = None,
) -> tuple[SimulationResult, ...]:
    """Runs the rounds and calls everyone who watches; ``before`` are the finished rounds of a run that is resumed."""
    configs = [run.parts.plan.config for run in runs]
    with ExitStack() as stack:
        stack.enter_context(closing(blocks))
        reports = [stack.enter_context(reporting(config if is_first() else _silent(config))) for config in configs]
        for report, run in zip(reports, runs, strict=True):
            report.start(run.parts.plan, before)
            for callback in on_start:
                callback(run.parts.plan)

        histories: list[list[Record]] = [list(before or ()) for _ in runs]
        states = [run.state for run in runs]
        for block, states in blocks:  # noqa: B007  the last states are used below
            for records in block:
                for history, report, record in zip(histories, reports, records, strict=True):
                    history.append(record)
                    report.round(record)
                    for on_record in on_round:
                        on_record(record)

        models = [trained_models(run, state) for run, state in zip(runs, states, strict=True)]
        results = tuple(map(_result, runs, histories, models))
        for report, result, trained in zip(reports, results, models, strict=True):
            if result.folder is not None and is_first():
                write_models(result.folder, trained)
            report.end(result)
    return results


def _silent(config: SimulationConfig) -> SimulationConfig:
    """Of several processes that run one simulation, only the first reports."""
    return replace(config, output=OutputConfig())


def _result(run: Run, history: Sequence[Record], models: Models) -> SimulationResult:
    config = run.parts.plan.config
    return SimulationResult(
        config=config,
        history=tuple(history),
        final={name: history[-1][name] for name in METRICS},
        costs=run.parts.plan.costs,
        params=models[GLOBAL].params,
        folder=config.output.folder,
        models=models,
    )
