"""Kernels and their low-rank factors: factorize, truncate, recover; for one kernel and for a parameter tree.

A convolution kernel with o outputs, i inputs and kh x kw taps is read as the matrix M of shape (o * kh) x (i * kw). A
truncated singular value decomposition M ~ u v is then a 1 x kw convolution (v) followed by a kh x 1 convolution (u). A
dense kernel is the case kh = kw = 1. Arrays keep Flax's layout, inputs before outputs, so the stored factors are the
transposes of the paper's.

Source: FedHM (arXiv 2111.14655), section on low-rank factorization.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.lowrank.truncation import DecompositionMethod, Truncation, truncated, truncated_svd
from fedhm_jax.tree import Params, map_named, named_leaves

RankPlan = Mapping[str, int]
"""Rank of every factorized kernel, keyed by parameter path such as ``"dense_1/kernel"``; kernels it does not name stay
whole."""


class Factors(NamedTuple):
    """A kernel as the product of two smaller ones; it stands in a parameter tree where the kernel stood.

    Attributes:
        v: input side: (i, r) for a dense kernel, (1, kw, i, r) for a convolution.
        u: output side: (r, o) for a dense kernel, (kh, 1, r, o) for a convolution.
    """

    v: jax.Array
    u: jax.Array

    @property
    def rank(self) -> int:
        """Number of shared inner channels r."""
        return self.u.shape[-2]


class Adapted(NamedTuple):
    """A kernel that is held as it is and the change that is trained beside it, ``W + v u``.

    Attributes:
        base: W, (i, o) or (kh, kw, i, o).
        change: of the same whole shape.
    """

    base: jax.Array
    change: Factors


def is_factors(node: Any) -> bool:
    """True for a `Factors` node; the ``is_leaf`` of tree functions that treat a kernel as one thing."""
    return isinstance(node, Factors)


def whole_shape(kernel: jax.Array | Factors | Adapted) -> tuple[int, ...]:
    """Shape of the kernel that an array, `Factors` or `Adapted` stands for.

    Args:
        kernel: whole, factorized, or whole with a change beside it.

    Returns:
        (i, o) or (kh, kw, i, o).

    Example:
        >>> whole_shape(Factors(v=jnp.ones((1, 3, 4, 2)), u=jnp.ones((5, 1, 2, 8))))
        (5, 3, 4, 8)
    """
    if isinstance(kernel, Adapted):
        return kernel.base.shape
    if not isinstance(kernel, Factors):
        return kernel.shape
    spatial = (kernel.u.shape[0], kernel.v.shape[1]) if kernel.u.ndim == 4 else ()
    return (*spatial, kernel.v.shape[-2], kernel.u.shape[-1])


def matrix_shape(kernel_shape: tuple[int, ...]) -> tuple[int, int]:
    """Shape of the matrix a kernel is read as, transposed to Flax's order: (i * kw, o * kh).

    Args:
        kernel_shape: (i, o) or (kh, kw, i, o).

    Returns:
        Rows and columns.

    Example:
        >>> matrix_shape((3, 3, 16, 32))
        (48, 96)
    """
    if len(kernel_shape) == 2:
        return kernel_shape[0], kernel_shape[1]
    kh, kw, inputs, outputs = kernel_shape
    return kw * inputs, kh * outputs


def _to_matrix(kernel: jax.Array) -> jax.Array:
    if kernel.ndim == 2:
        return kernel
    return kernel.transpose(1, 2, 0, 3).reshape(matrix_shape(kernel.shape))


def _to_factors(left: jax.Array, right: jax.Array, kernel_shape: tuple[int, ...]) -> Factors:
    """Reshapes matrix factors (rows, r) and (r, columns) into kernels."""
    if len(kernel_shape) == 2:
        return Factors(v=left, u=right)
    kh, kw, inputs, outputs = kernel_shape
    rank = left.shape[1]
    return Factors(
        v=left.reshape(1, kw, inputs, rank),
        u=right.reshape(rank, kh, outputs).transpose(1, 0, 2).reshape(kh, 1, rank, outputs),
    )


def factorize(kernel: jax.Array, rank: int) -> Factors:
    """Best factors of a given rank, singular values split evenly (spectral initialisation).

    With M = U S V^T the factors are ``U_r sqrt(S_r)`` and ``sqrt(S_r) V_r^T``; their product is the nearest matrix of
    rank r, at distance ``sqrt(sum_{j > r} s_j^2)`` in the Frobenius norm (Eckart and Young, 1936).

    Args:
        kernel: (i, o) or (kh, kw, i, o).
        rank: r, from 1 to min of `matrix_shape`.

    Returns:
        The factors.

    Raises:
        ValueError: the rank is not possible for this kernel.

    Example:
        >>> factors = factorize(jnp.ones((3, 3, 4, 8)), rank=2)
        >>> factors.v.shape, factors.u.shape
        ((1, 3, 4, 2), (3, 1, 2, 8))

    Source: FedHM (arXiv 2111.14655), section on model factorization.
    """
    limit = min(matrix_shape(kernel.shape))
    if not 1 <= rank <= limit:
        raise ValueError(f"rank is {rank}, but must be from 1 to {limit} for a kernel of shape {kernel.shape}")
    left, _, right = truncated_svd(_to_matrix(kernel)[None], rank)
    return _to_factors(left[0], right[0], kernel.shape)


def recover(factors: Factors) -> jax.Array:
    """The kernel that the factors stand for, ``W[a, b, c, d] = sum_r v[b, c, r] u[a, r, d]``.

    Args:
        factors: of a dense kernel or a convolution.

    Returns:
        (i, o) or (kh, kw, i, o), in full precision on every backend.

    Example:
        >>> kernel = jnp.arange(12.0).reshape(3, 4)
        >>> bool(jnp.allclose(recover(factorize(kernel, rank=3)), kernel, atol=1e-4))
        True
    """
    v, u = factors
    if v.ndim == 2:
        return jnp.matmul(v, u, precision=lax.Precision.HIGHEST)
    return jnp.einsum("bcr,ard->abcd", v[0], u[:, 0], precision=lax.Precision.HIGHEST)


def truncate(factors: Factors, rank: int) -> Factors:
    """Keeps the leading directions: the factors of a smaller tier are a slice of those of a larger one.

    Args:
        factors: ordered by falling singular value, as `factorize` returns them.
        rank: directions to keep, at most ``factors.rank``.

    Returns:
        Factors of the given rank.

    Example:
        >>> truncate(factorize(jnp.eye(4), rank=3), rank=1).rank
        1
    """
    return Factors(v=factors.v[..., :rank], u=factors.u[..., :rank, :])


def pad_rank(factors: Factors, rank: int) -> Factors:
    """Factors of a larger rank and the same product, zeros where there are no directions.

    Args:
        factors: of any rank.
        rank: at least theirs.

    Returns:
        Factors of the given rank.

    Example:
        >>> pad_rank(factorize(jnp.eye(4), rank=1), rank=3).rank
        3
    """
    v, u = factors
    missing = rank - factors.rank
    return Factors(
        v=jnp.pad(v, ((0, 0),) * (v.ndim - 1) + ((0, missing),)),
        u=jnp.pad(u, ((0, 0),) * (u.ndim - 2) + ((0, missing), (0, 0))),
    )


def balanced(factors: Factors) -> Factors:
    """The same product, each direction's length shared evenly: ``v_j <- s_j v_j, u_j <- u_j / s_j`` with
    ``s_j^2 = ||u_j|| / ||v_j||``.

    Args:
        factors: of any rank.

    Returns:
        Factors whose v_j and u_j are equally long; a direction of which one side is zero stays as it is.

    Example:
        >>> balanced(Factors(v=jnp.array([[4.0]]), u=jnp.array([[1.0]])))
        Factors(v=Array([[2.]], dtype=float32), u=Array([[2.]], dtype=float32))
    """
    v, u = factors
    lengths = jnp.linalg.norm(v.reshape(-1, factors.rank), axis=0), jnp.linalg.norm(_by_direction(u), axis=1)
    there = (lengths[0] > 0) & (lengths[1] > 0)
    before, after = (jnp.where(there, length, 1) for length in lengths)
    scale = jnp.sqrt(after / before)
    along_v, along_u = (1,) * (v.ndim - 1) + (-1,), (1,) * (u.ndim - 2) + (-1, 1)
    return Factors(v=v * scale.reshape(along_v), u=u / scale.reshape(along_u))


def _by_direction(u: jax.Array) -> jax.Array:
    return jnp.moveaxis(u, -2, 0).reshape(u.shape[-2], -1)


def largest_ranks(plans: Sequence[RankPlan]) -> RankPlan:
    """The ranks from which every tier can be cut: of each kernel that some tier factorizes, the largest.

    Args:
        plans: one a tier.

    Returns:
        Rank by parameter path, paths sorted.

    Example:
        >>> largest_ranks(({}, {"b": 3}, {"b": 1, "a": 2}))
        {'a': 2, 'b': 3}
    """
    return {path: max(plan.get(path, 0) for plan in plans) for path in sorted(set().union(*plans))}


def factorize_tree(
    params: Params,
    plan: RankPlan,
    method: DecompositionMethod = "auto",
    earlier: Mapping[str, Factors] | None = None,
) -> dict[str, Factors]:
    """Factors of every kernel in a rank plan; kernels of equal matrix shape share one batched decomposition.

    The batches run one after another. On a CPU, decompositions in jaxlib 0.10 wait for the thread pool that they run
    on, so two at a time can block each other for good.

    Args:
        params: parameter tree.
        plan: rank by parameter path.
        method: how, as in `fedhm_jax.lowrank.truncation.truncated`.
        earlier: factors of a similar tree by parameter path, from which ``subspace`` starts.

    Returns:
        Factors by parameter path.

    Raises:
        KeyError: the plan names a path that the tree does not have.

    Example:
        >>> tree = {"a": {"kernel": jnp.eye(4)}, "b": {"kernel": jnp.ones((4, 4))}}
        >>> {path: factors.rank for path, factors in factorize_tree(tree, {"a/kernel": 2, "b/kernel": 1}).items()}
        {'a/kernel': 2, 'b/kernel': 1}
    """
    kernels = named_leaves(params)
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path in plan:
        groups[matrix_shape(kernels[path].shape)].append(path)
    factors: dict[str, Factors] = {}
    triplets: Truncation | None = None
    for paths in groups.values():
        rank = max(plan[path] for path in paths)
        stacked = jnp.stack([_to_matrix(kernels[path]) for path in paths])
        start = None if earlier is None else jnp.stack([_left_side(earlier[path], rank) for path in paths])
        if triplets is not None:
            # Zero, as no singular value is negative; but the compiler cannot know, and so must finish the last batch.
            stacked = stacked + jnp.minimum(triplets.values[0, 0], 0)
        triplets = truncated(stacked, rank, method, start)
        for path, left, right in zip(paths, triplets.left, triplets.right, strict=True):
            factors[path] = truncate(_to_factors(left, right, kernels[path].shape), plan[path])
    return {path: factors[path] for path in plan}


def _left_side(factors: Factors, rank: int) -> jax.Array:
    """The factors' left matrix, (rows, rank); columns that it does not have are zero."""
    left = factors.v.reshape(-1, factors.rank)[:, :rank]
    return jnp.pad(left, ((0, 0), (0, rank - left.shape[1])))


def with_factors(params: Params, factors: Mapping[str, Factors], plan: RankPlan) -> Params:
    """A tier's model: the tree with the kernels of a rank plan replaced by their factors, truncated to the plan's
    ranks.

    Args:
        params: full-rank parameter tree.
        factors: by parameter path, of at least the plan's ranks.
        plan: rank by parameter path.

    Returns:
        The tree, `Factors` standing where kernels stood.

    Example:
        >>> tree = {"a": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}}
        >>> tier = with_factors(tree, factorize_tree(tree, {"a/kernel": 3}), {"a/kernel": 2})
        >>> tier["a"]["kernel"].v.shape, tier["a"]["bias"].shape
        ((4, 2), (4,))
    """
    return map_named(lambda path, leaf: truncate(factors[path], plan[path]) if path in plan else leaf, params)


def recover_tree(params: Params) -> Params:
    """Replaces every `Factors` node of a tree by the kernel it stands for.

    Args:
        params: parameter tree of any tier.

    Returns:
        The full-rank tree.

    Example:
        >>> recover_tree({"kernel": Factors(v=jnp.ones((3, 1)), u=jnp.ones((1, 2)))})["kernel"].shape
        (3, 2)
    """
    return jax.tree.map(lambda leaf: recover(leaf) if is_factors(leaf) else leaf, params, is_leaf=is_factors)
