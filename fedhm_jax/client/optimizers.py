"""Local optimizers by name, and the learning rate over rounds."""

import inspect
import warnings
from collections.abc import Callable

import jax
import optax

from fedhm_jax.errors import ConfigError

_ALLOWED = "an optax optimizer such as 'sgd', 'adam', 'adamw' or 'rmsprop'"


OptimizerOfRate = Callable[[jax.Array], optax.GradientTransformation]
"""From the learning rate, which may be traced, to the optimizer."""


def optimizer_by_name(name: str, momentum: float, clip: float | None = None) -> OptimizerOfRate:
    """An optax optimizer as a function of the learning rate, behind ``g min(1, c / ||g||)`` if gradients have a limit.

    Args:
        name: an optax factory whose only required argument is ``learning_rate``, such as ``"sgd"`` or ``"adam"``.
        momentum: heavy-ball momentum; only ``sgd`` uses it.
        clip: c, longest gradient in the L2 norm over all parameters together; None for no limit.

    Returns:
        Function from learning rate to optimizer.

    Raises:
        ConfigError: optax has no such optimizer, or warns of it.

    Example:
        >>> optimizer_by_name("sgd", momentum=0.9)(0.1).init({}) is not None
        True

    Source: the limit is that of Pascanu, Mikolov, Bengio: "On the difficulty of training recurrent neural networks",
    ICML 2013.
    """
    if clip is not None:
        unlimited, limit = optimizer_by_name(name, momentum), optax.clip_by_global_norm(clip)
        return lambda learning_rate: optax.chain(limit, unlimited(learning_rate))
    if name == "sgd":
        return lambda learning_rate: optax.sgd(learning_rate, momentum=momentum or None)
    factory = getattr(optax, name, None)
    if not inspect.isfunction(factory) or _required_arguments(factory) != ["learning_rate"]:
        raise ConfigError.of("local.optimizer", name, _ALLOWED)
    try:
        with warnings.catch_warnings(action="error"):
            factory(learning_rate=0.1)
    except Exception as error:
        raise ConfigError.of("local.optimizer", name, f"{_ALLOWED}; of this one optax says: {error}") from error
    return lambda learning_rate: factory(learning_rate=learning_rate)


def _required_arguments(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def learning_rate_schedule(
    kind: str, initial: float, *, rounds: int, milestones: tuple[int, ...], decay_rate: float
) -> Callable[[int], float]:
    """Learning rate of each round.

    ``constant``: the initial rate. ``step``: multiplied by ``decay_rate`` at each milestone. ``cosine``:
    ``initial * (1 + cos(pi t / rounds)) / 2``.

    Args:
        kind: ``constant``, ``step`` or ``cosine``.
        initial: rate of the first round.
        rounds: length of the run.
        milestones: number of rounds after which the rate drops.
        decay_rate: factor of each drop.

    Returns:
        Function from the number of finished rounds t to the rate.

    Example:
        >>> rate = learning_rate_schedule("step", 0.1, rounds=160, milestones=(100, 150), decay_rate=0.1)
        >>> [round(rate(t), 6) for t in (0, 99, 100, 150)]
        [0.1, 0.1, 0.01, 0.001]
    """
    initial = float(initial)
    if kind == "step":
        return lambda finished: initial * decay_rate ** sum(finished >= milestone for milestone in milestones)
    if kind == "cosine":
        schedule = optax.cosine_decay_schedule(initial, rounds)
        return lambda finished: float(schedule(finished))
    return lambda finished: initial
