"""The spectral norm of a product against the singular values of the kernel that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowrank.test_decomposition import as_matrix

from fedhm_jax.lowrank.decomposition import Factors, recover
from fedhm_jax.lowrank.spectral import spectral_norm

SHAPES = {
    "dense": ((9, 4), (4, 6)),
    "wide rank": ((3, 5), (5, 4)),
    "convolution": ((1, 3, 4, 5), (2, 1, 5, 3)),
}


def slow(factors):
    """The largest singular value of the kernel, read as the paper's matrix."""
    return np.linalg.svd(as_matrix(np.asarray(recover(factors))), compute_uv=False)[0]


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_largest_singular_value_of_the_product(name):
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        factors = Factors(*(jnp.asarray(generator.normal(size=shape)) for shape in SHAPES[name]))
        np.testing.assert_allclose(jax.jit(spectral_norm)(factors), slow(factors), rtol=1e-12)


def with_values(values, dtype):
    """Factors of a matrix with given singular values, the sides unequally long."""
    generator, rank = np.random.default_rng(1), len(values)
    left, right = (np.linalg.qr(generator.normal(size=(rows, rank)))[0] for rows in (30, 20))
    mixed = generator.normal(size=(rank, rank))
    return Factors(
        jnp.asarray(left @ mixed, dtype), jnp.asarray(np.linalg.solve(mixed, np.diag(values)) @ right.T, dtype)
    )


def test_values_close_together_are_told_apart():
    with jax.enable_x64(True):
        norm = jax.jit(spectral_norm)
        for close in (1e-3, 1e-6, 1e-8, 0.0):
            # power iteration one step at a time would need a million of them
            values = 2.0 * (1 - close * np.arange(8) / 7)
            np.testing.assert_allclose(norm(with_values(values, jnp.float64)), 2.0, rtol=8 / (2 * np.e * 2**24))


def test_single_precision_is_enough():
    norm = jax.jit(jax.vmap(spectral_norm))
    values = [3.0, 2.9999, 1.0, 1e-3, 0.0, 0.0, 0.0, 0.0]
    several = [with_values(size * np.array(values), jnp.float32) for size in (1e-15, 1.0, 1e15)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    np.testing.assert_allclose(norm(stacked), [3e-15, 3.0, 3e15], rtol=1e-4)


def test_a_kernel_of_zeros_has_norm_zero():
    assert spectral_norm(Factors(jnp.zeros((3, 2)), jnp.ones((2, 4)))) == 0
