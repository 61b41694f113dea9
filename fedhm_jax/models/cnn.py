"""Small convolutional network for small grey images."""

from functools import partial

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, Conv, ConvMethod, LowRankConv, LowRankDense, max_pool
from fedhm_jax.models.depth import Stage


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
        hidden = images
        for stage in self.stages():
            hidden = stage(hidden, mask=mask, train=train)
        return nn.Dense(self.classes, name="classifier")(hidden)

    def stages(self) -> tuple[Stage, ...]:
        """Stem, convolution and dense layer, see `fedhm_jax.models.depth`."""
        return partial(_stem, self), partial(_convolution, self), _dense


def _stem(model: CNN, images: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    hidden = Conv(16, method=model.convolution, name="stem")(images)
    # ReLU and max-pool commute; the pooled image has a quarter of the elements to clip.
    return nn.relu(max_pool(NORMS[model.norm](name="norm_0")(hidden, mask=mask, train=train)))


def _convolution(model: CNN, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    hidden = LowRankConv(32, method=model.convolution, name="conv")(hidden)
    return nn.relu(max_pool(NORMS[model.norm](name="norm_1")(hidden, mask=mask, train=train)))


def _dense(hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    return nn.relu(LowRankDense(64, name="dense")(hidden.reshape(hidden.shape[0], -1)))
