"""Truncated singular value decompositions of stacks of matrices, three ways.

Each way finds r orthonormal columns Q and returns ``Q Q^T M``, ordered by falling singular value and split evenly
between the two sides; so all its error is that of the subspace. By Eckart and Young (1936) no matrix of rank k is
nearer to M than its k leading singular triplets, at distance ``optimum = sqrt(sum_{j > k} s_j^2)``. At rank r, and at
every smaller rank k that is cut out of it, ``||M - M_k||_F^2`` is at most

- svd: ``optimum^2``, up to rounding. It is the oracle of the others.
- gram: ``optimum^2 + k u s_1^2``, u the spacing of floating-point numbers at 1 (1.2e-7 in single precision).
- subspace: ``optimum^2 + k u s_1^2 + sum_{j <= k} s_j^2 e_j^2 / (1 + e_j^2)`` with ``e_j = t (s_{r+1} / s_j)^4``, t the
  tangent of the largest angle between the subspace it starts from and the r leading left singular vectors.

The second bound is Ky Fan's for the eigenvectors of a matrix u s_1^2 / 2 away; the third is that of M. Gu, "Subspace
Iteration Randomization and Singular Value Problems", SIAM Journal on Scientific Computing 37 (2015), arXiv 1408.2208,
for two steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax

DecompositionMethod = Literal["auto", "svd", "gram", "subspace"]

FASTEST: dict[str, DecompositionMethod] = {"cpu": "gram"}
"""What ``auto`` stands for on a backend: the fastest measured among the ways whose error is rounding alone.

On a CPU the Gram matrix takes 0.3 to 0.7 of the time of the SVD. Subspace iteration is faster still at small ranks, but
what it loses depends on how far the kernels moved, and with the Gram matrix the server's step is under 1 % of a round.
On a GPU nothing was measured yet (``python -m benchmarks.on_accelerator`` does).
"""

STEPS = 2
"""Steps of the power iteration, each a product with M^T and one with M."""


class Truncation(NamedTuple):
    """Leading singular triplets of a stack of matrices, the values split evenly: left @ right is the truncation.

    Attributes:
        left: (stack, rows, r), orthogonal columns of squared length ``values``.
        values: (stack, r), singular values, falling.
        right: (stack, r, columns), rows of squared length ``values``.
    """

    left: jax.Array
    values: jax.Array
    right: jax.Array


def fastest_decomposition(platform: str) -> DecompositionMethod:
    """What ``auto`` stands for.

    Args:
        platform: ``cpu``, ``gpu`` or ``tpu``, as `jax.default_backend` names them.

    Returns:
        The entry of `FASTEST`, and the Gram matrix where nothing was measured.

    Example:
        >>> fastest_decomposition("tpu")
        'gram'
    """
    return FASTEST.get(platform, "gram")


def truncated(
    matrices: jax.Array, rank: int, method: DecompositionMethod = "auto", start: jax.Array | None = None
) -> Truncation:
    """The leading singular triplets, by the method of choice.

    Args:
        matrices: (stack, rows, columns).
        rank: r, from 1 to min(rows, columns).
        method: ``svd``, ``gram``, ``subspace``, or ``auto``: `fastest_decomposition` on this backend.
        start: (stack, rows, r), the left side of an earlier decomposition, where ``subspace`` starts; without one it
            is ``svd``. The other ways need none.

    Returns:
        The triplets.

    Raises:
        ValueError: there is no such method.

    Example:
        >>> left, values, right = truncated(jnp.ones((5, 6, 4)), rank=2)
        >>> left.shape, values.shape, right.shape
        ((5, 6, 2), (5, 2), (5, 2, 4))
    """
    if method not in get_args(DecompositionMethod):
        raise ValueError(f"decomposition is {method!r}, but must be one of {get_args(DecompositionMethod)}")
    if method == "auto":
        method = fastest_decomposition(jax.default_backend())
    if method == "gram":
        return truncated_gram(matrices, rank)
    if method == "subspace" and start is not None:
        return truncated_subspace(matrices, start)
    return truncated_svd(matrices, rank)


def truncated_svd(matrices: jax.Array, rank: int) -> Truncation:
    """Truncates the singular value decomposition: exact, the oracle of the other ways.

    Args:
        matrices: (stack, rows, columns).
        rank: r.

    Returns:
        The triplets.

    Example:
        >>> round(float(truncated_svd(jnp.ones((1, 2, 8)), rank=1).values[0, 0]), 3)
        4.0
    """
    left, values, right = _each(partial(jnp.linalg.svd, full_matrices=False), matrices)
    values = values[:, :rank]
    root = jnp.sqrt(values)
    return Truncation(left[:, :, :rank] * root[:, None, :], values, root[:, :, None] * right[:, :rank, :])


def truncated_gram(matrices: jax.Array, rank: int) -> Truncation:
    """Eigenvectors of the smaller Gram matrix, ``M M^T = Q S^2 Q^T``; the other side is the product ``Q^T M``.

    Squaring costs half of the digits: in single precision, directions whose singular value is below 3e-4 of the
    largest are any orthonormal ones. They carry less than 1e-7 of the squared norm each.

    Args:
        matrices: (stack, rows, columns).
        rank: r.

    Returns:
        The triplets.

    Example:
        >>> round(float(truncated_gram(jnp.ones((1, 2, 8)), rank=1).values[0, 0]), 3)
        4.0
    """
    if matrices.shape[1] > matrices.shape[2]:
        right, values, left = truncated_gram(matrices.mT, rank)
        return Truncation(left.mT, values, right.mT)
    basis = _leading_eigenvectors(_product(matrices, matrices.mT), rank)
    return _split_evenly(basis, _product(basis.mT, matrices))


def truncated_subspace(matrices: jax.Array, start: jax.Array) -> Truncation:
    """Block power iteration, ``Q <- orth(M M^T Q)``, then the singular triplets of ``Q^T M`` (Rayleigh-Ritz).

    Args:
        matrices: (stack, rows, columns).
        start: (stack, rows, r), columns near the leading left singular vectors, of any length. Columns that are zero
            or dependent stand for arbitrary ones.

    Returns:
        The triplets, as many as ``start`` has columns.

    Example:
        >>> matrix = jnp.diag(jnp.array([4.0, 1.0, 0.0]))[None]
        >>> round(float(truncated_subspace(matrix, jnp.ones((1, 3, 1))).values[0, 0]), 2)
        4.0
    """
    basis = start
    for _ in range(STEPS):
        basis = _orthonormal(_product(matrices, _product(matrices.mT, basis)))
    projected = _product(basis.mT, matrices)
    rotation = _leading_eigenvectors(_product(projected, projected.mT), start.shape[2])
    return _split_evenly(_product(basis, rotation), _product(rotation.mT, projected))


def _product(one: jax.Array, two: jax.Array) -> jax.Array:
    """In full precision: accelerators would round single-precision factors otherwise."""
    return jnp.matmul(one, two, precision=lax.Precision.HIGHEST)


def _orthonormal(block: jax.Array) -> jax.Array:
    """An orthonormal basis whose span contains the columns, by Householder reflections: zero columns do no harm."""
    return _each(jnp.linalg.qr, block)[0]


def _leading_eigenvectors(gram: jax.Array, rank: int) -> jax.Array:
    return _each(jnp.linalg.eigh, gram)[1][:, :, : -rank - 1 : -1]


def _each(decompose: Callable[[jax.Array], Any], matrices: jax.Array) -> Any:
    """A decomposition of every matrix, on a CPU one after another: in jaxlib 0.10 a batch occupies one thread of a pool
    and waits for others, for good if these are devices that wait for this one."""
    return lax.map(decompose, matrices) if jax.default_backend() == "cpu" else decompose(matrices)


def _split_evenly(basis: jax.Array, projected: jax.Array) -> Truncation:
    """``basis @ projected``, rows of the latter orthogonal, with each row's length shared by both sides."""
    values = jnp.linalg.norm(projected, axis=-1)
    root = jnp.sqrt(values)
    divisor = jnp.where(root == 0, 1, root)  # a row of length zero stays zero; one that is not a number stays that
    return Truncation(basis * root[:, None, :], values, projected / divisor[:, :, None])
