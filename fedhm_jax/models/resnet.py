"""Residual networks in their CIFAR form: 3x3 stem of stride 1, no max-pool (He et al., 1512.03385)."""

from functools import partial

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, Conv, ConvMethod, LowRankConv
from fedhm_jax.models.classifier import LastLayer, classifier
from fedhm_jax.models.depth import Stage


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity or 1x1 shortcut.

    Attributes:
        features: output channels.
        stride: step of the first convolution.
        projects: the shortcut is a 1x1 convolution, for a block whose output has another shape than its input.
        low_rank: the 3x3 kernels may be factorized; the shortcut never is.
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
        convolution: how convolutions are computed.
    """

    features: int
    stride: int
    projects: bool
    low_rank: bool
    norm: str
    convolution: ConvMethod

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """(batch, height, width, channels) to (batch, height / stride, width / stride, features)."""
        layer = LowRankConv if self.low_rank else Conv
        norm = NORMS[self.norm]
        strides = (self.stride, self.stride)

        hidden = layer(
            self.features, strides=strides, padding=1, use_bias=False, method=self.convolution, name="conv_0"
        )(images)
        hidden = nn.relu(norm(name="norm_0")(hidden, mask=mask, train=train))
        hidden = layer(self.features, padding=1, use_bias=False, method=self.convolution, name="conv_1")(hidden)
        hidden = norm(name="norm_1")(hidden, mask=mask, train=train)

        shortcut = images
        if self.projects:
            shortcut = Conv(
                self.features, (1, 1), strides, padding=0, use_bias=False, method=self.convolution, name="shortcut"
            )(images)
            shortcut = norm(name="shortcut_norm")(shortcut, mask=mask, train=train)
        return nn.relu(hidden + shortcut)


class ResNet(nn.Module):
    """Stem, stages of basic blocks that halve the image and double the channels, global mean, classifier.

    Attributes:
        classes: number of outputs.
        blocks: number of blocks in each stage.
        width: channels of the first stage.
        full_rank_blocks: leading blocks whose kernels stay whole (FedHM's hybrid depth).
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
        convolution: how convolutions are computed, see `fedhm_jax.layers.convolution`.
        last_layer: ``whole`` or ``factorized``, see `fedhm_jax.models.classifier`.
    """

    classes: int
    blocks: tuple[int, ...]
    width: int
    full_rank_blocks: int = 0
    norm: str = "batch_static"
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
        return classifier(self.classes, self.last_layer)(hidden.mean((1, 2)))

    def stages(self) -> tuple[Stage, ...]:
        """The stages of blocks, the stem with the first, see `fedhm_jax.models.depth`."""
        return tuple(partial(_blocks, self, stage) for stage in range(len(self.blocks)))


def _blocks(model: ResNet, stage: int, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    if stage == 0:
        hidden = Conv(model.width, padding=1, use_bias=False, method=model.convolution, name="stem")(hidden)
        hidden = nn.relu(NORMS[model.norm](name="stem_norm")(hidden, mask=mask, train=train))
    before = sum(model.blocks[:stage])
    for position in range(model.blocks[stage]):
        narrows = stage > 0 and position == 0
        hidden = BasicBlock(
            features=model.width * 2**stage,
            stride=2 if narrows else 1,
            projects=narrows,
            low_rank=before + position >= model.full_rank_blocks,
            norm=model.norm,
            convolution=model.convolution,
            name=f"stage_{stage}_block_{position}",
        )(hidden, mask=mask, train=train)
    return hidden
