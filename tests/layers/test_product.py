"""Products and their gradients, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.layers.product import product

TALL, BROAD = (6, 2), (2, 6)
"""Kernels with more inputs than outputs, and with fewer."""


def gradients(rows: jax.Array, kernel: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the weighted sum of a product."""
    return jax.grad(lambda rows, kernel: (product(rows, kernel) * weights).sum(), (0, 1))(rows, kernel)


@pytest.mark.parametrize("shape", [TALL, BROAD, (3, 3)])
def test_product_and_gradients_are_those_of_the_formula(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(0).normal
    rows, kernel, weights = draw(size=(4, 5, shape[0])), draw(size=(4, *shape)), draw(size=(4, 5, shape[1]))
    with jax.enable_x64(True):
        np.testing.assert_allclose(product(rows[0], kernel[0]), rows[0] @ kernel[0], rtol=1e-12)
        # Clients side by side: each its own kernel.
        of_rows, of_kernels = jax.jit(jax.vmap(gradients))(rows, kernel, weights)
    for client in range(4):
        np.testing.assert_allclose(of_rows[client], weights[client] @ kernel[client].T, rtol=1e-12)
        np.testing.assert_allclose(of_kernels[client], rows[client].T @ weights[client], rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "platform", "turned"), [(TALL, "cpu", True), (BROAD, "cpu", False), (TALL, "cuda", False)]
)
def test_only_a_cpu_turns_the_gradient_of_a_tall_kernel(shape: tuple[int, int], platform: str, turned: bool) -> None:
    rows, kernel, weights = jnp.ones((5, shape[0])), jnp.ones(shape), jnp.ones((5, shape[1]))
    lowered = jax.jit(gradients).trace(rows, kernel, weights).lower(lowering_platforms=(platform,))
    assert ("optimization_barrier" in lowered.as_text()) == turned


def test_no_gradient_is_traced_that_nobody_asks_for() -> None:
    rows, kernel = jnp.ones((5, BROAD[0])), jnp.ones(BROAD)
    for argument in (0, 1):
        program = jax.make_jaxpr(jax.grad(lambda *both: product(*both).sum(), argument))(rows, kernel)
        assert str(program).count("dot_general") == 2  # the product, and one gradient


def test_a_product_that_does_not_count_has_no_gradient() -> None:
    rows, kernel = jnp.ones((5, TALL[0])), jnp.ones(TALL)
    found = jax.grad(lambda kernel: (lambda unused, used: used)(product(rows, kernel), kernel.sum()))(kernel)
    np.testing.assert_array_equal(found, np.ones(TALL))
