"""What the host does between dispatches: sample cohorts, start rounds, evaluate now and then, write records."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any, NamedTuple

import jax
import numpy as np

from fedhm_jax.client import learning_rate_schedule
from fedhm_jax.config import LocalConfig, SimulationConfig
from fedhm_jax.errors import Interrupted, OutOfMemoryError
from fedhm_jax.results import Record
from fedhm_jax.run.checkpoint import Checkpoint, is_due, remove_later, write_checkpoint
from fedhm_jax.run.divergence import check_divergence
from fedhm_jax.run.interruption import stop_signals, wait
from fedhm_jax.run.memory import answering, in_evaluation, in_placing, in_training
from fedhm_jax.run.preparation import Preparation
from fedhm_jax.run.program import program_of
from fedhm_jax.run.resumption import leaves_on_host, on_devices
from fedhm_jax.run.round_record import privacy_record, test_record, training_record
from fedhm_jax.server import Cohort, drop_out, drop_stragglers, sample_cohort
from fedhm_jax.strategies import State

Blocks = Generator[tuple[list[list[Record]], list[State]], None, None]
"""After every dispatch, the records of its rounds (a list over rounds of lists over runs) and the runs' states."""

MOST_ROUNDS = 64
"""Most rounds of one dispatch."""

DISPATCH_SECONDS = 0.5
"""Rounds that take less than this go together, so that the host costs little and a progress bar still moves."""


class _Plan(NamedTuple):
    """One run's part of a round, decided on the host."""

    cohort: Cohort
    learning_rate: float
    dropouts: np.ndarray
    stragglers: np.ndarray
    simulated_seconds: float


def run_rounds(
    configs: Sequence[SimulationConfig],
    runs: Sequence[Preparation],
    before: Sequence[Sequence[Record]],
    tell: Callable[[str], None] = lambda notice: None,
) -> Blocks:
    """Runs rounds, several in a row where nobody needs to look in between.

    Where ``server.clients_per_chunk`` is unset and the first of them do not fit into memory, they begin again with half
    as many clients side by side.

    Args:
        configs: one a run; they differ in seed, learning rate and folder only.
        runs: what was prepared from them.
        before: records of each run's finished rounds.
        tell: called with a line when there are to be fewer clients side by side.

    Yields:
        Records and states.

    Raises:
        OutOfMemoryError: what there is to try is the user's to choose.
    """
    if len(before[0]) == configs[0].server.rounds:
        return
    begun, blocks = _begin(configs, runs, before, tell)
    yield begun
    del begun  # its states would stay in memory
    yield from blocks


def _begin(
    configs: Sequence[SimulationConfig],
    runs: Sequence[Preparation],
    before: Sequence[Sequence[Record]],
    tell: Callable[[str], None],
) -> tuple[tuple[list[list[Record]], list[State]], Blocks]:
    """The first block, of as many clients side by side as fit into memory, and those that follow."""
    # Of several processes, each must run the same program.
    automatic = configs[0].server.clients_per_chunk is None and jax.process_count() == 1
    # A program that fails may have given the state's memory away.
    kept = [leaves_on_host(run.state) for run in runs] if automatic and runs[0].clients_per_chunk > 1 else []
    while True:
        blocks = _blocks(configs, runs, before)
        try:
            return next(blocks), blocks
        except OutOfMemoryError as error:
            if not kept or error.clients_per_chunk is None:
                raise
            fewer = error.clients_per_chunk
            # An error and its frames may hold one another; there is no room for their arrays beside the next attempt's.
            clear_frames(error.__traceback__)
        tell(f"ran out of memory with {runs[0].clients_per_chunk} clients side by side; trying {fewer}")
        runs = [
            run._replace(state=on_devices(run.state, arrays), clients_per_chunk=fewer)
            for run, arrays in zip(runs, kept, strict=True)
        ]


def _blocks(
    configs: Sequence[SimulationConfig], runs: Sequence[Preparation], before: Sequence[Sequence[Record]]
) -> Blocks:
    """The rounds, with a fixed number of clients side by side."""
    config = configs[0]
    first, rounds, every = len(before[0]), config.server.rounds, config.evaluation.every
    placing = answering(partial(in_placing, config, len(runs[0].data.labels)))
    training = partial(answering, partial(in_training, config, runs[0].clients_per_chunk, len(runs)))
    evaluation = partial(answering, partial(in_evaluation, config, runs[0].test.labels.shape[1]))
    looks = {every, rounds, *([config.checkpoint.every] if config.checkpoint.every else [])}
    with placing:
        program = program_of(runs, min(MOST_ROUNDS, *looks))
    schedules = [_schedule(one.local, rounds) for one in configs]
    state = program.state
    last: list[Record] = [history[-1] if history else {} for history in before]
    seconds = DISPATCH_SECONDS
    while first < rounds:
        started = time.perf_counter()
        until_look = min(look - first % look for look in looks)
        count = min(until_look, MOST_ROUNDS, max(int(DISPATCH_SECONDS / seconds), 1))
        plans = [
            [_plan(config, run, schedule, number) for run, schedule in zip(runs, schedules, strict=True)]
            for number in range(first, first + count)
        ]
        cohorts = [[plan.cohort for plan in each] for each in plans]
        rates = [[plan.learning_rate for plan in each] for each in plans]
        due = first + count == rounds or (first + count) % every == 0
        with training():
            state, trained = program.rounds(state, first, cohorts, rates)
        with evaluation():
            tested = program.evaluate(state) if due else [{}] * len(runs)
        wait(partial(jax.block_until_ready, (trained, tested)))
        with training():
            collected = jax.device_get(trained)
        with evaluation():
            tested_now = jax.device_get(tested)
        seconds = (time.perf_counter() - started) / count
        block: list[list[Record]] = []
        for index, (each, metrics) in enumerate(zip(plans, program.metrics(collected), strict=True)):
            tests = tested_now if index == count - 1 else [{}] * len(runs)
            last = [
                _record(run, first + index + 1, plan, trained, tested, previous, seconds / len(runs))
                for run, plan, trained, tested, previous in zip(runs, each, metrics, tests, last, strict=True)
            ]
            block.append(last)
        first += count
        yield block, program.states(state)


def _schedule(local: LocalConfig, rounds: int) -> Callable[[int], float]:
    return learning_rate_schedule(
        local.schedule,
        local.learning_rate,
        rounds=rounds,
        milestones=local.milestones,
        decay_rate=local.decay_rate,
    )


def _plan(config: SimulationConfig, run: Preparation, schedule: Callable[[int], float], number: int) -> _Plan:
    sampled = sample_cohort(number, **run.sampling._asdict())
    heard_of, dropouts = drop_out(sampled, config.devices.dropout, number, run.sampling.seed)
    cohort, stragglers, took = drop_stragglers(heard_of, run.client_seconds, config.devices.deadline)
    return _Plan(cohort, schedule(number), dropouts, stragglers, took)


def _record(
    run: Preparation, number: int, plan: _Plan, metrics: Any, tested: Any, previous: Record, seconds: float
) -> Record:
    took = plan.simulated_seconds
    return {
        "round": number,
        "learning_rate": plan.learning_rate,
        "clients_per_chunk": run.clients_per_chunk,
        **training_record(metrics, plan.stragglers, plan.dropouts, run.plan.costs, previous),
        **privacy_record(run.account, number),
        "simulated_seconds": took,
        "total_simulated_seconds": previous.get("total_simulated_seconds", 0.0) + took,
        **test_record(tested, ("global", *run.plan.tier_names)),
        "seconds": seconds,
    }


def until_diverged(blocks: Blocks) -> Blocks:
    """The rounds of one run, and an end where training has left the finite numbers.

    Args:
        blocks: from `run_rounds`, of one run.

    Yields:
        The same blocks.

    Raises:
        DivergedError: after the block in which it showed; the model is the last good one.
    """
    for block, states in blocks:
        yield block, states
        for records in block:
            check_divergence(records[0])


def with_checkpoints(
    folder: Path, blocks: Blocks, config: SimulationConfig, before: Sequence[Record], facts: Mapping[str, Any]
) -> Blocks:
    """The rounds of one run, a checkpoint after some of them, and an end after the dispatch in which a signal came.

    A checkpoint holds all records, and the first is written before the first record is reported: records whose
    checkpoint was lost with the process can always be made again.

    Args:
        folder: the run's.
        blocks: from `run_rounds`, of one run.
        config: the run's.
        before: records of the finished rounds.
        facts: what a resumed run must share, from `fedhm_jax.run.resumption.facts_of`.

    Yields:
        The same blocks.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM.
        WriteError: a checkpoint could not be written.
    """
    import orbax.checkpoint  # noqa: F401  the time that it takes must not pass for that of the first checkpoint

    remove_later(folder, len(before))
    history, total, cadence = list(before), config.server.rounds, config.checkpoint
    ended, taken = time.perf_counter(), 0.0

    def save(state: State) -> None:
        nonlocal ended, taken
        started = time.perf_counter()
        write_checkpoint(folder, Checkpoint(len(history), leaves_on_host(state), history, facts), cadence.keep)
        ended = time.perf_counter()
        taken = ended - started

    with stop_signals(announce=config.output.progress) as stopping:
        for block, states in blocks:
            history += [records[0] for records in block]
            due = is_due(cadence.every, len(history), total, time.perf_counter() - ended, taken)
            if due:
                save(states[0])
            yield block, states
            if (signal := stopping()) is not None and len(history) < total:
                if not due:
                    save(states[0])
                raise Interrupted(folder, len(history), signal)
