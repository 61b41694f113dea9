"""Any strategy with a server optimizer: what a round's merge changed, taken as a gradient.

Reddi et al.: "Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedhm_jax.data import Client
from fedhm_jax.errors import ConfigError
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.base import StateT, Strategy
from fedhm_jax.tree import Params


class OptimizedState(NamedTuple, Generic[StateT]):
    """Server state.

    Attributes:
        inner: the strategy's own.
        optimizer: the server optimizer's.
    """

    inner: StateT
    optimizer: optax.OptState


def with_server_optimizer(
    strategy: Strategy[StateT], optimizer: optax.GradientTransformation
) -> Strategy[OptimizedState[StateT]]:
    """The strategy, its model moved by an optimizer: ``W <- W + optimizer(W - merged W)``.

    The gradient has the shapes of the strategy's global model, so for low-rank FedAvg those of the factors, and for
    Split-Mix those of the stack of base networks. For FedHM it holds what truncation took away as well, since the merge
    does. What nobody trained has gradient zero, by which an optimizer with momentum may still move on. A round in which
    no client entered the merge leaves model and optimizer as they are.

    Args:
        strategy: one that has ``replace_model``.
        optimizer: any of optax that needs no more than gradient and parameters.

    Returns:
        The strategy; the optimizer's state is a part of its own.

    Raises:
        ConfigError: the strategy has no ``replace_model``.

    Source: arXiv 2003.00295, algorithm 1.
    """
    replace_model = strategy.replace_model
    if replace_model is None:
        raise ConfigError(
            "strategy has no replace_model, but must have one for a server optimizer (docs/adding_a_strategy.md)"
        )

    def init(params: Params, key: jax.Array) -> OptimizedState[StateT]:
        inner = strategy.init(params, key)
        return OptimizedState(inner, optimizer.init(strategy.global_model(inner)))

    def distribute(state: OptimizedState[StateT], tier: int, client: Client) -> Params:
        return strategy.distribute(state.inner, tier, client)

    def contribute(state: OptimizedState[StateT], tier: int, trained: Params, client: Client) -> Contribution:
        return strategy.contribute(state.inner, tier, trained, client)

    def aggregate(
        state: OptimizedState[StateT], contributions: Sequence[Contribution], clients: jax.Array
    ) -> OptimizedState[StateT]:
        merged = strategy.aggregate(state.inner, contributions, clients)
        old, new = strategy.global_model(state.inner), strategy.global_model(merged)
        updates, moments = optimizer.update(jax.tree.map(jnp.subtract, old, new), state.optimizer, old)
        stepped = optax.apply_updates(old, updates), moments
        is_trained = clients.sum() > 0
        params, moments = jax.tree.map(
            lambda step, kept: jnp.where(is_trained, step, kept), stepped, (new, state.optimizer)
        )
        # What the strategy derives from its model, as FedHM's factors, it derives from the moved one alone: those of
        # the merged model are not used, and a compiler leaves them out.
        return OptimizedState(replace_model(merged, params), moments)

    return Strategy(
        init=init,
        global_model=lambda state: strategy.global_model(state.inner),
        tier_model=lambda state, tier: strategy.tier_model(state.inner, tier),
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=strategy.network,
        networks=strategy.networks,
        objective=lambda state, tier: strategy.objective(state.inner, tier),
        sizes=strategy.sizes,
        replace_model=lambda state, params: state._replace(inner=replace_model(state.inner, params)),
        sent=strategy.sent,
    )
