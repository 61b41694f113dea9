"""Max-pooling against the maximum over windows that are an axis of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.models.pooling import max_pool


def largest_of_windows(images):
    batch, height, width, channels = images.shape
    height, width = height // 2, width // 2
    return images[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels).max((2, 4))


@pytest.mark.parametrize("values", [3, 1000])  # with many windows that have several largest elements, and with few
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 5, 7, 2), (3, 2, 2, 1), (2, 1, 4, 3)])
def test_values_and_gradients_are_those_of_the_windows(shape, values):
    generator = np.random.default_rng(0)
    images = generator.integers(values, size=shape).astype(float)
    cotangent = generator.normal(size=largest_of_windows(images).shape)
    with jax.enable_x64(True):
        pooled, pull = jax.vjp(max_pool, jnp.array(images))
        wanted, wanted_pull = jax.vjp(largest_of_windows, jnp.array(images))
        np.testing.assert_array_equal(pooled, wanted)
        np.testing.assert_allclose(pull(jnp.array(cotangent))[0], wanted_pull(jnp.array(cotangent))[0], rtol=1e-15)
