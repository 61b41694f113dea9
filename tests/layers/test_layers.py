"""A factorized layer is its dense layer when the rank is full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedhm_jax.layers.lowrank import Conv, LowRankConv, LowRankDense
from fedhm_jax.lowrank.decomposition import Adapted, Factors, factorize, matrix_shape, recover

SHAPES = [  # kernel size, strides, padding
    ((3, 3), (1, 1), "SAME"),
    ((3, 3), (2, 2), "SAME"),
    ((3, 3), (2, 2), 1),
    ((3, 3), (1, 1), "VALID"),
    ((5, 3), (2, 1), ((2, 1), (0, 1))),
    ((1, 1), (2, 2), 0),
]


def in_float64(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


# The ways to convolve equal one another, says layers/test_convolution.py.
@pytest.mark.parametrize(
    "method", [*(pytest.param(way, marks=pytest.mark.long) for way in ("gemm", "lax")), "canonical"]
)
@pytest.mark.parametrize(("taps", "strides", "padding"), SHAPES)
def test_low_rank_conv_at_full_rank_equals_flax_conv(taps, strides, padding, method):
    images = np.random.default_rng(0).normal(size=(2, 7, 8, 4))
    with jax.enable_x64(True):
        reference = nn.Conv(6, taps, strides=strides, padding=padding)
        params = in_float64(reference.init(jax.random.key(0), jnp.array(images, jnp.float32))["params"])
        params["bias"] = jnp.arange(6.0)
        wanted = reference.apply({"params": params}, jnp.array(images))
        layer = LowRankConv(6, taps, strides=strides, padding=padding, method=method)
        rank = min(matrix_shape(params["kernel"].shape))
        factorized = {**params, "kernel": factorize(params["kernel"], rank)}
        np.testing.assert_allclose(layer.apply({"params": factorized}, jnp.array(images)), wanted, atol=1e-12)
        whole = Conv(6, taps, strides=strides, padding=padding, method=method)
        np.testing.assert_allclose(whole.apply({"params": params}, jnp.array(images)), wanted, atol=1e-12)


@pytest.mark.parametrize("rank", [2, *(pytest.param(rank, marks=pytest.mark.long) for rank in (1, 4))])
def test_low_rank_conv_equals_the_dense_conv_of_its_product(rank):
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 4))
    with jax.enable_x64(True):
        layer = LowRankConv(5, (3, 3), strides=(2, 2), padding=1, rank=rank, use_bias=False)
        params = in_float64(layer.init(jax.random.key(0), jnp.array(images, jnp.float32))["params"])
        assert params["kernel"].rank == rank
        dense = {"kernel": recover(params["kernel"])}
        np.testing.assert_allclose(
            layer.apply({"params": params}, jnp.array(images)),
            nn.Conv(5, (3, 3), strides=2, padding=1, use_bias=False).apply({"params": dense}, jnp.array(images)),
            atol=1e-12,
        )


@pytest.mark.parametrize("use_bias", [True, False])
def test_low_rank_dense_at_full_rank_equals_flax_dense(use_bias):
    inputs = np.random.default_rng(2).normal(size=(3, 2, 4))
    with jax.enable_x64(True):
        reference = nn.Dense(7, use_bias=use_bias)
        params = in_float64(reference.init(jax.random.key(1), jnp.array(inputs, jnp.float32))["params"])
        factorized = {**params, "kernel": factorize(params["kernel"], 4)}
        np.testing.assert_allclose(
            LowRankDense(7, use_bias=use_bias).apply({"params": factorized}, jnp.array(inputs)),
            reference.apply({"params": params}, jnp.array(inputs)),
            atol=1e-12,
        )


@pytest.mark.parametrize("layer", [LowRankDense(6), LowRankConv(6, (3, 2), strides=(2, 1), padding=1)])
def test_factors_beside_a_kernel_equal_the_layer_of_their_sum(layer):
    images = np.random.default_rng(4).normal(size=(2, 5, 6, 4))
    with jax.enable_x64(True):
        params = in_float64(layer.init(jax.random.key(0), jnp.array(images, jnp.float32))["params"])
        change = factorize(jnp.sin(params["kernel"] * 100), 2)
        beside, whole = (
            layer.apply({"params": params | {"kernel": kernel}}, jnp.array(images))
            for kernel in (Adapted(params["kernel"], change), params["kernel"] + recover(change))
        )
        np.testing.assert_allclose(beside, whole, atol=1e-12)


def test_a_layer_that_stays_whole_takes_no_factors_beside_its_kernel():
    kernel = Adapted(jnp.ones((1, 1, 2, 3)), Factors(jnp.ones((1, 1, 2, 1)), jnp.ones((1, 1, 1, 3))))
    with pytest.raises(ValueError, match="kernel is factorized, but its layer keeps it whole"):
        Conv(3, (1, 1), use_bias=False).apply({"params": {"kernel": kernel}}, jnp.ones((1, 4, 4, 2)))


def test_init_without_rank_creates_the_whole_kernel():
    params = LowRankDense(3).init(jax.random.key(0), jnp.ones((1, 5)))["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (5, 3), "bias": (3,)}


def test_a_kernel_of_another_shape_is_refused():
    params = {"kernel": Factors(jnp.ones((4, 2)), jnp.ones((2, 3))), "bias": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"kernel has shape \(4, 3\), but must be \(5, 3\)"):
        LowRankDense(3).apply({"params": params}, jnp.ones((1, 5)))


@pytest.mark.parametrize("layer", [LowRankDense(6), LowRankConv(6), Conv(6)])
def test_a_narrower_kernel_gives_narrower_outputs(layer):
    """The first three outputs of the whole layer, from their columns alone."""
    images = jnp.asarray(np.random.default_rng(3).normal(size=(2, 4, 5, 3)), jnp.float32)
    params = layer.init(jax.random.key(0), images)["params"] | {"bias": jnp.arange(6.0)}
    narrow = jax.tree.map(lambda leaf: leaf[..., :3], params)
    whole, found = (layer.apply({"params": tree}, images) for tree in (params, narrow))
    assert found.shape == (2, 4, 5, 3)
    np.testing.assert_allclose(found, whole[..., :3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", ((1, 1),)])
def test_an_unknown_padding_is_refused(padding):
    with pytest.raises(ValueError, match="must be 'SAME', 'VALID', an integer or two pairs"):
        Conv(3, padding=padding).init(jax.random.key(0), jnp.ones((1, 4, 4, 1)))
