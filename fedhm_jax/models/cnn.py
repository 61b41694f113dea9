"""Small convolutional network for small grey images."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.convolution import ConvMethod
from fedhm_jax.layers import Conv, LowRankConv, LowRankDense
from fedhm_jax.norms import NORMS


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum over 2 x 2 windows, as the maximum of four strided slices, whose gradient is the fastest on a CPU.

    Args:
        images: (batch, height, width, channels); an odd last row or column is dropped.

    Returns:
        (batch, height // 2, width // 2, channels).

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    top, bottom = images[:, 0:height:2], images[:, 1:height:2]
    return jnp.maximum(
        jnp.maximum(top[:, :, 0:width:2], top[:, :, 1:width:2]),
        jnp.maximum(bottom[:, :, 0:width:2], bottom[:, :, 1:width:2]),
    )


class CNN(nn.Module):
    """conv 3x3 16, pool, conv 3x3 32, pool, dense 64, classifier. Stem and classifier stay whole.

    Attributes:
        classes: number of outputs.
        norm: a name in `fedhm_jax.norms.NORMS`.
        convolution: how convolutions are computed, see `fedhm_jax.convolution`.
    """

    classes: int
    norm: str = "none"
    convolution: ConvMethod = "auto"

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Class scores.

        Args:
            images: (batch, height, width, channels).
            mask: (batch,), 0 for padded samples, or None.
            train: training mode of the norms.

        Returns:
            (batch, classes).
        """
        # ReLU and max-pool commute; the pooled image has a quarter of the elements to clip.
        hidden = Conv(16, method=self.convolution, name="stem")(images)
        hidden = nn.relu(max_pool(NORMS[self.norm](name="norm_0")(hidden, mask=mask, train=train)))
        hidden = LowRankConv(32, method=self.convolution, name="conv")(hidden)
        hidden = nn.relu(max_pool(NORMS[self.norm](name="norm_1")(hidden, mask=mask, train=train)))
        hidden = LowRankDense(64, name="dense")(hidden.reshape(hidden.shape[0], -1))
        return nn.Dense(self.classes, name="classifier")(nn.relu(hidden))
