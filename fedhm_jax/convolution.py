"""One 2-D convolution, three ways to compute it.

XLA's CPU compiler reaches its fast convolution only in the outermost computation and only for one layout; inside the
loop over a client's steps the gradients of a convolution fall back to a path that is many times slower, and batching
over clients turns per-client kernels into grouped convolutions. The ways below give the same numbers and differ in what
the compiler makes of them:

- ``gemm``: the k * k shifted slices of the image, side by side on the channel axis, times one matrix.
- ``canonical``: the library's convolution, with gradients written as convolutions in the fast layout, or as one matrix
  product where the kernel's gradient is large. Needs the least memory on a CPU.
- ``lax``: the library's convolution as it is.

On a CPU ``canonical`` is the fastest for whole kernels without strides, and ``gemm`` for factors, strides, single taps,
grey images and very many channels (``python -m benchmarks.convolution``).
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

ConvMethod = Literal["auto", "gemm", "canonical", "lax"]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")

_MACS_OF_ONE_PRODUCT = 2**28
"""Multiply-accumulates of a kernel's gradient from which one product beats the library's convolution on a CPU."""


def same_padding(size: int, kernel: int, stride: int) -> Pair:
    """Zeros before and after one image axis so that the output has ``ceil(size / stride)`` positions.

    Args:
        size: length of the axis in pixels.
        kernel: kernel length along the axis.
        stride: step along the axis.

    Returns:
        (before, after), in pixels.

    Example:
        >>> same_padding(8, 3, 1), same_padding(8, 3, 2)
        ((1, 1), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv2d(
    images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, method: ConvMethod = "auto"
) -> jax.Array:
    """Two-dimensional convolution (cross-correlation), ``out[n, y, x, o] = sum_{a, b, c} in[n, sy + a, tx + b, c]
    kernel[a, b, c, o]``.

    Args:
        images: (batch, height, width, in).
        kernel: (kh, kw, in, out).
        strides: (s, t), steps along height and width.
        padding: zeros ((top, bottom), (left, right)).
        method: ``gemm``, ``canonical``, ``lax``, or ``auto``: the faster of the first two on a CPU, ``lax`` elsewhere.

    Returns:
        (batch, out_height, out_width, out).

    Example:
        >>> x, k = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
        >>> conv2d(x, k, (1, 1), ((0, 0), (0, 0)), "gemm").shape
        (1, 2, 2, 5)
    """
    if method == "auto":
        method = _fastest_on_cpu(kernel, strides) if jax.default_backend() == "cpu" else "lax"
    if method == "gemm":
        return _conv_gemm(images, kernel, strides, padding)
    if method == "canonical":
        return _conv_canonical(images, kernel, strides, padding)
    return _conv_lax(images, kernel, strides, padding)


def _fastest_on_cpu(kernel: jax.Array, strides: Pair) -> ConvMethod:
    rows, columns, channels, _ = kernel.shape
    whole = rows > 1 and columns > 1 and 1 < channels < 512
    return "canonical" if whole and strides == (1, 1) else "gemm"


def _conv_lax(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _conv_gemm(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    kh, kw, channels, out = kernel.shape
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0))) if any(map(any, padding)) else images
    batch, height, width, _ = padded.shape
    rows, columns = (height - kh) // strides[0] + 1, (width - kw) // strides[1] + 1
    slices = [
        lax.slice(
            padded,
            (0, a, b, 0),
            (batch, a + (rows - 1) * strides[0] + 1, b + (columns - 1) * strides[1] + 1, channels),
            (1, *strides, 1),
        )
        for a in range(kh)
        for b in range(kw)
    ]
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    product = patches.reshape(batch * rows * columns, kh * kw * channels) @ kernel.reshape(kh * kw * channels, out)
    return product.reshape(batch, rows, columns, out)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_canonical(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    return _conv_lax(images, kernel, strides, padding)


def _conv_canonical_forward(
    images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv_lax(images, kernel, strides, padding), (images, kernel)


def _conv_canonical_backward(
    strides: Pair, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    sizes, steps = images.shape[1:3], gradient.shape[1:3]
    taps: Pair = (kernel.shape[0], kernel.shape[1])
    # Zeros that the strides skipped at the end of each axis: the forward pass never read them.
    spans = [(n - 1) * s + k for n, s, k in zip(steps, strides, taps, strict=True)]
    unread = [size + sum(p) - span for size, p, span in zip(sizes, padding, spans, strict=True)]

    flipped = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    image_padding = [
        (k - 1 - low, k - 1 - high + rest) for k, (low, high), rest in zip(taps, padding, unread, strict=True)
    ]
    image_gradient = lax.conv_general_dilated(
        gradient, flipped, (1, 1), image_padding, lhs_dilation=strides, dimension_numbers=_LAYOUT
    )

    if strides == (1, 1) and kernel.size * gradient.size // gradient.shape[-1] > _MACS_OF_ONE_PRODUCT:
        return image_gradient, _kernel_gradient_product(images, gradient, taps, padding)
    # The batch is summed over, so it takes the place of the input channels, and the channels that of the batch.
    kernel_padding = [(low, high - rest) for (low, high), rest in zip(padding, unread, strict=True)]
    kernel_gradient = lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        kernel_padding,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    ).transpose(1, 2, 0, 3)
    return image_gradient, kernel_gradient


def _kernel_gradient_product(images: jax.Array, gradient: jax.Array, taps: Pair, padding: Padding) -> jax.Array:
    """All taps by one product: images shifted along the width against gradients shifted along the height, so that each
    is copied once per tap of one axis, not of both."""
    kh, kw = taps
    _, height, width, _ = gradient.shape
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    columns = jnp.concatenate([padded[:, :, b : b + width] for b in range(kw)], axis=-1)
    rest = padded.shape[1] - height
    rows = jnp.concatenate([jnp.pad(gradient, ((0, 0), (a, rest - a), (0, 0), (0, 0))) for a in range(kh)], axis=-1)
    product = columns.reshape(-1, columns.shape[-1]).T @ rows.reshape(-1, rows.shape[-1])
    return product.reshape(kw, images.shape[-1], kh, gradient.shape[-1]).transpose(2, 0, 1, 3)


_conv_canonical.defvjp(_conv_canonical_forward, _conv_canonical_backward)
