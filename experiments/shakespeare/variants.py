"""`fedhm_factors` with other losses and another start: what costs a strong tier its lead in company with weak ones?"""

import jax
import jax.numpy as jnp

from fedhm_jax.client import Objective, supervised
from fedhm_jax.lowrank import Factors, is_factors, recover
from fedhm_jax.strategies import Setting, Strategy, fedhm_factors
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params, map_named, named_leaves


def own_loss(setting: Setting) -> Strategy[Params]:
    """A client trains its own model alone, as in HeteroFL; nothing keeps the ranks in order but who trains them."""
    plain = supervised(setting.network, setting.masked_loss, setting.task)
    return fedhm_factors(setting)._replace(objective=lambda state, tier: plain)


def own_heavier(setting: Setting) -> Strategy[Params]:
    """A client's own model has half of the weight, and the mean of all up to it the other half."""
    plain = supervised(setting.network, setting.masked_loss, setting.task)
    strategy = fedhm_factors(setting)

    def objective(state: Params, tier: int) -> Objective:
        nested = strategy.objective(state, tier)

        def both(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            mean, total = nested(params, batch, owned, key)
            return (mean + plain(params, batch, owned, key)[0]) / 2, total

        return both

    return strategy._replace(objective=objective)


def as_loud(setting: Setting) -> Strategy[Params]:
    """The first factors are as long as the kernels they stand for: what was cut off does not make the model quieter."""
    strategy = fedhm_factors(setting)

    def init(params: Params, key: jax.Array) -> Params:
        whole = named_leaves(params)

        def louder(path: str, leaf: jax.Array | Factors) -> jax.Array | Factors:
            if not isinstance(leaf, Factors):
                return leaf
            gain = jnp.sqrt(jnp.linalg.norm(whole[path]) / jnp.linalg.norm(recover(leaf)))
            return Factors(gain * leaf.v, gain * leaf.u)

        return map_named(louder, strategy.init(params, key), is_leaf=is_factors)

    return strategy._replace(init=init)
