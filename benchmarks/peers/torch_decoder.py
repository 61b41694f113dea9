"""fedhm_jax's default decoder as PyTorch has it."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers.data import SYMBOLS, WINDOW

WIDTH, DEPTH, HEADS = 128, 4, 4
_EPSILON = 1e-5


class Decoder(nn.Module):
    """Embedded symbols and positions, causal blocks, layer norm, a classifier at every position.

    Queries, keys and values come from one product, and attention is PyTorch's own: the same function and as many
    parameters as fedhm_jax's, computed as PyTorch does it best.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(SYMBOLS, WIDTH)
        self.positions = nn.Embedding(WINDOW, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH, eps=_EPSILON)
        self.classifier = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, positions) to (batch, positions, symbols)."""
        hidden = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.classifier(self.norm(self.blocks(hidden)))


class Block(nn.Module):
    """``h = x + attention(norm(x))``, then ``h + W_2 gelu(W_1 norm(h))``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_0 = nn.LayerNorm(WIDTH, eps=_EPSILON)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)
        self.norm_1 = nn.LayerNorm(WIDTH, eps=_EPSILON)
        self.dense_0 = nn.Linear(WIDTH, 4 * WIDTH)
        self.dense_1 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(batch, positions, width) to the same."""
        batch, positions, width = hidden.shape
        heads = self.query_key_value(self.norm_0(hidden)).view(batch, positions, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.output(read.transpose(1, 2).reshape(batch, positions, width))
        return hidden + self.dense_1(F.gelu(self.dense_0(self.norm_1(hidden)), approximate="tanh"))
