"""The compiled rounds of a run, or of several like it, behind one interface."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.run.preparation import Preparation
from fedhm_jax.run.seeds import over_seeds, stack, stack_data, stack_test, unstack
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import State


class Program(NamedTuple):
    """The compiled rounds and evaluation, for lists with one entry a run whatever their number.

    Attributes:
        state: before the first round.
        rounds: ``rounds(state, first, cohorts, learning_rates) -> (state, metrics)``, several rounds in a row, the
            first of them number ``first`` (from 0); the last two arguments are lists over rounds of lists over runs.
        metrics: ``metrics(stacked) -> metrics``, lists over rounds of lists over runs, of what ``rounds`` returned once
            it is on the host.
        evaluate: ``evaluate(state) -> metrics of each run``.
        states: ``states(state)``, the server state of each run.
    """

    state: State
    rounds: Callable[[State, int, list[list[Cohort]], list[list[float]]], tuple[State, Any]]
    metrics: Callable[[Any], list[list[Any]]]
    evaluate: Callable[[State], list[Any]]
    states: Callable[[State], list[State]]


def program_of(runs: Sequence[Preparation], most_rounds: int = 1) -> Program:
    """One program for runs that differ in seed and learning rate only.

    Args:
        runs: the runs, with equal shapes (see `can_share_a_program`) and equal ``clients_per_chunk``.
        most_rounds: rounds that one call of ``rounds`` can do.

    Returns:
        The program; it is compiled at its first call, once for any number of rounds.
    """
    first, seeds = runs[0], len(runs)
    engine = first.engine_for(max(run.capacity for run in runs), first.clients_per_chunk)
    engine = engine if seeds == 1 else over_seeds(engine)
    if seeds == 1:
        data, tests, keys = first.data, first.test, first.key
        state, join, split = first.state, lambda trees: trees[0], lambda tree: [tree]
    else:
        data, tests = stack_data([run.data for run in runs]), stack_test([run.test for run in runs])
        keys = stack([run.key for run in runs])
        state, join, split = stack([run.state for run in runs]), _stack_on_host, partial(unstack, seeds=seeds)
    # Compiled on its own, a round is traced once, though its shapes are asked for before it runs.
    steps = jax.jit(partial(_steps, jax.jit(engine.round_step), most_rounds), donate_argnums=0)
    test = jax.jit(engine.evaluate)

    def rounds(
        state: State, first: int, cohorts: list[list[Cohort]], learning_rates: list[list[float]]
    ) -> tuple[State, Any]:
        rates = [[np.asarray(rate, data.mean.dtype) for rate in each] for each in learning_rates]
        plans = [join([*zip(*each, strict=True)]) for each in zip(cohorts, rates, strict=True)]
        plans += [plans[-1]] * (most_rounds - len(plans))
        state, trained = steps(state, data, _stack_on_host(plans), keys, np.int32(first), np.int32(len(cohorts)))
        return state, (len(cohorts), trained)

    def metrics(stacked: tuple[int, Any]) -> list[list[Any]]:
        count, trained = stacked
        return [split(jax.tree.map(lambda leaf, index=index: leaf[index], trained)) for index in range(count)]

    return Program(state, rounds, metrics, lambda state: split(test(state, data, tests)), split)


def _steps(
    round_step: Callable[..., Any],
    most: int,
    state: State,
    data: Any,
    plans: Any,
    keys: jax.Array,
    first: jax.Array,
    count: jax.Array,
) -> tuple[State, Any]:
    """A loop of rounds. Its length is traced, so that one program serves any; metrics stand in the first places."""

    def one(index: jax.Array, state: State) -> tuple[State, Any]:
        cohort, rate = jax.tree.map(lambda leaf: leaf[index], plans)
        return round_step(state, data, cohort, rate, _fold_in(keys, first + index))

    def body(index: jax.Array, carry: tuple[State, Any]) -> tuple[State, Any]:
        state, collected = carry
        state, metrics = one(index, state)
        return state, jax.tree.map(lambda all, now: all.at[index].set(now), collected, metrics)

    shapes = jax.eval_shape(one, first, state)[1]
    nothing = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes)
    return lax.fori_loop(0, count, body, (state, nothing))


def _fold_in(keys: jax.Array, index: jax.Array) -> jax.Array:
    return jax.vmap(_fold_in, (0, None))(keys, index) if keys.ndim else jax.random.fold_in(keys, index)


def _stack_on_host(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
