"""Products of rows and a kernel, with a gradient that a CPU computes fast."""

import jax
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal

_Saved = tuple[jax.Array | None, jax.Array | None]
"""Rows and kernel, each where the other's gradient is asked for."""


@jax.custom_vjp
def product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """``y = x w``; on a CPU the gradient of a kernel with more inputs than outputs is ``(dy^T x)^T``, not ``x^T dy``.

    The two are one product, and the CPU's library takes up to four times as long where what it writes has more rows
    than columns.

    Args:
        rows: (rows, inputs).
        kernel: (inputs, outputs).

    Returns:
        (rows, outputs).

    Example:
        >>> import jax.numpy as jnp
        >>> jax.grad(lambda w: product(jnp.ones((2, 3)), w).sum())(jnp.zeros((3, 1))).ravel().tolist()
        [2.0, 2.0, 2.0]
    """
    return rows @ kernel


def _forward(rows: CustomVJPPrimal, kernel: CustomVJPPrimal) -> tuple[jax.Array, _Saved]:
    # Of a first layer's rows and of a frozen kernel no gradient is asked for, and none is to be traced.
    saved = rows.value if kernel.perturbed else None, kernel.value if rows.perturbed else None
    return rows.value @ kernel.value, saved


def _backward(saved: _Saved, gradient: jax.Array) -> _Saved:
    rows, kernel = saved
    of_rows = None if kernel is None else gradient @ kernel.T
    if rows is None:
        return of_rows, None
    if rows.shape[1] > gradient.shape[1]:
        return of_rows, lax.platform_dependent(rows, gradient, cpu=_outputs_first, default=_inputs_first)
    return of_rows, _inputs_first(rows, gradient)


def _inputs_first(rows: jax.Array, gradient: jax.Array) -> jax.Array:
    return rows.T @ gradient


def _outputs_first(rows: jax.Array, gradient: jax.Array) -> jax.Array:
    # Without the barrier the compiler makes one product of the two transpositions, the slow one.
    return lax.optimization_barrier(gradient.T @ rows).T


product.defvjp(_forward, _backward, symbolic_zeros=True)
