"""Batch norm and its gradient against the formula on the samples that are not padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.layers.norms import batch_moments, batch_normalise

EPSILON = 1e-2


def formula(inputs, scale, bias, kept):
    axes = tuple(range(inputs.ndim - 1))
    mean, variance = inputs[:kept].mean(axes, keepdims=True), inputs[:kept].var(axes, keepdims=True)
    scale, bias = scale.reshape(mean.shape), bias.reshape(mean.shape)
    return scale * (inputs - mean) / jnp.sqrt(variance + EPSILON) + bias


@pytest.mark.parametrize("shape", [(5, 4, 3, 2), pytest.param((5, 7), marks=pytest.mark.long)])
@pytest.mark.parametrize(("kept", "masked"), [(5, False), (5, True), (3, True), (1, True)])
def test_outputs_and_gradients_equal_the_formula(shape, kept, masked):
    generator = np.random.default_rng(0)
    with jax.enable_x64(True):
        inputs = jnp.array(generator.normal(2.0, 3.0, size=shape))
        scale, bias = (jnp.array(generator.normal(size=shape[-1:])) for _ in range(2))
        cotangent = jnp.array(generator.normal(size=shape))
        mask = (jnp.arange(shape[0]) < kept).astype(inputs.dtype) if masked else None

        outputs, pull = jax.vjp(lambda *args: batch_normalise(*args, mask, EPSILON), inputs, scale, bias)
        wanted, wanted_pull = jax.vjp(lambda *args: formula(*args, kept), inputs, scale, bias)
        np.testing.assert_allclose(outputs, wanted, rtol=1e-12, atol=1e-12)
        for gradient, wanted_gradient in zip(pull(cotangent), wanted_pull(cotangent), strict=True):
            np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-11, atol=1e-11)


def test_without_samples_the_moments_are_zero():
    mean, variance = batch_moments(jnp.ones((3, 2)), jnp.zeros(3))
    assert mean.tolist() == variance.tolist() == [0.0, 0.0]
