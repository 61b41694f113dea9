"""Code that is handed over to a run, known by the program that JAX traces from it.

Digests of the traced programs go into checkpoints and model files: another activation, loss or merge is another
program, whatever its name. They hold for one version of JAX.
"""

import functools
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.data import Client
from fedhm_jax.errors import ConfigError
from fedhm_jax.models import Network, Statistics
from fedhm_jax.run.preparation.learning import Learning, batch_of, client_of
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params

_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of a Python object, where a traced program names one."""


CODE = ("model", "strategy", "task", "server_optimizer")
"""What of the things handed over is code."""


def refuse_other_program(handed_over: Mapping[str, str], now: str | None, then: str | None) -> None:
    """Raises one sentence where another program is traced from what is handed over.

    Args:
        handed_over: names of what is handed over.
        now: digest of its program.
        then: digest of the run's.

    Raises:
        ConfigError: they differ.
    """
    if now != then:
        parts = " and ".join(f"{name} {handed_over[name]}" for name in CODE if name in handed_over)
        raise ConfigError(
            f"{parts} must be the code and options that the run began with, but another program is traced from them"
        )


def training_digest(setting: Setting, strategy: Strategy[State], learning: Learning) -> str:
    """Digest of all that a strategy computes in a round: gradients, contributions, merge and predictions.

    Args:
        setting: what the strategy was built for.
        strategy: the federated method.
        learning: shapes of what is to be learned.

    Returns:
        The digest, the same in every process.
    """
    key = jax.random.key(0)
    tiers = range(len(setting.rank_factors))
    state = jax.eval_shape(strategy.init, setting.shapes, key)
    batch = batch_of(learning, setting.inputs.shape[0])
    client = client_of(learning.classes)

    def train(tier: int, state: State, client: Client, batch: Batch, owned: jax.Array, key: jax.Array) -> Any:
        received = strategy.distribute(state, tier, client)
        objective = jax.value_and_grad(strategy.objective(state, tier), has_aux=True)
        return objective(received, batch, owned, key), strategy.contribute(state, tier, received, client)

    def merge(state: State, client: Client, counts: jax.Array) -> State:
        received = [strategy.distribute(state, tier, client) for tier in tiers]
        sums = [strategy.contribute(state, tier, params, client) for tier, params in zip(tiers, received, strict=True)]
        return strategy.aggregate(state, sums, counts)

    total = blake2b(digest_size=16)
    for tier in tiers:
        _add_program(total, functools.partial(train, tier), state, client, batch, client.owned, key)
    _add_program(total, merge, state, client, jnp.zeros(len(tiers), jnp.int32))
    return total.hexdigest()


def prediction_digest(network: Network, params: Params, statistics: Statistics, images: jax.ShapeDtypeStruct) -> str:
    """Digest of what a model computes in evaluation, with the version of JAX that it holds for.

    Args:
        network: functions of the model.
        params: its parameters, or their shapes.
        statistics: its norm statistics, or their shapes.
        images: shape and dtype of a batch.

    Returns:
        The digest, the same in every process.

    Example:
        >>> from fedhm_jax.models import build_model, network_of
        >>> images = jax.ShapeDtypeStruct((1, 2, 2, 1), "float32")
        >>> def digest(width):
        ...     module = build_model("mlp", classes=2, hidden=(width,))
        ...     params = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
        ...     return prediction_digest(network_of(module, has_statistics=False), params, {}, images)
        >>> digest(4) == digest(4), digest(4) == digest(5)
        (True, False)
    """

    def predict(params: Params, statistics: Statistics, images: jax.Array) -> jax.Array:
        return network.predict(params, statistics, images, None)

    total = blake2b(digest_size=16)
    _add_program(total, predict, params, statistics, images)
    return f"jax {jax.__version__} {total.hexdigest()}"


def _add_program(total: Any, function: Callable[..., Any], *args: Any) -> None:
    """The program in words, without the addresses of Python objects in it, and the constants that it closes over."""
    program = jax.make_jaxpr(function)(*args)
    total.update(_ADDRESS.sub("", program.pretty_print(use_color=False, source_info=False)).encode())
    for constant in program.consts:
        is_key = jnp.issubdtype(constant.dtype, jax.dtypes.prng_key)
        total.update(np.asarray(jax.random.key_data(constant) if is_key else constant).tobytes())
