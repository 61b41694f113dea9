"""What is handed over to a run in Python in place of its config: by name, and by the program that is traced from it.

Names go into the run's config.toml, as the table [handed_over]. Digests of the traced programs go into checkpoints and
model files: another activation, loss or merge is another program, whatever its name. They hold for one version of JAX.
"""

import functools
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.data import Batch, Client, Dataset
from fedhm_jax.errors import ConfigError
from fedhm_jax.models import Network, Statistics
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tree import Params

_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Of a Python object, where a traced program names one."""


def names_of(data: Dataset | None, model: Any, strategy: Any, init: Any) -> dict[str, str]:
    """What was handed over, by the name of the argument.

    Args:
        data: images and labels, or None.
        model: a module, or None.
        strategy: a builder, or None.
        init: parameters to start from, or None.

    Returns:
        A name for each that is not None.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> from fedhm_jax.strategies import heterofl
        >>> names_of(None, build_model("mlp", classes=2), functools.partial(heterofl, widths=(1.0, 0.5)), None)
        {'model': 'fedhm_jax.models.mlp.MLP', 'strategy': 'fedhm_jax.strategies.heterofl.heterofl'}
    """
    names = {
        "data": None if data is None else str(getattr(data, "name", type(data).__name__)),
        "model": None if model is None else qualified_name(type(model)),
        "strategy": None if strategy is None else qualified_name(strategy),
        "init": None if init is None else "parameters",
    }
    return {argument: name for argument, name in names.items() if name is not None}


def qualified_name(thing: Any) -> str:
    """Where a class or function is defined.

    Args:
        thing: a class, a function, a partial of one, or any other object, which goes by its class.

    Returns:
        Its module and name.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def refuse_others(now: Mapping[str, str], then: Mapping[str, str], call: str) -> None:
    """Raises one sentence where a run is taken up without what it began with, or with what it did not begin with.

    Args:
        now: names of what is handed over.
        then: names of what was.
        call: how to hand it over, such as ``"simulate(resume='runs/a', "``.

    Raises:
        ConfigError: naming the argument, and what to pass.

    Example:
        >>> refuse_others({}, {"strategy": "mine.build"}, "simulate(resume='runs/a', ")
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: strategy is not given, but must be mine.build, as when the run began: \
simulate(resume='runs/a', strategy=...)
    """
    for argument, name in then.items():
        if argument not in now:
            arguments = ", ".join(f"{wanted}=..." for wanted in then)
            raise ConfigError(f"{argument} is not given, but must be {name}, as when the run began: {call}{arguments})")
    for argument, name in now.items():
        # Data of the same content are the same, wherever they come from, and so are first parameters.
        if argument in ("model", "strategy") and argument not in then:
            raise ConfigError(f"{argument} is {name}, but must not be given, as when the run began")


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
        parts = " and ".join(f"{name} {handed_over[name]}" for name in ("model", "strategy") if name in handed_over)
        raise ConfigError(
            f"{parts} must be the code and options that the run began with, but another program is traced from them"
        )


def training_digest(setting: Setting, strategy: Strategy[State], classes: int) -> str:
    """Digest of all that a strategy computes in a round: gradients, contributions, merge and predictions.

    Args:
        setting: what the strategy was built for.
        strategy: the federated method.
        classes: number of classes.

    Returns:
        The digest, the same in every process.
    """
    key = jax.random.key(0)
    tiers = range(len(setting.rank_factors))
    state = jax.eval_shape(strategy.init, setting.shapes, key)
    images = jnp.zeros(setting.images.shape, setting.images.dtype)
    batch = Batch(images, jnp.zeros(len(images), jnp.int32), jnp.ones(len(images), images.dtype))
    owned = jnp.ones(classes, bool)
    client = Client(jnp.int32(0), jnp.bool_(True), jnp.int32(0), jnp.int32(1), owned)

    def train(tier: int, state: State, client: Client, batch: Batch, owned: jax.Array, key: jax.Array) -> Any:
        received = strategy.distribute(state, tier, client)
        objective = jax.value_and_grad(strategy.objectives[tier], has_aux=True)
        return objective(received, batch, owned, key), strategy.contribute(state, tier, received, client)

    def merge(state: State, client: Client, counts: jax.Array) -> State:
        received = [strategy.distribute(state, tier, client) for tier in tiers]
        sums = [strategy.contribute(state, tier, params, client) for tier, params in zip(tiers, received, strict=True)]
        return strategy.aggregate(state, sums, counts)

    total = blake2b(digest_size=16)
    for tier in tiers:
        _add_program(total, functools.partial(train, tier), state, client, batch, owned, key)
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
