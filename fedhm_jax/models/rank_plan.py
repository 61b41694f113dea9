"""Which kernels a tier factorizes, and to which rank."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from fedhm_jax.layers import LowRankConv, LowRankDense
from fedhm_jax.lowrank import RankPlan, matrix_shape
from fedhm_jax.tree import named_leaves


def factorizable_kernels(model: nn.Module, images: jax.ShapeDtypeStruct) -> dict[str, tuple[int, ...]]:
    """Shapes of the kernels that a model lets tiers factorize: those of its `LowRankDense` and `LowRankConv` layers.

    Args:
        model: any linen module called as ``module(images)``.
        images: shape and dtype of a batch, (batch, height, width, channels).

    Returns:
        Kernel shape by parameter path.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> images = jax.ShapeDtypeStruct((1, 28, 28, 1), "float32")
        >>> factorizable_kernels(build_model("cnn", classes=10), images)
        {'conv/kernel': (3, 3, 16, 32), 'dense/kernel': (7, 7, 32, 64)}
    """
    paths: list[str] = []

    def note(next_function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, LowRankDense | LowRankConv) and context.method_name == "__call__":
            paths.append("/".join((*context.module.path, "kernel")))
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
    kernels = named_leaves(variables["params"])
    return {path: kernels[path].shape for path in paths}


def rank_for(kernel_shape: tuple[int, ...], rank_factor: float) -> int | None:
    """Rank of a kernel in a tier.

    Convolution: ``r = max(round(o / f), 1)``. Dense: ``r = max(round(i o / (f (i + o))), 1)``, the rank that divides
        the parameters by f,
    since for a dense kernel o / f need not make it smaller. A kernel that its factors would not make smaller stays
    whole.

    Args:
        kernel_shape: (i, o) or (kh, kw, i, o).
        rank_factor: f, at least 1; 1 keeps every kernel whole.

    Returns:
        The rank, or None for a kernel that stays whole.

    Example:
        >>> rank_for((3, 3, 64, 64), 4.0), rank_for((96, 96), 4.0), rank_for((3, 3, 64, 64), 1.0)
        (16, 12, None)

    Source: the rule for convolutions is FedHM's (arXiv 2111.14655, section on model factorization).
    """
    if rank_factor == 1:
        return None
    rows, columns = matrix_shape(kernel_shape)
    rank = nominal_rank(kernel_shape, rank_factor)
    return rank if rank * (rows + columns) < rows * columns else None


def nominal_rank(kernel_shape: tuple[int, ...], rank_factor: float) -> int:
    """The rule of `rank_for` alone, for factors that need not be smaller than the kernel, as those beside it.

    Args:
        kernel_shape: (i, o) or (kh, kw, i, o).
        rank_factor: f, at least 1.

    Returns:
        The rank, at least 1.

    Example:
        >>> nominal_rank((96, 96), 4.0), nominal_rank((96, 96), 1.0)
        (12, 48)

    Source: as of `rank_for`.
    """
    inputs, outputs = kernel_shape[-2:]
    wanted = outputs / rank_factor if len(kernel_shape) == 4 else inputs * outputs / (rank_factor * (inputs + outputs))
    return max(round(wanted), 1)


def plan_ranks(kernels: Mapping[str, tuple[int, ...]], rank_factor: float) -> RankPlan:
    """Rank plan of a tier: `rank_for` on every factorizable kernel.

    Args:
        kernels: kernel shape by parameter path.
        rank_factor: f, at least 1.

    Returns:
        Rank by parameter path, without the kernels that stay whole.

    Example:
        >>> plan_ranks({"conv/kernel": (3, 3, 16, 32), "dense_0/kernel": (1568, 64)}, 8.0)
        {'conv/kernel': 4, 'dense_0/kernel': 8}
    """
    ranks = {path: rank_for(shape, rank_factor) for path, shape in kernels.items()}
    return {path: rank for path, rank in ranks.items() if rank is not None}
