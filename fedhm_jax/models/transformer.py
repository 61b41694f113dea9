"""What transformers are made of: pre-norm blocks of self-attention and a feed-forward network.

Width and number of heads are those of the parameters at hand, so that a narrower model, whose heads hold fewer channels
each, computes with the same modules.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.layers import LayerNorm, LowRankDense
from fedhm_jax.models.depth import Stage

# Branches begin with the spread of what they read, which the residual connections add up.
_Dense = partial(LowRankDense, kernel_init=nn.initializers.lecun_normal())


def block_stages(depth: int, heads: int, *, causal: bool) -> tuple[Stage, ...]:
    """The blocks of a transformer, a layer norm behind the last, as stages of a model (`fedhm_jax.models.depth`).

    Args:
        depth: number of blocks.
        heads: of each block's attention.
        causal: a position reads those up to itself alone.

    Returns:
        One stage a block, (batch, ..., width) to the same.

    Example:
        >>> len(block_stages(4, heads=4, causal=True))
        4
    """
    return tuple(partial(_block, index, index == depth - 1, heads, causal) for index in range(depth))


def _block(
    index: int, is_last: bool, heads: int, causal: bool, hidden: jax.Array, *, mask: jax.Array | None, train: bool
) -> jax.Array:
    hidden = Block(heads, causal, name=f"block_{index}")(hidden)
    return LayerNorm(name="norm")(hidden) if is_last else hidden


class Block(nn.Module):
    """``h = x + attention(norm(x))``, then ``h + W_2 gelu(W_1 norm(h))`` with 4 times the width between.

    Attributes:
        heads: of the attention.
        causal: a position reads those up to itself alone.

    Source: Vaswani et al., Attention Is All You Need (1706.03762); norms before the branches as in Radford et al.,
        Language Models are Unsupervised Multitask Learners (2019), section 2.3.
    """

    heads: int
    causal: bool

    @nn.compact
    def __call__(self, hidden: jax.Array) -> jax.Array:
        """(batch, ..., width) to the same; the axes between are the positions, in their order."""
        width = hidden.shape[-1]
        hidden = hidden + SelfAttention(self.heads, self.causal, name="attention")(LayerNorm(name="norm_0")(hidden))
        wide = nn.gelu(_Dense(4 * width, name="dense_0")(LayerNorm(name="norm_1")(hidden)))
        return hidden + _Dense(width, name="dense_1")(wide)


class SelfAttention(nn.Module):
    """Every position reads a mean of the others' values, weighted by how its query meets their keys.

    Attributes:
        heads: number of groups of channels that attend each for itself.
        causal: a position reads those up to itself alone.

    Source: Vaswani et al., Attention Is All You Need (1706.03762), section 3.2.2.
    """

    heads: int
    causal: bool

    @nn.compact
    def __call__(self, hidden: jax.Array) -> jax.Array:
        """(batch, ..., width) to the same; the axes between are the positions, in their order."""
        width = hidden.shape[-1]

        def projected(name: str) -> jax.Array:
            channels = _Dense(width, output_groups=self.heads, name=name)(hidden)
            if channels.shape[-1] % self.heads:
                raise ValueError(f"width is {width}, but must be a multiple of heads, which is {self.heads}")
            return channels.reshape(hidden.shape[0], -1, self.heads, channels.shape[-1] // self.heads)

        read = attend(projected("query"), projected("key"), projected("value"), causal=self.causal)
        return _Dense(width, input_groups=self.heads, name="output")(read.reshape(*hidden.shape[:-1], -1))


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array, *, causal: bool) -> jax.Array:
    """``softmax(q k^T / sqrt(channels)) v`` in every head; the softmax in the inputs' type, at least float32.

    `jax.nn.dot_product_attention` takes the softmax in float32 whatever its inputs are, which float64 shows.

    Args:
        queries: (batch, positions, heads, channels).
        keys: the same.
        values: the same.
        causal: a position reads those up to itself alone.

    Returns:
        (batch, positions, heads, channels).

    Example:
        >>> values = jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
        >>> attend(jnp.zeros_like(values), jnp.zeros_like(values), values, causal=True).ravel().tolist()
        [1.0, 2.0]

    Source: Vaswani et al., Attention Is All You Need (1706.03762), equation 1.
    """
    exact = queries.dtype if jnp.finfo(queries.dtype).bits >= 32 else jnp.float32
    scores = jnp.einsum("bqhc,bkhc->bhqk", queries, keys, preferred_element_type=exact)
    scores = scores / math.sqrt(queries.shape[-1])
    if causal:
        positions = jnp.arange(scores.shape[-1])
        seen = positions[:, None] >= positions[None, :]
        scores = jnp.where(seen[None, None], scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores, axis=-1).astype(values.dtype), values)
