"""A dry run of a strategy from outside of the package, so that a slip in it is said in a sentence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedhm_jax.errors import ConfigError
from fedhm_jax.run.preparation.learning import Learning, batch_of, client_of
from fedhm_jax.server import Contribution
from fedhm_jax.strategies import Setting, State, Strategy


def check_own_strategy(strategy: Any, setting: Setting, learning: Learning, name: str) -> None:
    """Traces a round of one client a tier on shapes.

    Args:
        strategy: what the builder returned.
        setting: what it was built for.
        learning: shapes of what is to be learned.
        name: of the builder.

    Raises:
        ConfigError: it is no strategy, or one of its functions fails or gives what the next cannot take.
    """
    if not isinstance(strategy, Strategy):
        kind = type(strategy).__name__
        raise ConfigError.of("strategy", name, f"a function that returns a Strategy; this one returned a {kind}")
    key, batch = jax.random.key(0), batch_of(learning, 2)
    client = client_of(learning.classes)
    state = _traced(name, "init", strategy.init, setting.shapes, key)
    _traced(name, "global_model", strategy.global_model, state)
    contributions = []
    for tier in range(len(setting.rank_factors)):
        _traced(name, "tier_model", partial(_of_tier, strategy.tier_model, tier), state)
        received = _traced(name, "distribute", lambda s, tier=tier: strategy.distribute(s, tier, client), state)

        def loss(state: State, params: Any, batch: Any, key: jax.Array, tier: int = tier) -> Any:
            gradient = jax.grad(strategy.objective(state, tier), has_aux=True)
            return gradient(params, batch, client.owned, key)

        _traced(name, "objective", loss, state, received, batch, key)
        sent = _traced(
            name, "contribute", lambda s, p, tier=tier: strategy.contribute(s, tier, p, client), state, received
        )
        if not isinstance(sent, Contribution):
            allowed = f"one whose contribute gives a Contribution, not {type(sent).__name__}"
            raise ConfigError.of("strategy", name, allowed)
        contributions.append(sent)
    counts = jax.ShapeDtypeStruct((len(contributions),), jnp.int32)
    after = _traced(name, "aggregate", strategy.aggregate, state, contributions, counts)
    if _types(after) != _types(state):
        allowed = "one whose aggregate gives a state like that of init, in structure, shapes and types"
        raise ConfigError.of("strategy", name, allowed)


def _of_tier(function: Callable[..., Any], tier: int, state: State) -> Any:
    return function(state, tier)


def _traced(name: str, part: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return jax.eval_shape(function, *args)
    except ConfigError:
        raise
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        reason = (
            f"one whose {part} can be traced ({type(error).__name__}: {first_line}); check_strategy tests a strategy"
        )
        raise ConfigError.of("strategy", name, reason) from error


def _types(tree: Any) -> Any:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
