"""Runs that differ in seed and learning rate as one program: states, partitions and cohorts stacked, samples shared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import TrainMetrics
from fedhm_jax.data import ClientData
from fedhm_jax.engine import Engine, EvaluationData, Metrics
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import State

Tree = TypeVar("Tree")
Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def stack(trees: Sequence[Tree]) -> Tree:
    """Trees of equal structure and shapes as one, with a leading axis.

    Args:
        trees: one a seed.

    Returns:
        The stacked tree.

    Example:
        >>> stack([{"a": jnp.zeros(3)}, {"a": jnp.ones(3)}])["a"].shape
        (2, 3)
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Tree, seeds: int) -> list[Tree]:
    """The trees of a stack.

    Args:
        tree: every array with a leading axis of that length.
        seeds: how many.

    Returns:
        One tree a seed.
    """
    return [jax.tree.map(lambda leaf, seed=seed: leaf[seed], tree) for seed in range(seeds)]


def can_share_a_program(data: Sequence[ClientData]) -> bool:
    """Whether the clients' samples of all seeds have the same shapes.

    Args:
        data: one a seed.

    Returns:
        The answer.
    """
    shapes = [jax.tree.map(jnp.shape, one) for one in data]
    return all(one == shapes[0] for one in shapes)


def stack_data(data: Sequence[ClientData]) -> ClientData:
    """The seeds' partitions of one training set, stacked; the samples once.

    Args:
        data: one a seed, all of the same samples.

    Returns:
        ``samples`` as they are, everything else with a leading axis.
    """
    return ClientData(data[0].samples, *stack([_dealt(one) for one in data]))


def stack_test(test: Sequence[EvaluationData]) -> EvaluationData:
    """The seeds' samples for static statistics, stacked; the test set once.

    Args:
        test: one a seed, all of the same test set.

    Returns:
        ``statistics_rows`` with a leading axis, everything else as it is.
    """
    return test[0]._replace(statistics_rows=jnp.stack([one.statistics_rows for one in test]))


def over_seeds(engine: Engine[State], platform: str | None = None) -> Engine[State]:
    """An engine whose state, cohort, learning rate, key and metrics have a leading axis of runs.

    On a CPU the runs go one after another within the program; elsewhere they are batched.

    Args:
        engine: of one seed.
        platform: that the program is for; None for JAX's default.

    Returns:
        The engine of all runs, to be called with `stack_data` and `stack_test`.
    """
    each = _one_by_one if (platform or jax.default_backend()) == "cpu" else _side_by_side

    def round_step(
        states: State, data: ClientData, cohorts: Cohort, learning_rates: jax.Array, keys: jax.Array
    ) -> tuple[State, tuple[TrainMetrics, ...]]:
        def one(
            state: State, dealt: tuple[Any, ...], cohort: Cohort, rate: jax.Array, key: jax.Array
        ) -> tuple[State, tuple[TrainMetrics, ...]]:
            return engine.round_step(state, ClientData(data.samples, *dealt), cohort, rate, key)

        return each(one, states, _dealt(data), cohorts, learning_rates, keys)

    def evaluate(states: State, data: ClientData, test: EvaluationData) -> Mapping[str, Metrics]:
        def one(state: State, dealt: tuple[Any, ...], rows: jax.Array) -> Mapping[str, Metrics]:
            own = ClientData(data.samples, *dealt)
            return engine.evaluate(state, own, test._replace(statistics_rows=rows))

        return each(one, states, _dealt(data), test.statistics_rows)

    return Engine(round_step, evaluate)


def _dealt(data: ClientData) -> tuple[Any, ...]:
    """Everything but the samples, which all seeds share."""
    return data[1:]


def _one_by_one(function: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
    return lax.map(lambda row: function(*row), args)


def _side_by_side(function: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
    return jax.vmap(function)(*args)
