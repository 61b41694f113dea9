"""The server optimizer of a run, and which ones are refused."""

import jax
import optax

from fedhm_jax.config import ServerConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.server import server_optimizer
from fedhm_jax.strategies import Setting, State, Strategy, with_server_optimizer
from fedhm_jax.tree import Params


def optimized(
    strategy: Strategy[State], setting: Setting, server: ServerConfig, given: optax.GradientTransformation | None
) -> Strategy[State]:
    """The strategy with the server optimizer that a config names, or with one handed over.

    Args:
        strategy: the federated method.
        setting: what it was built for.
        server: names the optimizer.
        given: in place of the config's.

    Returns:
        The strategy; as it is where the merged model is to be the next one.

    Raises:
        ConfigError: two optimizers are asked for, or one that cannot move this strategy's model.
    """
    plain = server.optimizer == "sgd" and server.learning_rate == 1
    if given is None:
        return strategy if plain else with_server_optimizer(strategy, _of_config(server))
    if not plain:
        other = f"None where server.optimizer is {server.optimizer!r} at server.learning_rate {server.learning_rate:g}"
        raise ConfigError.of("server_optimizer", type(given).__name__, other)
    model = jax.eval_shape(
        lambda params, key: strategy.global_model(strategy.init(params, key)), setting.shapes, jax.random.key(0)
    )
    _dry_run(given, model)
    return with_server_optimizer(strategy, given)


def _of_config(server: ServerConfig) -> optax.GradientTransformation:
    return server_optimizer(
        server.optimizer,
        float(server.learning_rate),
        momentum=float(server.momentum),
        second_moment=float(server.second_moment),
        epsilon=float(server.epsilon),
    )


_ALLOWED = "an optax.GradientTransformation that needs no more than gradient and parameters"


def _dry_run(optimizer: optax.GradientTransformation, model: Params) -> None:
    """One step on shapes alone."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ConfigError.of("server_optimizer", name, _ALLOWED)
    try:
        state = jax.eval_shape(optimizer.init, model)
        updates, after = jax.eval_shape(optimizer.update, model, state, model)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError.of("server_optimizer", name, f"{_ALLOWED}; of this one optax says: {reason}") from error
    if _shapes((updates, after)) != _shapes((model, state)):
        reason = "of this one a step changes shapes or types"
        raise ConfigError.of("server_optimizer", name, f"{_ALLOWED}; {reason}")


def _shapes(tree: Params) -> object:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
