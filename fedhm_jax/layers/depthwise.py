"""A 2-D convolution with a kernel for each channel."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax


@partial(jax.jit, static_argnames="stride")
def depthwise_conv2d(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """``out[n, y, x, c] = sum_{a, b} in[n, sy + a - 1, sx + b - 1, c] kernel[a, b, 0, c]``, zeros around the image.

    Nine products number by number: the library's grouped convolution is many times slower inside of the loop over a
    client's steps on a CPU, and has a group for each channel of each client that is side by side.

    Args:
        images: (batch, height, width, channels).
        kernel: (3, 3, 1, channels).
        stride: s, along both axes.

    Returns:
        (batch, ceil(height / s), ceil(width / s), channels).

    Example:
        >>> depthwise_conv2d(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2)), stride=2)[0, :, :, 0].tolist()
        [[4.0, 6.0], [6.0, 9.0]]

    Source: Howard et al., "MobileNets", 1704.04861, section 3.1.
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def tap(row: int, column: int) -> jax.Array:
        end = (batch, row + height, column + width, channels)
        shifted = lax.slice(padded, (0, row, column, 0), end, (1, stride, stride, 1))
        return shifted * kernel[row : row + 1, column : column + 1]

    return reduce(jnp.add, [tap(*place) for place in np.ndindex(3, 3)])


class DepthwiseConv(nn.Module):
    """A layer of such kernels, without a bias.

    Attributes:
        stride: step along both axes.
    """

    stride: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """(batch, height, width, channels) to (batch, ceil(height / stride), ceil(width / stride), channels)."""
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, 3, 1, images.shape[-1]), jnp.float32)
        return depthwise_conv2d(images, kernel, self.stride)
