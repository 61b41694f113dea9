"""Decoder-only transformer for text."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.layers import Embedding
from fedhm_jax.models.classifier import LastLayer, classifier
from fedhm_jax.models.depth import Stage
from fedhm_jax.models.transformer import block_stages


class Decoder(nn.Module):
    """Embedded symbols and positions, causal blocks, layer norm, a classifier at every position: the next symbol.

    The kernels of the blocks may be factorized; embeddings and norms stay whole, and unless
    ``last_layer`` says otherwise the classifier.

    Attributes:
        classes: number of symbols.
        width: channels of a position.
        depth: number of blocks.
        heads: of each block's attention, a number that divides the width.
        window: most positions that it reads.
        last_layer: ``whole`` or ``factorized``, see `fedhm_jax.models.classifier`.
    """

    classes: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    window: int = 64
    last_layer: LastLayer = "whole"

    @nn.compact
    def __call__(self, tokens: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Scores of the symbol that follows each position.

        Args:
            tokens: (batch, positions), integers from 0 to classes - 1, at most ``window`` positions.
            mask: (batch,), 0 for padded samples, or None; samples do not mix, so it makes no difference.
            train: training mode; it makes no difference.

        Returns:
            (batch, positions, classes).
        """
        hidden = tokens
        for stage in self.stages():
            hidden = stage(hidden, mask=mask, train=train)
        return classifier(self.classes, self.last_layer)(hidden)

    def stages(self) -> tuple[Stage, ...]:
        """The embedding and each block, see `fedhm_jax.models.depth`."""
        return partial(_embed, self), *block_stages(self.depth, self.heads, causal=True)


def _embed(model: Decoder, tokens: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens are {tokens.dtype} of shape {tokens.shape}, but must be integers (batch, positions)")
    positions = tokens.shape[1]
    if positions > model.window:
        raise ValueError(f"tokens have {positions} positions, but must have at most {model.window}, the window")
    placed = Embedding(model.window, model.width, name="positions")(jnp.arange(positions))
    return Embedding(model.classes, model.width, name="tokens")(tokens) + placed[None]
