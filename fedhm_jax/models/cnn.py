"""Small convolutional network for small grey images."""

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, Conv, ConvMethod, LowRankConv, LowRankDense, max_pool


class CNN(nn.Module):
    """conv 3x3 16, pool, conv 3x3 32, pool, dense 64, classifier. Stem and classifier stay whole.

    Attributes:
        classes: number of outputs.
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
        convolution: how convolutions are computed, see `fedhm_jax.layers.convolution`.
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
