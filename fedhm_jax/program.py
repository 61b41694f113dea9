"""The compiled round of a run, or of several like it, behind one interface."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.cohort import Cohort
from fedhm_jax.preparation import Preparation
from fedhm_jax.seeds import over_seeds, stack, stack_data, stack_test, unstack
from fedhm_jax.strategies.base import State


class Program(NamedTuple):
    """The compiled round and evaluation, for lists with one entry a run whatever their number.

    Attributes:
        state: before the first round.
        round_step: ``round_step(state, cohorts, learning_rates, keys) -> (state, metrics of each run)``.
        evaluate: ``evaluate(state) -> metrics of each run``.
        states: ``states(state)``, the server state of each run.
    """

    state: State
    round_step: Callable[[State, list[Cohort], list[float], list[jax.Array]], tuple[State, list[Any]]]
    evaluate: Callable[[State], list[Any]]
    states: Callable[[State], list[State]]


def program_of(runs: Sequence[Preparation]) -> Program:
    """One program for runs that differ in seed and learning rate only.

    Args:
        runs: the runs, with equal shapes (see `can_share_a_program`).

    Returns:
        The program; it is compiled at its first call.
    """
    first, seeds = runs[0], len(runs)
    engine = first.engine_for(max(run.capacity for run in runs))
    engine = engine if seeds == 1 else over_seeds(engine)
    step, test = jax.jit(engine.round_step, donate_argnums=0), jax.jit(engine.evaluate)
    if seeds == 1:
        data, tests = first.data, first.test
        state, join, split = first.state, lambda trees: trees[0], lambda tree: [tree]
    else:
        data, tests = stack_data([run.data for run in runs]), stack_test([run.test for run in runs])
        state, join, split = stack([run.state for run in runs]), stack, partial(unstack, seeds=seeds)

    def round_step(
        state: State, cohorts: list[Cohort], learning_rates: list[float], keys: list[jax.Array]
    ) -> tuple[State, list[Any]]:
        rates = [jnp.asarray(rate, data.mean.dtype) for rate in learning_rates]
        state, metrics = step(state, data, join(cohorts), join(rates), join(keys))
        return state, split(metrics)

    return Program(state, round_step, lambda state: split(test(state, data, tests)), split)
