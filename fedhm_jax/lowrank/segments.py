"""The rank axis of a kernel's factors, cut where some tier's rank ends: what the same tiers hold is one segment.

With M = u v, a segment s of the rank axis contributes the product ``u_s v_s``, and M is the sum of its segments'. A
whole kernel's part in a segment is what the projection on the segment's directions leaves of it, ``Q_s Q_s^T W``.

Source: rank-partitioned aggregation, raFLoRA (arXiv 2602.13486).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.lowrank.decomposition import Factors, RankPlan, recover

Segment = tuple[int, int]
"""First rank of a segment, and the first behind it."""


def rank_segments(plans: Sequence[RankPlan], path: str) -> tuple[Segment, ...]:
    """Segments of one kernel's ranks.

    Args:
        plans: one a tier.
        path: the kernel's.

    Returns:
        The segments from rank 0 up to the largest rank; none if no tier factorizes the kernel.

    Example:
        >>> rank_segments([{}, {"a": 6}, {"a": 2}], "a")
        ((0, 2), (2, 6))
    """
    ends = sorted({plan[path] for plan in plans if path in plan})
    return tuple(zip([0, *ends[:-1]], ends, strict=True)) if ends else ()


def segment_of(factors: Factors, segment: Segment) -> Factors:
    """The part of the factors that a segment holds.

    Args:
        factors: of rank r.
        segment: within 0 and r.

    Returns:
        Factors of the segment's length.

    Example:
        >>> segment_of(Factors(v=jnp.ones((4, 6)), u=jnp.ones((6, 3))), (2, 6)).rank
        4
    """
    start, stop = segment
    return Factors(v=factors.v[..., start:stop], u=factors.u[..., start:stop, :])


def input_basis(factors: Factors) -> jax.Array:
    """Q, the columns of v divided by their lengths: orthonormal, where the factors are a decomposition's.

    Args:
        factors: as `factorize` returns them.

    Returns:
        Array like v; a column of zeros stays zero.

    Example:
        >>> input_basis(Factors(v=jnp.array([[3.0], [4.0]]), u=jnp.ones((1, 2)))).round(1).tolist()
        [[0.6000000238418579], [0.800000011920929]]
    """
    columns = factors.v.reshape(-1, factors.rank)
    lengths = jnp.linalg.norm(columns, axis=0, keepdims=True)
    return (columns / jnp.where(lengths == 0, 1, lengths)).reshape(factors.v.shape)


def restrict(kernel: jax.Array, basis: jax.Array) -> Factors:
    """A whole kernel's restriction to some directions, ``Q Q^T W``, as the factors Q and ``Q^T W``.

    Args:
        kernel: (i, o) or (kh, kw, i, o).
        basis: Q, (i, r) or (1, kw, i, r), from `input_basis`.

    Returns:
        Factors of rank r; the gradient flows through ``Q^T W``.

    Example:
        >>> from fedhm_jax.lowrank import factorize
        >>> kernel = jnp.arange(12.0).reshape(3, 4)
        >>> held = restrict(kernel, input_basis(factorize(kernel, rank=2)))
        >>> bool(jnp.allclose(recover(held), kernel, atol=1e-4))  # of rank 2
        True
    """
    if kernel.ndim == 2:
        return Factors(v=basis, u=jnp.matmul(basis.T, kernel, precision=lax.Precision.HIGHEST))
    u = jnp.einsum("bcr,abcd->ard", basis[0], kernel, precision=lax.Precision.HIGHEST)
    return Factors(v=basis, u=u[:, None])


def split(kernel: jax.Array, basis: jax.Array, segments: Sequence[Segment]) -> tuple[list[jax.Array], jax.Array]:
    """A whole kernel by segments, and what is in none of them: ``W = sum_s Q_s Q_s^T W + rest``.

    Args:
        kernel: (i, o) or (kh, kw, i, o).
        basis: Q of all segments.
        segments: of the ranks.

    Returns:
        Arrays like the kernel: one a segment, and the rest.

    Example:
        >>> (part,), rest = split(jnp.eye(2), jnp.array([[1.0], [0.0]]), [(0, 1)])
        >>> part.tolist(), rest.tolist()
        ([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    """
    parts = [recover(restrict(kernel, basis[..., start:stop])) for start, stop in segments]
    return parts, kernel - sum(parts[1:], parts[0])
