"""Rounds of a small problem under a merge rule, and strategies in which some clients send back something else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedhm_jax.client.update import LocalTraining, TrainMetrics
from fedhm_jax.data.client_data import Client, ClientData
from fedhm_jax.engine.round import build_engine
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.server.acceptance import PLAIN_MEAN, MergeRule
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.server.cohort import Cohort
from fedhm_jax.strategies import fedhm
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.testing import SIZES, Build, client_data, first_params, setting_for

Change = Callable[[Any, Any], Any]
"""``change(received, trained) -> sent``, leaf by leaf."""


class Rounds(NamedTuple):
    """A strategy and its compiled round.

    Attributes:
        strategy: the strategy.
        state: its first state.
        play: ``play(state, cohort, rate=0.05, data=None) -> (state, metrics)``, of `client_data` if None is given.
        traces: grows by one whenever the round is traced.
    """

    strategy: Strategy
    state: Any
    play: Callable[..., tuple[Any, tuple[TrainMetrics, ...]]]
    traces: list[int]


def two_tiers(**changes: Any) -> Setting:
    """A full-rank tier and a low-rank one, every client's columns counting."""
    return setting_for("mlp", (1.0, 4.0), **({"classifier": None} | changes))


def rounds(
    rule: MergeRule = PLAIN_MEAN,
    *,
    build: Build = fedhm,
    setting: Setting | None = None,
    chunk: int = 1,
    mesh: Any = None,
    dtype: Any = jnp.float32,
) -> Rounds:
    """Puts a strategy to work under a merge rule."""
    setting = two_tiers() if setting is None else setting
    strategy = build(setting)
    training = LocalTraining(lambda rate: optax.sgd(rate, momentum=0.9), batch_size=4)
    names = [f"tier {tier}" for tier in range(len(setting.rank_factors))]
    engine = build_engine(strategy, training, max(SIZES), names, chunk, mesh, rule)
    traces = []

    @jax.jit
    def step(state: Any, sampled: Cohort, rate: Any, data: ClientData) -> Any:
        traces.append(1)
        return engine.round_step(state, data, sampled, rate, jax.random.key(3))

    def play(state: Any, sampled: Cohort, rate: float = 0.05, data: ClientData | None = None) -> Any:
        return step(state, sampled, jnp.asarray(rate, dtype), client_data(dtype) if data is None else data)

    state = jax.jit(strategy.init)(first_params(setting, dtype), jax.random.key(5))
    return Rounds(strategy, state, play, traces)


def tampering(clients: tuple[int, ...], change: Change, build: Build = fedhm, products: bool = True) -> Build:
    """A strategy in which some clients change what they have trained before they send it.

    Args:
        clients: their indices.
        change: what they make of it.
        build: the strategy.
        products: factors are multiplied out before.

    Returns:
        Builder of the strategy with these clients.
    """

    def wrapped(setting: Setting) -> Strategy:
        honest = build(setting)

        def contribute(state: Any, tier: int, trained: Any, client: Client) -> Contribution:
            received = honest.distribute(state, tier, client)
            if products:
                received, trained = recover_tree(received), recover_tree(trained)
            wrong = jnp.isin(client.id, jnp.array(clients, jnp.int32))
            sent = jax.tree.map(lambda before, after: jnp.where(wrong, change(before, after), after), received, trained)
            return honest.contribute(state, tier, sent, client)

        return honest._replace(contribute=contribute)

    return wrapped


def poison(value: float) -> Change:
    """Puts one number into the first place of every array."""
    return lambda before, after: after.at[(0,) * after.ndim].set(value)
