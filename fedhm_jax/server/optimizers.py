"""The server's optimizers: the merged change as a gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: "Adaptive Federated Optimization", ICLR 2021, arXiv
2003.00295. Momentum alone is FedAvgM of Hsu, Qi, Brown: "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019, arXiv 1909.06335.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedhm_jax.tree import Params

ServerOptimizer = Literal["sgd", "momentum", "adam", "yogi", "adagrad"]


class Moments(NamedTuple):
    """State of an adaptive server optimizer.

    Attributes:
        first: m, tree like the parameters.
        second: v, likewise.
    """

    first: Params
    second: Params


def server_optimizer(
    name: ServerOptimizer, learning_rate: float, *, momentum: float, second_moment: float, epsilon: float
) -> optax.GradientTransformation:
    """A server optimizer by name, for the gradient ``g = W - merged W`` of a round.

    ``sgd``: ``W <- W - eta g``. ``momentum`` (FedAvgM): ``m <- beta_1 m + g``, ``W <- W - eta m``. The others:
    ``m <- beta_1 m + (1 - beta_1) g``, ``W <- W - eta m / (sqrt(v) + tau)`` with v from tau^2 on,

        adagrad:  v <- v + g^2
        yogi:     v <- v - (1 - beta_2) g^2 sign(v - g^2)
        adam:     v <- beta_2 v + (1 - beta_2) g^2

    Moments are not corrected for where they start, as optax's own adam and yogi do; tau is added after the root.

    Args:
        name: which.
        learning_rate: eta.
        momentum: beta_1; ``sgd`` has none.
        second_moment: beta_2 of ``adam`` and ``yogi``.
        epsilon: tau of the adaptive ones, in units of a parameter.

    Returns:
        The optimizer.

    Example:
        >>> adam = server_optimizer("adam", 0.1, momentum=0.0, second_moment=0.0, epsilon=1.0)
        >>> updates, state = adam.update({"w": jnp.array(3.0)}, adam.init({"w": jnp.array(0.0)}))
        >>> round(float(updates["w"]), 6)  # -0.1 * 3 / (3 + 1)
        -0.075

    Source: arXiv 2003.00295, algorithm 2.
    """
    if name == "sgd":
        return optax.sgd(learning_rate)
    if name == "momentum":
        return optax.sgd(learning_rate, momentum=momentum)
    second: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "adagrad": lambda v, square: v + square,
        "yogi": lambda v, square: v - (1 - second_moment) * square * jnp.sign(v - square),
        "adam": lambda v, square: second_moment * v + (1 - second_moment) * square,
    }
    return optax.chain(_scale_by_moments(second[name], momentum, epsilon), optax.scale_by_learning_rate(learning_rate))


def _scale_by_moments(
    next_second: Callable[[jax.Array, jax.Array], jax.Array], momentum: float, epsilon: float
) -> optax.GradientTransformation:
    """``g -> m / (sqrt(v) + tau)``."""

    def init(params: Params) -> Moments:
        return Moments(optax.tree.zeros_like(params), optax.tree.full_like(params, epsilon**2))

    def update(gradient: Params, state: Moments, params: Params | None = None) -> tuple[Params, Moments]:
        first = optax.tree.update_moment(gradient, state.first, momentum, 1)
        second = jax.tree.map(lambda v, g: next_second(v, jnp.square(g)), state.second, gradient)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), first, second), Moments(first, second)

    return optax.GradientTransformation(init, update)
