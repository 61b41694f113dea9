"""The largest singular value of a kernel that is given by its factors."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.lowrank.decomposition import Factors

_SQUARINGS = 24
_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def spectral_norm(factors: Factors) -> jax.Array:
    """Spectral norm of the product of the factors, ``max |v u x| / |x|``; the product itself is not formed.

    The squares of its singular values are the eigenvalues of the r x r matrix ``C = (v^T v) (u u^T)``. C is squared
    until ``P = C^p``, p = 2^24, holds the direction of the largest alone, which is ``trace(C P) / trace(P)``. That is
    power iteration in products alone: decompositions that run side by side on a CPU can block each other. What is left
    of the other directions is below ``r / (2 e p)`` of the result (1e-6 at rank 64) however close their values are.
    Rounding adds about ``(|v| |u| / |v u|)^2`` units.

    Args:
        factors: of a dense kernel or a convolution, which is read as the matrix of `matrix_shape`.

    Returns:
        The norm, a scalar.

    Example:
        >>> round(float(spectral_norm(Factors(v=jnp.ones((3, 1)), u=jnp.ones((1, 12))))), 4)
        6.0

    Source: the product's norm, not the factors', tells when low-rank training becomes unstable: Spectron (2602.12429).
    """
    left = factors.v.reshape(-1, factors.rank)
    right = jnp.moveaxis(factors.u, -2, 0).reshape(factors.rank, -1)
    # Of unit length, since squares of squares leave the range of single precision soon.
    v, u = _unit(left), _unit(right)
    square = _product(_product(v.T, v), _product(u, u.T))
    power = lax.fori_loop(0, _SQUARINGS, lambda _, power: _unit(_product(power, power)), _unit(square))
    trace = jnp.trace(power)
    eigenvalue = (square.T * power).sum() / jnp.where(trace == 0, 1, trace)
    return jnp.sqrt(jnp.maximum(eigenvalue, 0)) * jnp.linalg.norm(left) * jnp.linalg.norm(right)


def _unit(matrix: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(matrix)
    return matrix / jnp.where(length == 0, 1, length)
