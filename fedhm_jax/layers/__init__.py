"""What models are made of: layers that compute with whole or factorized kernels, norms and pooling."""

from fedhm_jax.layers.convolution import ConvMethod
from fedhm_jax.layers.depthwise import DepthwiseConv
from fedhm_jax.layers.embedding import Embedding
from fedhm_jax.layers.lowrank import Conv, LowRankConv, LowRankDense
from fedhm_jax.layers.norms import NORMS, LayerNorm
from fedhm_jax.layers.pooling import max_pool

__all__ = [
    "NORMS",
    "Conv",
    "ConvMethod",
    "DepthwiseConv",
    "Embedding",
    "LayerNorm",
    "LowRankConv",
    "LowRankDense",
    "max_pool",
]
