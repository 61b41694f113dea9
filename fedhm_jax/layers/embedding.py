"""A table of vectors, one for each symbol or position."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import Initializer

from fedhm_jax.layers.lowrank import whole_kernel


class Embedding(nn.Module):
    """Looks up rows of a kernel that no tier factorizes, ``y = W[x]``: a dense layer that reads one-hot vectors.

    Parameters: ``kernel``: (count, features).

    Attributes:
        count: number of rows.
        features: length of a row.
        kernel_init: initializer of the kernel.

    Example:
        >>> layer = Embedding(count=65, features=8)
        >>> variables = layer.init(jax.random.key(0), jnp.arange(3))
        >>> variables["params"]["kernel"].shape, layer.apply(variables, jnp.arange(3)).shape
        ((65, 8), (3, 8))
    """

    count: int
    features: int
    kernel_init: Initializer = nn.initializers.normal(0.1)

    @nn.compact
    def __call__(self, rows: jax.Array) -> jax.Array:
        """Looks up a row for every entry.

        Args:
            rows: (...), integers from 0 to count - 1; of a larger one the row is not a number, which shows.

        Returns:
            (..., features).
        """
        return jnp.take(whole_kernel(self, self.kernel_init, (self.count, self.features)), rows, axis=0)
