"""Small convolutional network for small grey images."""

from functools import partial

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, Conv, ConvMethod, LowRankConv, max_pool
from fedhm_jax.models.classifier import LastLayer, classifier
from fedhm_jax.models.depth import Stage


class CNN(nn.Module):
    """conv 3x3 16, pool, conv 3x3 32, pool, dense 64, classifier. The stem stays whole, and unless ``last_layer`` says
    otherwise the classifier.

    The dense layer reads all of a map, so it is a convolution whose kernel is as large as the map, and is factorized as
    one: of an h x w map with i channels, a rank costs ``w i + h 64`` parameters rather than ``h w i + 64``.

    Attributes:
        classes: number of outputs.
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
        convolution: how convolutions are computed, see `fedhm_jax.layers.convolution`.
        last_layer: ``whole`` or ``factorized``, see `fedhm_jax.models.classifier`.
    """

    classes: int
    norm: str = "none"
    convolution: ConvMethod = "auto"
    last_layer: LastLayer = "whole"

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
        return classifier(self.classes, self.last_layer)(hidden)

    def stages(self) -> tuple[Stage, ...]:
        """Stem, convolution and dense layer, see `fedhm_jax.models.depth`."""
        return partial(_stem, self), partial(_convolution, self), partial(_dense, self)


def _stem(model: CNN, images: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    hidden = Conv(16, method=model.convolution, name="stem")(images)
    # ReLU and max-pool commute; the pooled image has a quarter of the elements to clip.
    return nn.relu(max_pool(NORMS[model.norm](name="norm_0")(hidden, mask=mask, train=train)))


def _convolution(model: CNN, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    hidden = LowRankConv(32, method=model.convolution, name="conv")(hidden)
    return nn.relu(max_pool(NORMS[model.norm](name="norm_1")(hidden, mask=mask, train=train)))


def _dense(model: CNN, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    size = (hidden.shape[1], hidden.shape[2])
    outputs = LowRankConv(64, size, padding="VALID", method=model.convolution, name="dense")(hidden)
    return nn.relu(outputs.reshape(outputs.shape[0], -1))
