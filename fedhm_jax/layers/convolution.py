"""One 2-D convolution, three ways to compute it.

XLA's CPU compiler reaches its fast convolution only in the outermost computation and only for one layout; inside the
loop over a client's steps the gradients of a convolution fall back to a path that is many times slower, and batching
over clients turns per-client kernels into grouped convolutions. The ways below give the same numbers and differ in what
the compiler makes of them:

- ``gemm``: the k * k shifted slices of the image, side by side on the channel axis, times one matrix; where that leaves
  half of the channels or fewer, each tap's product first, and then the sum of its shifted slices.
- ``canonical``: the library's convolution in the fast layout, each of the three passes in the way that is the fastest
  on a CPU. Needs the least memory there.
- ``lax``: the library's convolution as it is.

On a CPU ``canonical`` is the fastest for whole kernels without strides, and ``gemm`` for factors, strides, single taps,
few outputs and very many channels (``python -m benchmarks.convolution``).
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.layers.product import product

ConvMethod = Literal["auto", "gemm", "canonical", "lax"]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")

_CACHED = 2**19
"""Elements of an output's gradient from which the library is slow to compute a kernel's gradient on a CPU."""


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
    if _covers_rows(images, kernel, strides, padding):
        return _conv_of_rows(images, kernel)
    if method == "auto":
        method = automatic_method(kernel.shape, strides, jax.default_backend())
    if method == "gemm":
        return _conv_gemm(images, kernel, strides, padding)
    if method == "canonical":
        return _conv_canonical(images, kernel, strides, padding)
    return _conv_lax(images, kernel, strides, padding)


def automatic_method(kernel: tuple[int, ...], strides: Pair, platform: str) -> ConvMethod:
    """What ``auto`` stands for.

    Args:
        kernel: shape (kh, kw, in, out).
        strides: along height and width.
        platform: ``cpu``, ``gpu`` or ``tpu``, as `jax.default_backend` names them.

    Returns:
        ``lax``; on a CPU the fastest measured of the other two.

    Example:
        >>> [automatic_method((3, 3, 16, 16), (1, 1), platform) for platform in ("cpu", "gpu")]
        ['canonical', 'lax']
    """
    if platform != "cpu":
        return "lax"
    rows, columns, channels, outputs = kernel
    whole = rows > 1 and columns > 1 and strides == (1, 1)
    return "canonical" if whole and channels < 512 and outputs >= 8 else "gemm"


def _covers_rows(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> bool:
    """The kernel is as wide as the images, and one row high or as high as they are."""
    rows, columns = kernel.shape[:2]
    unpadded = not any(map(any, padding))
    return unpadded and columns == images.shape[2] and (rows == images.shape[1] or (rows, strides[0]) == (1, 1))


def _conv_of_rows(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product as it stands, whatever the method: each number of the images is read once."""
    rows, columns, channels, outputs = kernel.shape
    patches = images.reshape(-1, rows * columns * channels)
    outcome = product(patches, kernel.reshape(rows * columns * channels, outputs))
    return outcome.reshape(images.shape[0], images.shape[1] // rows, 1, outputs)


def _conv_lax(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _conv_gemm(
    images: jax.Array,
    kernel: jax.Array,
    strides: Pair,
    padding: Padding,
    multiply: Callable[[jax.Array, jax.Array], jax.Array] = product,
) -> jax.Array:
    if _narrows(images, kernel, strides, padding):
        return _conv_of_taps(images, kernel, padding, multiply)
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
    taps = kh * kw * channels
    return multiply(patches.reshape(-1, taps), kernel.reshape(taps, out)).reshape(batch, rows, columns, out)


def _narrows(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> bool:
    """Products are fewer numbers than what they are of, and as many positions as there are outputs."""
    rows, columns, channels, outputs = kernel.shape
    same = all(sum(zeros) == taps - 1 for zeros, taps in zip(padding, (rows, columns), strict=True))
    return rows * columns > 1 and strides == (1, 1) and same and 2 * outputs <= channels


def _conv_of_taps(
    images: jax.Array, kernel: jax.Array, padding: Padding, multiply: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """The sum over taps of shifted slices of each tap's product."""
    kh, kw, channels, out = kernel.shape
    batch, height, width, _ = images.shape
    taps = multiply(images.reshape(-1, channels), kernel.transpose(2, 0, 1, 3).reshape(channels, -1))
    padded = jnp.pad(taps.reshape(batch, height, width, -1), ((0, 0), *padding, (0, 0)))
    slices = [
        padded[:, a : a + height, b : b + width, place * out : (place + 1) * out]
        for place, (a, b) in enumerate(np.ndindex(kh, kw))
    ]
    return reduce(jnp.add, slices)


def _conv_wide(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """The library's convolution, with some neighbouring columns of the output as channels of one column where there are
    few channels: the kernel holds a shifted copy for each. XLA leaves its fast path at 16 channels and fewer."""
    taps, outputs = kernel.shape[1], kernel.shape[3]
    step, (left, right) = strides[1], padding[1]
    columns = (images.shape[2] + left + right - taps) // step + 1
    at_once = min(_columns_at_once(kernel), columns)
    if at_once <= 1:
        return _conv_lax(images, kernel, strides, padding)
    blocks = -(-columns // at_once)
    shifts = [(i * step, (at_once - 1 - i) * step) for i in range(at_once)]
    copies = [jnp.pad(kernel, ((0, 0), shift, (0, 0), (0, 0))) for shift in shifts]
    read = (blocks * at_once - 1) * step + taps
    wide = _conv_lax(
        images,
        jnp.concatenate(copies, axis=-1),
        (strides[0], at_once * step),
        (padding[0], (left, read - images.shape[2] - left)),
    )
    return wide.reshape(*wide.shape[:2], blocks * at_once, outputs)[:, :, :columns]


def _columns_at_once(kernel: jax.Array) -> int:
    """As many as make 32 outputs, or 64 of an image of one to three channels."""
    _, _, channels, outputs = kernel.shape
    return 1 if channels > 16 else (64 if channels < 4 else 32) // outputs


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_canonical(images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    # Where no derivatives are wanted: the zeros of a wide kernel would be counted with the layer's work.
    few = kernel.shape[2] < 4
    return (_conv_gemm if few else _conv_lax)(images, kernel, strides, padding)


def _conv_canonical_forward(
    images: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv_wide(images, kernel, strides, padding), (images, kernel)


def _conv_canonical_backward(
    strides: Pair, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    return (
        _image_gradient(gradient, kernel, images.shape, strides, padding),
        _kernel_gradient(images, gradient, kernel.shape, strides, padding),
    )


def _image_gradient(
    gradient: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    if strides != (1, 1):
        images = jax.ShapeDtypeStruct(shape, gradient.dtype)
        # A product with a gradient of its own has no transpose.
        transposed = jax.linear_transpose(lambda x: _conv_gemm(x, kernel, strides, padding, jnp.matmul), images)
        return transposed(gradient)[0]
    flipped = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    rows, columns = ((k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape, padding, strict=False))
    return _conv_wide(gradient, flipped, (1, 1), (rows, columns))


def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], strides: Pair, padding: Padding
) -> jax.Array:
    taps = (shape[0], shape[1])
    if gradient.size >= _CACHED and strides == (1, 1):
        return _kernel_gradient_product(images, gradient, taps, padding)
    # Zeros that the strides skipped at the end of each axis: the forward pass never read them.
    spans = [(n - 1) * s + k for n, s, k in zip(gradient.shape[1:3], strides, taps, strict=True)]
    read = [(low, span - low - size) for size, (low, _), span in zip(images.shape[1:3], padding, spans, strict=True)]
    # The batch is summed over, so it takes the place of the input channels, and the channels that of the batch.
    kernel_gradient = lax.conv_general_dilated(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        read,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
    )
    return kernel_gradient.transpose(1, 2, 0, 3)


def _kernel_gradient_product(images: jax.Array, gradient: jax.Array, taps: Pair, padding: Padding) -> jax.Array:
    """All taps by one product: images shifted along the width against gradients shifted along the height, so that each
    is copied once per tap of one axis, not of both."""
    kh, kw = taps
    _, height, width, _ = gradient.shape
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    columns = jnp.concatenate([padded[:, :, b : b + width] for b in range(kw)], axis=-1)
    rest = padded.shape[1] - height
    rows = jnp.concatenate([jnp.pad(gradient, ((0, 0), (a, rest - a), (0, 0), (0, 0))) for a in range(kh)], axis=-1)
    both = columns.reshape(-1, columns.shape[-1]).T @ rows.reshape(-1, rows.shape[-1])
    return both.reshape(kw, images.shape[-1], kh, gradient.shape[-1]).transpose(2, 0, 1, 3)


_conv_canonical.defvjp(_conv_canonical_forward, _conv_canonical_backward)
