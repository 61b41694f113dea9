"""What is handed over to a run in Python in place of its config, and by which names it goes in the run's files."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optax
from flax import linen as nn

from fedhm_jax.data import AnyData
from fedhm_jax.errors import ConfigError
from fedhm_jax.run.preparation.strategy import StrategyBuilder
from fedhm_jax.tasks import Task
from fedhm_jax.tree import Params


class HandedOver(NamedTuple):
    """Arguments of `fedhm_jax.simulate`; where one is None, the config decides.

    Attributes:
        data: samples, in place of ``config.data``.
        model: a linen module, in place of ``config.model``.
        strategy: builder of a federated method, in place of ``config.strategy.name``.
        partition: sample indices of each client, in place of ``config.partition``.
        server_optimizer: an optax optimizer, in place of ``config.server.optimizer``.
        init: parameters to start from, in place of ``config.model.init``.
        task: what there is to learn, in place of the data's own.
    """

    data: AnyData | None = None
    model: nn.Module | None = None
    strategy: StrategyBuilder | None = None
    partition: Sequence[Any] | None = None
    server_optimizer: optax.GradientTransformation | None = None
    init: Params | None = None
    task: Task | None = None


NOTHING = HandedOver()
"""The config decides everything."""


def names_of(given: HandedOver) -> dict[str, str]:
    """What was handed over, by the name of the argument; a partition is said by ``partition.method = "given"``.

    Args:
        given: what was handed over.

    Returns:
        A name for each that is not None; they go into the run's config.toml, as the table ``[handed_over]``.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> from fedhm_jax.strategies import heterofl
        >>> given = HandedOver(model=build_model("mlp", 2), strategy=functools.partial(heterofl, widths=(1.0, 0.5)))
        >>> names_of(given)
        {'model': 'fedhm_jax.models.mlp.MLP', 'strategy': 'fedhm_jax.strategies.heterofl.heterofl'}
    """
    names = {
        "data": None if given.data is None else str(getattr(given.data, "name", type(given.data).__name__)),
        "model": None if given.model is None else qualified_name(type(given.model)),
        "strategy": None if given.strategy is None else qualified_name(given.strategy),
        "server_optimizer": None if given.server_optimizer is None else "an optax optimizer",
        "init": None if given.init is None else "parameters",
        "task": None if given.task is None else str(getattr(given.task, "name", type(given.task).__name__)),
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
        if argument in ("model", "strategy", "task", "server_optimizer") and argument not in then:
            raise ConfigError(f"{argument} is {name}, but must not be given, as when the run began")
