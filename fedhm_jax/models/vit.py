"""Vision transformer for small images."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.layers import Conv, ConvMethod, Embedding
from fedhm_jax.models.classifier import LastLayer, classifier
from fedhm_jax.models.depth import Stage
from fedhm_jax.models.transformer import block_stages

_PATCH = 4


class ViT(nn.Module):
    """Patches of 4 x 4 pixels with embedded positions, blocks, layer norm, mean over the patches, classifier.

    The kernels of the blocks may be factorized; patches, positions and norms stay whole, and
    unless ``last_layer`` says otherwise the classifier.

    Attributes:
        classes: number of outputs.
        width: channels of a patch.
        depth: number of blocks.
        heads: of each block's attention, a number that divides the width.
        convolution: how the patches are computed, see `fedhm_jax.layers.convolution`.
        last_layer: ``whole`` or ``factorized``, see `fedhm_jax.models.classifier`.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words (2010.11929), section 3.1, with the mean over the patches
        in place of a class token.
    """

    classes: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    convolution: ConvMethod = "auto"
    last_layer: LastLayer = "whole"

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Class scores.

        Args:
            images: (batch, height, width, channels), sides that are multiples of 4.
            mask: (batch,), 0 for padded samples, or None; samples do not mix, so it makes no difference.
            train: training mode; it makes no difference.

        Returns:
            (batch, classes).
        """
        hidden = images
        for stage in self.stages():
            hidden = stage(hidden, mask=mask, train=train)
        return classifier(self.classes, self.last_layer)(hidden.mean((1, 2)))

    def stages(self) -> tuple[Stage, ...]:
        """The patches and each block, a map of (batch, rows, columns, width), see `fedhm_jax.models.depth`."""
        return partial(_patches, self), *block_stages(self.depth, self.heads, causal=False)


def _patches(model: ViT, images: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    height, width = images.shape[1:3]
    if height % _PATCH or width % _PATCH:
        raise ValueError(f"images have {height} x {width} pixels, but both sides must be multiples of {_PATCH}")
    size = (_PATCH, _PATCH)
    init = nn.initializers.lecun_normal()
    patches = Conv(
        model.width, size, size, padding="VALID", method=model.convolution, kernel_init=init, name="patches"
    )(images)
    count = patches.shape[1] * patches.shape[2]
    placed = Embedding(count, model.width, name="positions")(jnp.arange(count))
    return patches + placed.reshape(1, *patches.shape[1:])
