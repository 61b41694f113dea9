"""Clients that send something else than what they have trained."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from fedhm_jax.data.client_data import Client
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.strategies import fedhm
from fedhm_jax.strategies.base import Setting, State, Strategy
from fedhm_jax.tree import Params


def attacked(factor: float, attackers: Collection[int]) -> Callable[[Setting], Strategy]:
    """FedHM with clients that multiply their update, ``u v - u_0 v_0`` for factorized kernels, by a factor.

    Args:
        factor: of their update: -1 turns it round, 10 makes it ten times as long.
        attackers: indices of these clients.

    Returns:
        Builder for the ``strategy`` of `fedhm_jax.simulate`.
    """

    def build(setting: Setting) -> Strategy:
        honest = fedhm(setting)

        def contribute(state: State, tier: int, trained: Params, client: Client) -> Contribution:
            received = recover_tree(honest.distribute(state, tier, client))
            attacks = jnp.isin(client.id, jnp.array(sorted(attackers), client.id.dtype))

            def sent(before: jax.Array, after: jax.Array) -> jax.Array:
                return jnp.where(attacks, before + factor * (after - before), after)

            return honest.contribute(state, tier, jax.tree.map(sent, received, recover_tree(trained)), client)

        return honest._replace(contribute=contribute)

    return build
