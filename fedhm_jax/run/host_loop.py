"""What the host does between dispatches: plan rounds, start them, evaluate now and then, write records."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any, NamedTuple

import jax

from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import CallbackError, Interrupted, OutOfMemoryError, StopSimulation
from fedhm_jax.results import Record
from fedhm_jax.run.checkpoint import Checkpoint, is_due, remove_later, write_checkpoint
from fedhm_jax.run.divergence import check_divergence
from fedhm_jax.run.interruption import stop_signals, wait
from fedhm_jax.run.memory import evaluation_error, placement_error, reporting_out_of_memory, training_error
from fedhm_jax.run.preparation.assembly import Run
from fedhm_jax.run.program import Evaluation, Program, RoundMetrics, program_of
from fedhm_jax.run.resumption import leaves_on_host, on_devices
from fedhm_jax.run.round_plan import RoundPlan, learning_rates, plan_round
from fedhm_jax.run.round_record import round_record
from fedhm_jax.strategies import State

Block = tuple[list[list[Record]], list[State]]
"""After a dispatch, the records of its rounds (a list over rounds of lists over runs) and the runs' states."""

Blocks = Generator[Block, None, None]

MOST_ROUNDS = 64
"""Most rounds of one dispatch."""

DISPATCH_SECONDS = 0.5
"""Rounds that take less than this go together, so that the host costs little and a progress bar still moves."""


def run_rounds(
    runs: Sequence[Run],
    before: Sequence[Sequence[Record]],
    notify: Callable[[str], None] = lambda notice: None,
) -> Blocks:
    """Runs rounds, several in a row where the host has nothing to do in between.

    Where ``server.clients_per_chunk`` is unset and the first of them do not fit into memory, they begin again with half
    as many clients side by side.

    Args:
        runs: they differ in seed, learning rate and folder only.
        before: records of each run's finished rounds.
        notify: called with a line when there are to be fewer clients side by side.

    Yields:
        Records and states.

    Raises:
        OutOfMemoryError: what there is to try is the user's to choose.
    """
    if len(before[0]) == runs[0].parts.plan.config.server.rounds:
        return
    first, blocks = _begin(runs, before, notify)
    yield first
    del first  # its states would stay in memory
    yield from blocks


def _begin(
    runs: Sequence[Run], before: Sequence[Sequence[Record]], notify: Callable[[str], None]
) -> tuple[Block, Blocks]:
    """The first block, of as many clients side by side as fit into memory, and those that follow."""
    # Of several processes, each must run the same program.
    automatic = runs[0].parts.plan.config.server.clients_per_chunk is None and jax.process_count() == 1
    # A program that fails may have given the state's memory away.
    kept = [leaves_on_host(run.state) for run in runs] if automatic and runs[0].clients_per_chunk > 1 else []
    while True:
        blocks = _blocks(runs, before)
        try:
            return next(blocks), blocks
        except OutOfMemoryError as error:
            if not kept or error.clients_per_chunk is None:
                raise
            fewer = error.clients_per_chunk
            # An error and its frames may hold one another; there is no room for their arrays beside the next attempt's.
            clear_frames(error.__traceback__)
        notify(f"ran out of memory with {runs[0].clients_per_chunk} clients side by side; trying {fewer}")
        runs = [
            run._replace(state=on_devices(run.state, arrays), clients_per_chunk=fewer)
            for run, arrays in zip(runs, kept, strict=True)
        ]


def _blocks(runs: Sequence[Run], before: Sequence[Sequence[Record]]) -> Blocks:
    """The rounds, with a fixed number of clients side by side."""
    config = runs[0].parts.plan.config
    rounds = config.server.rounds
    # After every so many rounds the host has something to do.
    cadences = {config.evaluation.every, rounds, *([config.checkpoint.every] if config.checkpoint.every else [])}
    with reporting_out_of_memory(partial(placement_error, config, runs[0].parts.dataset.train_size)):
        program = program_of(runs, min(MOST_ROUNDS, *cadences))
    schedules = [learning_rates(run) for run in runs]
    state = program.state
    previous: list[Record] = [history[-1] if history else {} for history in before]
    finished, seconds = len(before[0]), DISPATCH_SECONDS
    while finished < rounds:
        started = time.perf_counter()
        until_due = min(cadence - finished % cadence for cadence in cadences)
        count = min(until_due, MOST_ROUNDS, max(int(DISPATCH_SECONDS / seconds), 1))
        plans = [
            [plan_round(run, schedule, number) for run, schedule in zip(runs, schedules, strict=True)]
            for number in range(finished, finished + count)
        ]
        is_evaluated = finished + count == rounds or (finished + count) % config.evaluation.every == 0
        state, trained, tested = _dispatch(program, runs, state, finished, plans, is_evaluated)
        seconds = (time.perf_counter() - started) / count
        block = _records(runs, finished, plans, trained, tested, previous, seconds / len(runs))
        previous = block[-1]
        finished += count
        yield block, program.states(state)


def _dispatch(
    program: Program,
    runs: Sequence[Run],
    state: State,
    first: int,
    plans: list[list[RoundPlan]],
    is_evaluated: bool,
) -> tuple[State, list[list[RoundMetrics]], list[Evaluation]]:
    """The state after some rounds, and what they report once it is on the host: training by round and run, tests by
    run."""
    config = runs[0].parts.plan.config
    training = partial(training_error, config, runs[0].clients_per_chunk, len(runs))
    evaluation = partial(evaluation_error, config, runs[0].test.rows.shape[1])
    cohorts = [[plan.cohort for plan in of_round] for of_round in plans]
    rates = [[plan.learning_rate for plan in of_round] for of_round in plans]
    with reporting_out_of_memory(training):
        state, trained = program.rounds(state, first, cohorts, rates)
    with reporting_out_of_memory(evaluation):
        tested = program.evaluate(state) if is_evaluated else [{}] * len(runs)
    wait(partial(jax.block_until_ready, (trained, tested)))
    with reporting_out_of_memory(training):
        metrics = program.metrics(jax.device_get(trained))
    with reporting_out_of_memory(evaluation):
        return state, metrics, jax.device_get(tested)


def _records(
    runs: Sequence[Run],
    first: int,
    plans: list[list[RoundPlan]],
    trained: list[list[RoundMetrics]],
    tested: list[Evaluation],
    previous: list[Record],
    seconds: float,
) -> list[list[Record]]:
    """A list over rounds of lists over runs; the tests are those after the last round."""
    block: list[list[Record]] = []
    for index, (round_plans, metrics) in enumerate(zip(plans, trained, strict=True)):
        evaluations = tested if index == len(plans) - 1 else [{}] * len(runs)
        previous = [
            round_record(first + index + 1, *reported, seconds=seconds)
            for reported in zip(runs, round_plans, metrics, evaluations, previous, strict=True)
        ]
        block.append(previous)
    return block


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


class Keeping(NamedTuple):
    """What a run's checkpoints need besides its state.

    Attributes:
        folder: the run's.
        before: records of the finished rounds.
        fingerprint: what a resumed run must share, from `fedhm_jax.run.resumption.fingerprints_of`.
    """

    folder: Path
    before: Sequence[Record]
    fingerprint: Mapping[str, Any]


def with_checkpoints(kept: Sequence[Keeping], blocks: Blocks, config: SimulationConfig, announce: bool) -> Blocks:
    """The rounds of some runs, checkpoints after some of them, and an end after the dispatch in which a signal came.

    A checkpoint holds all records, and the first is written before the first record is reported: records whose
    checkpoint was lost with the process can always be made again. One is written as well where the run ends early, by
    a signal or by a callback (`fedhm_jax.run.watching.end_early`). Runs that go side by side have theirs of the same
    rounds.

    Args:
        kept: one a run.
        blocks: from `run_rounds`, of these runs.
        config: of the first; number of rounds and cadence are those of all.
        announce: answer the first signal with a line on standard error.

    Yields:
        The same blocks.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; it names the first run's folder.
        WriteError: a checkpoint could not be written.
    """
    for folder, before, _ in kept:
        remove_later(folder, len(before))
    histories, total, cadence = [list(before) for _, before, _ in kept], config.server.rounds, config.checkpoint
    finished, ended, taken = len(histories[0]), time.perf_counter(), 0.0

    def save(states: Sequence[State]) -> None:
        nonlocal ended, taken
        started = time.perf_counter()
        for (folder, _, fingerprint), history, state in zip(kept, histories, states, strict=True):
            write_checkpoint(folder, Checkpoint(finished, leaves_on_host(state), history, fingerprint), cadence.keep)
        ended = time.perf_counter()
        taken = ended - started

    with stop_signals(announce) as stopping:
        for block, states in blocks:
            finished += len(block)
            for records in block:
                for history, record in zip(histories, records, strict=True):
                    history.append(record)
            due = is_due(cadence.every, finished, total, time.perf_counter() - ended, taken)
            if due:
                save(states)
            try:
                yield block, states
                if (signal := stopping()) is not None and finished < total:
                    raise Interrupted(kept[0].folder, finished, signal)
            except (Interrupted, StopSimulation, CallbackError):
                if not due:
                    save(states)
                raise
