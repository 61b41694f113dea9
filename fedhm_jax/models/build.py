"""The built-in models, by name."""

from flax import linen as nn

from fedhm_jax.layers import ConvMethod
from fedhm_jax.models.classifier import LastLayer
from fedhm_jax.models.cnn import CNN
from fedhm_jax.models.decoder import Decoder
from fedhm_jax.models.mlp import MLP
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.models.vit import ViT

# blocks per stage, width of the first stage, leading full-rank blocks of the paper's hybrid depth
RESNETS = {
    "resnet8": ((1, 1, 1), 16, 0),
    "resnet20": ((3, 3, 3), 16, 0),
    "resnet18": ((2, 2, 2, 2), 64, 1),
    "resnet34": ((3, 4, 6, 3), 64, 7),
}


def build_model(
    name: str,
    classes: int,
    *,
    norm: str | None = None,
    full_rank_blocks: int | None = None,
    hidden: tuple[int, ...] = (128, 128),
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    window: int = 64,
    convolution: ConvMethod = "auto",
    classifier: LastLayer = "whole",
) -> nn.Module:
    """The model of a given name.

    Args:
        name: ``mlp``, ``cnn``, ``resnet8``, ``resnet20``, ``resnet18``, ``resnet34``, ``vit`` or
            ``decoder``.
        classes: number of outputs; a decoder's symbols.
        norm: a name in `fedhm_jax.layers.norms.NORMS`; None for ``batch_static`` in ResNets and ``none`` elsewhere.
            Transformers have layer norms and do not look at it.
        full_rank_blocks: leading residual blocks kept whole; None for the paper's hybrid depth.
        hidden: widths of an MLP's hidden layers.
        width: channels of a transformer.
        depth: number of a transformer's blocks.
        heads: of a transformer's attention, a number that divides the width.
        window: most symbols that a decoder reads.
        convolution: how convolutions are computed, see `fedhm_jax.layers.convolution`.
        classifier: ``whole``, or ``factorized`` by tiers as other kernels are.

    Returns:
        A Flax linen module.

    Raises:
        KeyError: no model has this name.

    Example:
        >>> build_model("resnet18", classes=10).full_rank_blocks
        1
    """
    if name == "mlp":
        return MLP(classes, hidden=hidden, norm=norm or "none", last_layer=classifier)
    if name == "cnn":
        return CNN(classes, norm=norm or "none", convolution=convolution, last_layer=classifier)
    if name == "vit":
        return ViT(classes, width, depth, heads, convolution=convolution, last_layer=classifier)
    if name == "decoder":
        return Decoder(classes, width, depth, heads, window, last_layer=classifier)
    blocks, first_width, hybrid_depth = RESNETS[name]
    return ResNet(
        classes,
        blocks,
        first_width,
        full_rank_blocks=hybrid_depth if full_rank_blocks is None else full_rank_blocks,
        norm=norm or "batch_static",
        convolution=convolution,
        last_layer=classifier,
    )
