"""The compiled rounds of a run, or of several like it, behind one interface."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.client import TrainMetrics
from fedhm_jax.data import ClientData
from fedhm_jax.engine import Metrics, RoundStep
from fedhm_jax.run.compilation import Compiling
from fedhm_jax.run.preparation.assembly import Run, engine_of
from fedhm_jax.run.preparation.platform_defaults import RUNS_OFTEN, compiler_options
from fedhm_jax.run.seeds import over_seeds, stack, stack_data, stack_test, unstack
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import State

Tree = TypeVar("Tree")

RoundMetrics = tuple[TrainMetrics, ...]
"""One entry a tier."""

Evaluation = Mapping[str, Metrics]
"""By ``"global"`` and the names of the tiers; empty if a round was not evaluated."""


class Trained(NamedTuple):
    """What several rounds report, still on the device.

    Attributes:
        rounds: how many there were.
        metrics: of every run, with a leading axis of rounds; those beyond ``rounds`` are zero.
    """

    rounds: int
    metrics: RoundMetrics


class Program(NamedTuple):
    """The compiled rounds and evaluation, for lists with one entry a run whatever their number.

    Attributes:
        state: before the first round.
        rounds: ``rounds(state, first, cohorts, learning_rates) -> (state, Trained)``, several rounds in a row, the
            first of them number ``first`` (from 0); the last two arguments are lists over rounds of lists over runs.
        metrics: ``metrics(trained) -> metrics``, lists over rounds of lists over runs, of what ``rounds`` returned once
            it is on the host.
        evaluate: ``evaluate(state) -> metrics of each run``.
        states: ``states(state)``, the server state of each run.
    """

    state: State
    rounds: Callable[[State, int, list[list[Cohort]], list[list[float]]], tuple[State, Trained]]
    metrics: Callable[[Trained], list[list[RoundMetrics]]]
    evaluate: Callable[[State], list[Evaluation]]
    states: Callable[[State], list[State]]


def program_of(runs: Sequence[Run], most_rounds: int = 1) -> Program:
    """One program for runs that differ in seed and learning rate only.

    Args:
        runs: the runs, with equal shapes (see `can_share_a_program`) and equal ``clients_per_chunk``.
        most_rounds: rounds that one call of ``rounds`` can do.

    Returns:
        The program; rounds and tests are compiled side by side at its first call, once for any number of rounds.
    """
    first, seeds = runs[0], len(runs)
    engine = engine_of(first, max(int(run.parts.sampling.sizes.max()) for run in runs))
    if seeds == 1:
        data, test, keys, state = first.data, first.test, first.key, first.state
    else:
        engine = over_seeds(engine)
        data, test = stack_data([run.data for run in runs]), stack_test([run.test for run in runs])
        keys, state = stack([run.key for run in runs]), stack([run.state for run in runs])

    def join(trees: Sequence[Tree]) -> Tree:
        return trees[0] if seeds == 1 else _stack_on_host(trees)

    def split(tree: Tree) -> list[Tree]:
        return [tree] if seeds == 1 else unstack(tree, seeds)

    # Compiled on its own, a round is traced once, though its shapes are asked for before it runs.
    options = compiler_options(jax.default_backend(), RUNS_OFTEN)
    many_rounds = partial(_steps, jax.jit(engine.round_step), most_rounds)
    steps = Compiling(jax.jit(many_rounds, donate_argnums=0, compiler_options=options))
    evaluate = Compiling(jax.jit(engine.evaluate, compiler_options=options))

    def rounds(
        state: State, first: int, cohorts: list[list[Cohort]], learning_rates: list[list[float]]
    ) -> tuple[State, Trained]:
        rates = [[np.float32(rate) for rate in of_round] for of_round in learning_rates]
        plans = [join([*zip(*of_round, strict=True)]) for of_round in zip(cohorts, rates, strict=True)]
        plans += [plans[-1]] * (most_rounds - len(plans))
        args = (state, data, _stack_on_host(plans), keys, np.int32(first), np.int32(len(cohorts)))
        steps.begin(*args)
        # Every run tests its models, after its last round if not before.
        evaluate.begin(state, data, test)
        state, metrics = steps(*args)
        return state, Trained(len(cohorts), metrics)

    def metrics(trained: Trained) -> list[list[RoundMetrics]]:
        return [split(jax.tree.map(lambda leaf, i=index: leaf[i], trained.metrics)) for index in range(trained.rounds)]

    return Program(state, rounds, metrics, lambda state: split(evaluate(state, data, test)), split)


def _steps(
    round_step: RoundStep[State],
    most: int,
    state: State,
    data: ClientData,
    plans: tuple[Cohort, jax.Array],
    keys: jax.Array,
    first: jax.Array,
    count: jax.Array,
) -> tuple[State, RoundMetrics]:
    """A loop of rounds. Its length is traced, so that one program serves any; metrics stand in the first rows."""

    def one(index: jax.Array, state: State) -> tuple[State, RoundMetrics]:
        cohort, rate = jax.tree.map(lambda leaf: leaf[index], plans)
        return round_step(state, data, cohort, rate, _fold_in(keys, first + index))

    def body(index: jax.Array, carry: tuple[State, RoundMetrics]) -> tuple[State, RoundMetrics]:
        state, collected = carry
        state, metrics = one(index, state)
        return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), collected, metrics)

    shapes = jax.eval_shape(one, first, state)[1]
    nothing = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), shapes)
    return lax.fori_loop(0, count, body, (state, nothing))


def _fold_in(keys: jax.Array, index: jax.Array) -> jax.Array:
    return jax.vmap(_fold_in, (0, None))(keys, index) if keys.ndim else jax.random.fold_in(keys, index)


def _stack_on_host(trees: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
