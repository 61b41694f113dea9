"""A federated linear regression: a strongly convex quadratic with a known optimum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CLIENTS, SAMPLES, SIZE = 16, 48, 32
"""Clients, samples of each, and rows and columns of W."""


class Problem(NamedTuple):
    """Clients' samples and where training starts and should end.

    Attributes:
        inputs: X, (clients, samples, size).
        targets: Y, (clients, samples, size).
        optimum: W*, (size, size).
        start: (size, size).
    """

    inputs: jax.Array
    targets: jax.Array
    optimum: jax.Array
    start: jax.Array


def spectrum(rank: int) -> np.ndarray:
    """Singular values of the optimum: ``j ** -0.5`` up to its rank, then zero.

    Args:
        rank: number of values that are not zero.

    Returns:
        (size,), falling.
    """
    values = np.arange(1, SIZE + 1) ** -0.5
    return np.where(np.arange(SIZE) < rank, values, 0)


def make_problem(seed: int, rank: int, skew: float) -> Problem:
    """Draws clients that share an optimum: ``Y_k = X_k W*``.

    Every client's gradient vanishes at the optimum, so neither several clients nor several tiers move it by themselves.

    Args:
        seed: of the directions of X and W*, the curvatures and the start.
        rank: of the optimum.
        skew: the eigenvalues of ``X_k^T X_k / n`` are drawn from [1 / skew, skew], for each client anew and with
            directions of its own; 1 gives all clients the same curvature.

    Returns:
        The problem, in float64 if JAX has it enabled.
    """
    rng = np.random.default_rng(seed)

    def orthonormal(*shape: int) -> np.ndarray:
        return np.linalg.qr(rng.standard_normal(shape))[0]

    roots = np.exp(rng.uniform(-0.5, 0.5, (CLIENTS, 1, SIZE)) * np.log(skew))
    directions = orthonormal(CLIENTS, SIZE, SIZE)
    inputs = np.sqrt(SAMPLES) * orthonormal(CLIENTS, SAMPLES, SIZE) * roots @ directions
    optimum = orthonormal(SIZE, SIZE) * spectrum(rank) @ orthonormal(SIZE, SIZE)
    start = rng.standard_normal((SIZE, SIZE)) / SIZE
    return Problem(*map(jnp.asarray, (inputs, inputs @ optimum, optimum, start)))


def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """One client's objective, ``||X W - Y||^2 / 2 n``.

    Args:
        outputs: X W, (samples, size).
        targets: Y, likewise.

    Returns:
        Scalar.
    """
    return 0.5 * jnp.square(outputs - targets).sum() / outputs.shape[0]


def objective(weights: jax.Array, problem: Problem) -> jax.Array:
    """The global objective, the mean of the clients'.

    Args:
        weights: W, (size, size).
        problem: the clients.

    Returns:
        Scalar.
    """
    return jax.vmap(lambda x, y: loss(x @ weights, y))(problem.inputs, problem.targets).mean()
