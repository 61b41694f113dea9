"""Convolution and dense layers whose kernel a tier may factorize, and the convolution that no tier factorizes.

A `LowRankDense` or `LowRankConv` computes with whatever its parameter tree holds at ``kernel``: an array of any
number of outputs, `Factors` of any rank, or `Adapted`, an array with factors beside it. So one module serves the
server and every tier: the tier is in the parameters, not in the module. A last dense layer that stays whole is
`flax.linen.Dense`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import Initializer

from fedhm_jax.layers.convolution import ConvMethod, Padding, Pair, conv2d, same_padding
from fedhm_jax.layers.product import product
from fedhm_jax.lowrank import Adapted, Factors, factorize, whole_shape

PaddingSpec = str | int | Sequence[Pair]
Kernel = jax.Array | Factors | Adapted


def _kernel(module: nn.Module, init: Initializer, shape: tuple[int, ...], rank: int | None = None) -> Kernel:
    """The kernel as the parameter tree holds it; created whole, or factorized if a rank is given."""
    if module.has_variable("params", "kernel"):
        kernel: Kernel = module.get_variable("params", "kernel")
        # The number of outputs is the tree's to say: a narrower model holds fewer.
        if (held := whole_shape(kernel))[:-1] != shape[:-1]:
            raise ValueError(
                f"{'/'.join((*module.path, 'kernel'))} has shape {held}, but must be {shape} for its layer"
            )
        return kernel
    if rank is None:
        return module.param("kernel", init, shape, jnp.float32)
    return module.param("kernel", lambda key: factorize(init(key, shape, jnp.float32), rank))


def whole_kernel(module: nn.Module, init: Initializer, shape: tuple[int, ...]) -> jax.Array:
    """The kernel of a layer that no tier factorizes, as the parameter tree holds it.

    Args:
        module: the layer.
        init: initializer of the kernel.
        shape: of the whole kernel; a narrower model's has fewer outputs, its last axis.

    Returns:
        The kernel.

    Raises:
        ValueError: the tree holds factors, or another number of inputs.
    """
    kernel = _kernel(module, init, shape)
    if isinstance(kernel, Factors | Adapted):
        raise ValueError(f"{'/'.join((*module.path, 'kernel'))} is factorized, but its layer keeps it whole")
    return kernel


def _add_bias(module: nn.Module, outputs: jax.Array) -> jax.Array:
    bias = module.param("bias", nn.initializers.zeros_init(), (outputs.shape[-1],), jnp.float32)
    return outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))


def _product(inputs: jax.Array, kernel: Kernel) -> jax.Array:
    if isinstance(kernel, Adapted):
        return _product(inputs, kernel.base) + _product(inputs, kernel.change)
    if isinstance(kernel, Factors):
        return product(product(inputs, kernel.v), kernel.u)
    return product(inputs, kernel)


def _convolution(images: jax.Array, kernel: Kernel, strides: Pair, padding: Padding, method: ConvMethod) -> jax.Array:
    if isinstance(kernel, Adapted):
        base, change = (_convolution(images, part, strides, padding, method) for part in kernel)
        return base + change
    if isinstance(kernel, Factors):
        (s, t), (rows, columns) = strides, padding
        narrow = conv2d(images, kernel.v, (1, t), ((0, 0), columns), method)
        return conv2d(narrow, kernel.u, (s, 1), (rows, (0, 0)), method)
    return conv2d(images, kernel, strides, padding, method)


class LowRankDense(nn.Module):
    """Dense layer with a kernel that tiers may factorize, ``y = x v u + b`` (``y = x W + b`` with a whole kernel, ``y =
    x W + x v u + b`` with factors beside it).

    Parameters: ``kernel``: (inputs, features), `Factors` or `Adapted` of it; ``bias``: (features,).

    Attributes:
        features: number of outputs.
        rank: rank of the factors created by ``init``; None creates the whole kernel, as a simulation needs it.
        use_bias: add a bias after the product.
        kernel_init: initializer of the whole kernel.
        input_groups: groups of channels that the inputs consist of, such as the heads of attention; a narrower model
            keeps the leading channels of each.
        output_groups: the same of the outputs.

    Example:
        >>> layer = LowRankDense(features=3, rank=2)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> jax.tree.map(jnp.shape, variables["params"])
        {'bias': (3,), 'kernel': Factors(v=(4, 2), u=(2, 3))}

    Source: FedHM (arXiv 2111.14655), section on model factorization.
    """

    features: int
    rank: int | None = None
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    input_groups: int = 1
    output_groups: int = 1

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the layer to the last axis.

        Args:
            inputs: (..., inputs).

        Returns:
            (..., features).
        """
        kernel = _kernel(self, self.kernel_init, (inputs.shape[-1], self.features), self.rank)
        outputs = _product(inputs.reshape(-1, inputs.shape[-1]), kernel)
        outputs = outputs.reshape(*inputs.shape[:-1], outputs.shape[-1])
        return _add_bias(self, outputs) if self.use_bias else outputs


class LowRankConv(nn.Module):
    """2-D convolution with a kernel that tiers may factorize: 1 x kw, then kh x 1, nothing in between.

    With factors, ``v`` runs with strides (1, t) and the width's padding, ``u`` with strides (s, 1) and the height's
    padding; at full rank the two equal the whole convolution.

    Parameters: ``kernel``: (kh, kw, inputs, features), `Factors` or `Adapted` of it; ``bias``: (features,).

    Attributes:
        features: number of output channels.
        kernel_size: (kh, kw).
        strides: steps along height and width.
        padding: ``"SAME"``, ``"VALID"``, an integer for all sides, or ((top, bottom), (left, right)).
        rank: rank of the factors created by ``init``; None creates the whole kernel, as a simulation needs it.
        use_bias: add a bias after the product.
        method: how convolutions are computed, see `fedhm_jax.layers.convolution`.
        kernel_init: initializer of the whole kernel.

    Example:
        >>> layer = LowRankConv(features=8, kernel_size=(3, 3), rank=2)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 6, 6, 4)))
        >>> jax.tree.map(jnp.shape, variables["params"])
        {'bias': (8,), 'kernel': Factors(v=(1, 3, 4, 2), u=(3, 1, 2, 8))}

    Source: FedHM (arXiv 2111.14655), section on model factorization.
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: PaddingSpec = "SAME"
    rank: int | None = None
    use_bias: bool = True
    method: ConvMethod = "auto"
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Convolves a batch of images.

        Args:
            images: (batch, height, width, inputs).

        Returns:
            (batch, out_height, out_width, features).
        """
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = _kernel(self, self.kernel_init, shape, self.rank)
        rows, columns = _explicit_padding(self.padding, images.shape[1:3], self.kernel_size, self.strides)
        outputs = _convolution(images, kernel, self.strides, (rows, columns), self.method)
        return _add_bias(self, outputs) if self.use_bias else outputs


class Conv(nn.Module):
    """2-D convolution that no tier factorizes, such as a stem or a shortcut.

    Parameters: ``kernel``: (kh, kw, inputs, features); ``bias``: (features,).

    Attributes:
        features, kernel_size, strides, padding, use_bias, method, kernel_init: as in `LowRankConv`.

    Example:
        >>> layer = Conv(features=8, use_bias=False)
        >>> jax.tree.map(jnp.shape, layer.init(jax.random.key(0), jnp.ones((1, 6, 6, 4)))["params"])
        {'kernel': (3, 3, 4, 8)}
    """

    features: int
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: PaddingSpec = "SAME"
    use_bias: bool = True
    method: ConvMethod = "auto"
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Convolves a batch of images.

        Args:
            images: (batch, height, width, inputs).

        Returns:
            (batch, out_height, out_width, features).
        """
        shape = (*self.kernel_size, images.shape[-1], self.features)
        kernel = whole_kernel(self, self.kernel_init, shape)
        padding = _explicit_padding(self.padding, images.shape[1:3], self.kernel_size, self.strides)
        outputs = conv2d(images, kernel, self.strides, padding, self.method)
        return _add_bias(self, outputs) if self.use_bias else outputs


def _explicit_padding(padding: PaddingSpec, sizes: Sequence[int], kernel: Pair, strides: Pair) -> Padding:
    if padding == "SAME":
        rows, columns = (same_padding(*axis) for axis in zip(sizes, kernel, strides, strict=True))
        return rows, columns
    if padding == "VALID":
        return (0, 0), (0, 0)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if isinstance(padding, str) or len(padding) != 2:
        raise ValueError(f"padding is {padding!r}, but must be 'SAME', 'VALID', an integer or two pairs")
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)
