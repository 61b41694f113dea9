"""The checks. Each raises an AssertionError that says what is wrong with a strategy, and returns nothing."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedhm_jax.data import client_by_id
from fedhm_jax.lowrank import recover_tree
from fedhm_jax.strategies import State, Strategy, fedavg, with_server_optimizer
from fedhm_jax.testing.problems import (
    FULL_TIERS,
    Build,
    Problem,
    client_data,
    cohort,
    farthest,
    first_params,
    pose,
    setting_for,
)


def check_strategy(build: Build, model: str = "mlp", checks: Sequence[Callable[..., None]] | None = None) -> None:
    """All checks, in a minute or so; most of that is compilation.

    Args:
        build: ``build(setting) -> Strategy``.
        model: one of `fedhm_jax.testing.MODELS`; for the others than the MLP the first check says most.
        checks: which of `CHECKS`; all if None. A strategy that weighs clients in its own way is not FedAvg when all
            tiers are full, and leaves the first one out.

    Raises:
        AssertionError: the strategy fails one, in words.
    """
    for check in CHECKS if checks is None else checks:
        check(build, model)


def check_equals_fedavg_when_all_tiers_are_full(build: Build, model: str = "mlp") -> None:
    """Two tiers of full rank, a round of each in float64.

    Args:
        build: the strategy.
        model: one of `fedhm_jax.testing.MODELS`.

    Raises:
        AssertionError: it is another model than FedAvg's.
    """
    _, wanted = _fedavg_round(model)
    with jax.enable_x64(True):
        problem = pose(build, setting_for(model, (1.0, 1.0)), dtype=jnp.float64)
        found = problem.strategy.global_model(problem.round_step(problem.state, FULL_TIERS))
        same = str(jax.tree.structure(found)) == str(jax.tree.structure(wanted))
        _require(same, "with all tiers full, the global model is no tree like FedAvg's")
        _near(found, wanted, 1e-12, "with all tiers full, a round is not FedAvg's")


def check_rounds(build: Build, model: str = "mlp") -> None:
    """Order does not matter, what nobody trained keeps its value, shapes survive; all of it in one trace.

    Args:
        build: the strategy.
        model: one of `fedhm_jax.testing.MODELS`.

    Raises:
        AssertionError: one of these does not hold.
    """
    problem = pose(build, setting_for(model, (1.0, 4.0)))
    step, global_model = problem.round_step, problem.strategy.global_model
    one = step(problem.state, cohort((4, 2), (5, 3, 1)))
    _near(step(problem.state, cohort((2, 4), (1, 5, 3))), one, 1e-5, "the order of the clients changes a round")
    _require(
        farthest(step(problem.state, cohort((4, 2), (5, 3))), one) > 1e-4, "a client of the second tier changes nothing"
    )
    after = one
    for _ in range(2):
        after = step(after, cohort((), ()))
        _near(global_model(after), global_model(one), 0, "a round in which nobody trained changes the global model")
    for sampled in (cohort((4,), ()), cohort((), (1, 2)), cohort((0, 1, 2), (4,))):
        after = step(after, sampled)
    _check_state(problem, after)


def _check_state(problem: Problem, after: State) -> None:
    before, now = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in (problem.state, after))
    _require(now == before, f"a round changes shapes or types of the state: from {before} to {now}")
    model = problem.strategy.global_model(after)
    _require(all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(model)), "the global model is not finite")
    traces = len(problem.traces)
    _require(traces == 1, f"a round is traced {traces} times: something in it depends on the values of the cohort")


def check_batching_does_not_matter(build: Build, model: str = "mlp") -> None:
    """Three clients side by side against one after another.

    Args:
        build: the strategy.
        model: one of `fedhm_jax.testing.MODELS`.

    Raises:
        AssertionError: the rounds differ by more than rounding.
    """
    setting = setting_for(model, (1.0, 4.0))
    one, other = (
        problem.round_step(problem.state, cohort((4, 2), (5, 3, 1)))
        for problem in (pose(build, setting), pose(build, setting, chunk=3))
    )
    _near(one, other, 1e-5, "clients side by side give another round than one after another")


def check_a_server_rate_of_one_is_the_plain_merge(build: Build, model: str = "mlp") -> None:
    """The merge of two clients' models with a server optimizer, which must find the strategy's ``replace_model``, in
    float64; nothing is trained for it. A strategy without ``replace_model`` passes.

    Args:
        build: the strategy.
        model: one of `fedhm_jax.testing.MODELS`.

    Raises:
        AssertionError: the global model, or a tier's, is another one than without.
    """
    with jax.enable_x64(True):
        setting = setting_for(model, (1.0, 4.0))
        strategy = build(setting)
        if strategy.replace_model is None:
            return
        optimized = with_server_optimizer(strategy, optax.sgd(1.0))
        data, params = client_data(np.float64), first_params(setting, jnp.float64)

        def merged(method: Strategy[State]) -> tuple[Any, ...]:
            state = method.init(params, jax.random.key(5))
            for _ in range(2):
                contributions = []
                for tier in range(2):
                    client = client_by_id(data, jnp.int32(tier), jnp.bool_(True))
                    trained = jax.tree.map(lambda leaf: 1.1 * leaf + 0.1, method.distribute(state, tier, client))
                    contributions.append(method.contribute(state, tier, trained, client))
                state = method.aggregate(state, contributions, jnp.ones(2, jnp.int32))
            return method.global_model(state), *(recover_tree(method.tier_model(state, tier)) for tier in range(2))

        plain, with_optimizer = jax.jit(lambda: (merged(strategy), merged(optimized)))()
        for name, one, other in zip(("global", "first tier's", "second tier's"), with_optimizer, plain, strict=True):
            _near(one, other, 1e-10, f"with a server optimizer of rate 1 the {name} model is another than without")


CHECKS: tuple[Callable[..., None], ...] = (
    check_equals_fedavg_when_all_tiers_are_full,
    check_rounds,
    check_batching_does_not_matter,
    check_a_server_rate_of_one_is_the_plain_merge,
)
"""Each takes the builder and the name of a model."""


@functools.cache
def _fedavg_round(model: str) -> tuple[State, State]:
    """The reference: FedAvg's model before and after a round in float64."""
    with jax.enable_x64(True):
        problem = pose(fedavg, setting_for(model, (1.0, 1.0)), dtype=jnp.float64)
        return problem.state, problem.round_step(problem.state, FULL_TIERS)


def _near(found: Any, wanted: Any, most: float, sentence: str) -> None:
    distance = farthest(found, wanted)
    _require(distance <= most, f"{sentence}: they are {distance:.3g} apart, and at most {most:g} is rounding")


def _require(holds: bool, sentence: str) -> None:
    # Not a bare assert: python -O and pytest, which rewrites those of test files alone, would leave the sentence out.
    if not holds:
        raise AssertionError(sentence)
