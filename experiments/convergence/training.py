"""FedHM's rounds with exact gradients: the package's strategy and layers, one full-batch step a client."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from experiments.convergence.problem import CLIENTS, SIZE, Problem, loss, objective
from fedhm_jax import LowRankDense
from fedhm_jax.data.client_data import Client
from fedhm_jax.lowrank import input_basis, is_factors, recover, recover_tree, restrict
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.strategies import STRATEGIES
from fedhm_jax.strategies.base import Setting, State, Strategy

LEARNING_RATE = 0.2


class LinearMap(nn.Module):
    """``X W``."""

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        return LowRankDense(SIZE, use_bias=False, name="map")(inputs)


class Trace(NamedTuple):
    """Figures of the server's W after 0, 1, ... rounds, each (rounds + 1,).

    Attributes:
        gradient: norm of the global objective's gradient.
        gap: mean over the clients of ``||W - [W]_r||_F``, r the client's rank.
        distance: ``||W - W*||_F``.
        excess: global objective above its minimum, which is zero.
        turned: mean over the clients of ``||[W]_r - Q Q^T W||_F``, Q the r leading directions of the round before: how
            far the decomposition turned their model away from the one that they trained.
        coverage: smallest share of the clients that trained one and the same direction of those that anybody trained:
            the strongest tier's, whose last ranks nobody else holds.
    """

    gradient: jax.Array
    gap: jax.Array
    distance: jax.Array
    excess: jax.Array
    turned: jax.Array
    coverage: jax.Array


@partial(jax.jit, static_argnames=("rank_factors", "rounds", "name"))
def train(problem: Problem, rank_factors: tuple[float, ...], rounds: int, name: str = "fedhm") -> Trace:
    """All clients, every round, one step of gradient descent each.

    Args:
        problem: the clients.
        rank_factors: f of each tier; the clients are dealt out to the tiers in equal numbers.
        rounds: number of rounds.
        name: of the strategy, FedHM or one of its variants.

    Returns:
        The trace.
    """
    params = {"map": {"kernel": problem.start}}
    shapes = jax.eval_shape(lambda: params)
    images = jax.ShapeDtypeStruct((1, SIZE), jnp.float32)  # for the rank plan, which looks at shapes alone
    setting = Setting(LinearMap(), images, shapes, has_statistics=False, rank_factors=rank_factors)
    strategy = STRATEGIES[name].build(setting)
    tiers = np.array_split(np.arange(CLIENTS, dtype=np.int32), len(rank_factors))

    def step(states: tuple[State, State], _: None) -> tuple[tuple[State, State], Trace]:
        before, state = states
        after = one_round(strategy, state, problem, tiers)
        return (state, after), measure(strategy, before, state, problem, tiers)

    first = strategy.init(params, jax.random.key(0))
    states, trace = lax.scan(step, (first, first), length=rounds)
    last = measure(strategy, *states, problem, tiers)
    return jax.tree.map(lambda values, value: jnp.append(values, value), trace, last)


def one_round(strategy: Strategy, state: State, problem: Problem, tiers: list[np.ndarray]) -> State:
    """Distribute, one local step, contribute, aggregate.

    Args:
        strategy: FedHM.
        state: the server's.
        problem: the clients.
        tiers: clients of each tier.

    Returns:
        The new state.
    """

    def train_tier(tier: int) -> Contribution:
        def train_client(number: jax.Array) -> Contribution:
            one = jnp.ones((), jnp.int32)
            client = Client(number, jnp.bool_(True), offset=0 * one, size=one, owned=jnp.ones((), bool))
            received = strategy.distribute(state, tier, client)
            inputs, targets = problem.inputs[number], problem.targets[number]
            # A linear map is the same in training, which would ask for a key.
            predict = strategy.networks[tier].predict
            gradient = jax.grad(lambda params: loss(predict(params, {}, inputs, None), targets))(received)
            trained = jax.tree.map(lambda w, g: w - LEARNING_RATE * g, received, gradient)
            return strategy.contribute(state, tier, trained, client)

        return jax.tree.map(lambda sent: sent.sum(0), jax.vmap(train_client)(jnp.asarray(tiers[tier])))

    contributions = [train_tier(tier) for tier in range(len(tiers))]
    return strategy.aggregate(state, contributions, jnp.array([len(members) for members in tiers]))


def measure(strategy: Strategy, before: State, state: State, problem: Problem, tiers: list[np.ndarray]) -> Trace:
    """The server's model in figures.

    Args:
        strategy: FedHM.
        before: the server's state a round ago.
        state: the server's.
        problem: the clients.
        tiers: clients of each tier.

    Returns:
        Scalars.
    """

    def kernel(params: dict) -> jax.Array:
        return recover_tree(params)["map"]["kernel"]

    weights = kernel(strategy.global_model(state))
    excess, gradient = jax.value_and_grad(objective)(weights, problem)
    truncated = [kernel(strategy.tier_model(state, tier)) for tier in range(len(tiers))]

    def turned(tier: int) -> jax.Array:
        held = strategy.tier_model(before, tier)["map"]["kernel"]
        if not is_factors(held):
            return jnp.zeros(())
        return jnp.linalg.norm(truncated[tier] - recover(restrict(weights, input_basis(held))))

    def mean(values: list[jax.Array]) -> jax.Array:
        return (
            sum((value * len(members) for value, members in zip(values, tiers, strict=True)), jnp.zeros(())) / CLIENTS
        )

    return Trace(
        gradient=jnp.linalg.norm(gradient),
        gap=mean([jnp.linalg.norm(weights - model) for model in truncated]),
        distance=jnp.linalg.norm(weights - problem.optimum),
        excess=excess,
        turned=mean([turned(tier) for tier in range(len(tiers))]),
        coverage=jnp.asarray(len(tiers[0]) / CLIENTS),
    )
