"""Products of rows and a kernel, with a gradient that a CPU computes fast."""

import jax
from jax import lax


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


def _forward(rows: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return rows @ kernel, (rows, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, kernel = saved
    inputs, outputs = kernel.shape
    if inputs > outputs:
        of_kernel = lax.platform_dependent(rows, gradient, cpu=_outputs_first, default=_inputs_first)
    else:
        of_kernel = _inputs_first(rows, gradient)
    return gradient @ kernel.T, of_kernel


def _inputs_first(rows: jax.Array, gradient: jax.Array) -> jax.Array:
    return rows.T @ gradient


def _outputs_first(rows: jax.Array, gradient: jax.Array) -> jax.Array:
    # Without the barrier the compiler makes one product of the two transpositions, the slow one.
    return lax.optimization_barrier(gradient.T @ rows).T


product.defvjp(_forward, _backward)
