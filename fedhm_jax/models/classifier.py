"""The last layer of the built-in models."""

from typing import Literal

from flax import linen as nn

from fedhm_jax.layers import LowRankDense

LastLayer = Literal["whole", "factorized"]


def classifier(classes: int, kind: LastLayer) -> nn.Module:
    """The layer named ``classifier``, ``y = x W + b``, within a module's ``__call__``.

    FedHM keeps it whole. With many classes it is then most of what a weak client holds, and leaves its other kernels
    next to no rank within the same bytes.

    Args:
        classes: number of outputs.
        kind: ``whole``, or ``factorized`` for a kernel that tiers factorize as any other. Both start from the same
            values, and are one function at full rank.

    Returns:
        The layer.

    Source: the layers that stay whole are FedHM's (arXiv 2111.14655, section on model factorization).
    """
    if kind == "factorized":
        return LowRankDense(classes, kernel_init=nn.linear.default_kernel_init, name="classifier")
    return nn.Dense(classes, name="classifier")
