"""Every way to compute a convolution against a plain loop over output positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.layers import convolution
from fedhm_jax.layers.convolution import conv2d, same_padding

CASES = [  # image side lengths, kernel, strides, padding
    ((5, 5), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((6, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),
    ((6, 6), (1, 3), (1, 2), ((0, 0), (1, 1))),
    ((6, 6), (3, 1), (2, 1), ((1, 1), (0, 0))),
    ((7, 5), (1, 1), (2, 2), ((0, 0), (0, 0))),
    ((9, 8), (5, 2), (3, 1), ((2, 0), (0, 1))),
    ((6, 5), (2, 3), (1, 1), ((0, 1), (2, 0))),
]


def loop_convolution(images, kernel, strides, padding):
    padded = np.pad(images, ((0, 0), *padding, (0, 0)))
    (kh, kw, _, out), (s, t) = kernel.shape, strides
    rows, columns = (padded.shape[1] - kh) // s + 1, (padded.shape[2] - kw) // t + 1
    result = np.zeros((len(images), rows, columns, out))
    for y in range(rows):
        for x in range(columns):
            window = padded[:, y * s : y * s + kh, x * t : x * t + kw]
            result[:, y, x] = np.einsum("nabc,abco->no", window, kernel)
    return result


# Kernel gradients of the canonical way change theirs from so many outputs on.
@pytest.mark.parametrize(
    ("method", "cached"),
    [
        ("gemm", 2**19),
        ("canonical", 0),
        ("canonical", 2**19),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("lax", 2**19), ("auto", 0))),
        ("auto", 2**19),
    ],
)
@pytest.mark.parametrize("channels", [(3, 4), (5, 16), (20, 3)])  # columns at once: 16, 2, and 1
@pytest.mark.parametrize(("sides", "taps", "strides", "padding"), CASES)
def test_values_and_gradients_equal_the_loop(monkeypatch, method, sides, taps, strides, padding, channels, cached):
    monkeypatch.setattr(convolution, "_CACHED", cached)
    generator = np.random.default_rng(0)
    images, kernel = generator.normal(size=(2, *sides, channels[0])), generator.normal(size=(*taps, *channels))
    wanted = loop_convolution(images, kernel, strides, padding)
    cotangent = generator.normal(size=wanted.shape)

    @jax.jit
    def compute(images, kernel, cotangent):
        result, pull = jax.vjp(lambda x, k: conv2d(x, k, strides, padding, method), images, kernel)
        return result, *pull(cotangent), conv2d(images, kernel, strides, padding, method)

    with jax.enable_x64(True):
        arrays = jnp.array(images), jnp.array(kernel), jnp.array(cotangent)
        result, image_gradient, kernel_gradient, without_derivatives = compute(*arrays)
    np.testing.assert_allclose(result, wanted, atol=1e-12)
    np.testing.assert_allclose(without_derivatives, wanted, atol=1e-12)

    # The convolution is linear in each argument, so <gradient, direction> is the convolution of the direction itself.
    direction = generator.normal(size=images.shape)
    slope = (loop_convolution(direction, kernel, strides, padding) * cotangent).sum()
    np.testing.assert_allclose((np.asarray(image_gradient) * direction).sum(), slope, rtol=1e-10)
    direction = generator.normal(size=kernel.shape)
    slope = (loop_convolution(images, direction, strides, padding) * cotangent).sum()
    np.testing.assert_allclose((np.asarray(kernel_gradient) * direction).sum(), slope, rtol=1e-10)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_gives_one_output_per_stride(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert before <= after <= before + 1


@pytest.mark.parametrize(
    ("kernel", "strides", "method"),
    [
        ((3, 3, 16, 16), (1, 1), "canonical"),
        ((3, 3, 3, 16), (1, 1), "canonical"),
        ((3, 3, 1, 16), (1, 1), "canonical"),  # grey images
        ((3, 3, 16, 32), (2, 2), "gemm"),
        ((1, 3, 16, 8), (1, 1), "gemm"),  # a factor v
        ((3, 3, 16, 4), (1, 1), "gemm"),
        ((3, 1, 8, 16), (1, 1), "gemm"),  # a factor u
        ((1, 1, 16, 32), (1, 1), "gemm"),
        ((3, 3, 512, 512), (1, 1), "gemm"),
    ],
)
def test_automatic_choice_computes_as_its_method_does(kernel, strides, method):
    """The measured choice, read off the traced operations."""
    images, kernel = jnp.ones((2, 8, 8, kernel[2])), jnp.ones(kernel)

    def operations(method):
        traced = jax.make_jaxpr(lambda x, k: conv2d(x, k, strides, ((1, 1), (1, 1)), method))(images, kernel)
        return str(traced)

    assert operations("auto") == operations(method) != operations("gemm" if method == "canonical" else "canonical")
