"""Max-pooling against a loop over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.layers.pooling import max_pool


def loop_over_windows(images, cotangent):
    pooled, gradient = np.zeros_like(cotangent), np.zeros_like(images)
    for sample, row, column, channel in np.ndindex(cotangent.shape):
        window = images[sample, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        first = np.unravel_index(window.argmax(), window.shape)
        pooled[sample, row, column, channel] = window[first]
        gradient[sample, 2 * row + first[0], 2 * column + first[1], channel] = cotangent[sample, row, column, channel]
    return pooled, gradient


@pytest.mark.parametrize("values", [3, 1000])  # with many windows that have several largest elements, and with few
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 5, 7, 2), (3, 2, 2, 1), (2, 1, 4, 3)])
def test_values_and_gradients_are_those_of_the_windows(shape, values):
    generator = np.random.default_rng(0)
    images = generator.integers(values, size=shape).astype(float)
    cotangent = generator.normal(size=(shape[0], shape[1] // 2, shape[2] // 2, shape[3]))
    pooled, gradient = loop_over_windows(images, cotangent)
    with jax.enable_x64(True):
        result, pull = jax.vjp(max_pool, jnp.array(images))
        np.testing.assert_array_equal(result, pooled)
        np.testing.assert_array_equal(pull(jnp.array(cotangent))[0], gradient)
