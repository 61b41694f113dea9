"""Narrower models: which channels they keep, what they cost, and that turning a model changes nothing it computes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support.round_twin import draw_params

from fedhm_jax.layers.lowrank import Conv, LowRankDense
from fedhm_jax.layers.norms import StaticBatchNorm
from fedhm_jax.models.budgets import forward_macs
from fedhm_jax.models.build import build_model
from fedhm_jax.models.costs import count_parameters
from fedhm_jax.models.network import network_of
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.models.width_plan import (
    ChannelAxis,
    hidden_layers,
    kept_channels,
    pad_width,
    plan_widths,
    roll_width,
    slice_width,
)
from fedhm_jax.tree import named_leaves

CLASSES = 5
MODELS = {
    "mlp": build_model("mlp", CLASSES, hidden=(6, 4), norm="batch_static"),
    "cnn": build_model("cnn", CLASSES),
    "resnet": ResNet(CLASSES, blocks=(1, 2), width=4),
}
IMAGES = jax.ShapeDtypeStruct((3, 8, 12, 2), jnp.float32)


# Width slices of the published comparison: parameters (M) and MMAC of one 32 x 32 image.
@pytest.mark.parametrize(
    ("width", "parameters", "mega_macs"),
    [(1.0, "11.174", 555), (0.64, "4.590", 228), (0.5, "2.798", 139), (0.35, "1.373", 68)],
)
def test_a_sliced_resnet18_costs_what_is_published(width, parameters, mega_macs):
    module, images = build_model("resnet18", classes=10), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    plan = plan_widths(module, images)
    narrow = jax.eval_shape(lambda params: slice_width(params, plan, width), shapes)
    assert f"{count_parameters(narrow) / 1e6:.3f}" == parameters
    assert round(forward_macs(network_of(module, True), narrow, images) / 1e6) == mega_macs


@pytest.mark.parametrize("name", MODELS)
def test_turning_a_model_leaves_its_function_as_it_is(name):
    with jax.enable_x64(True):
        module = MODELS[name]
        plan, params = plan_widths(module, IMAGES), draw_params(module, IMAGES.shape[1:], jnp.float64)
        images = jnp.asarray(np.random.default_rng(1).normal(size=IMAGES.shape))
        train, turn = network_of(module, True).train, jax.jit(lambda tree, shift: roll_width(tree, plan, shift))
        logits = jax.jit(lambda tree: train(tree, images, None, jax.random.key(0)))
        wanted = logits(params)
        for shift in (1, -1, 5, 10_007):
            turned = turn(params, jnp.int32(shift))
            assert float(jnp.abs(turned["classifier"]["kernel"] - params["classifier"]["kernel"]).max()) > 0.1
            np.testing.assert_allclose(logits(turned), wanted, rtol=1e-9, atol=1e-11)
        channels = {axis.channels for axes in plan.values() for axis in axes if axis is not None}
        for shift in (0, math.lcm(*channels), -math.lcm(*channels)):
            jax.tree.map(np.testing.assert_array_equal, turn(params, jnp.int32(shift)), params)
        there_and_back = turn(turn(params, jnp.int32(3)), jnp.int32(-3))
        jax.tree.map(np.testing.assert_array_equal, there_and_back, params)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "cnn" else pytest.mark.long) for name in MODELS]
)
def test_a_narrower_model_computes_what_the_whole_one_does_without_the_other_channels(name):
    """Silence the channels beyond the slice, and the whole model's logits are the slice's."""
    with jax.enable_x64(True):
        module = MODELS[name]
        plan, params = plan_widths(module, IMAGES), draw_params(module, IMAGES.shape[1:], jnp.float64)
        images = jnp.asarray(np.random.default_rng(1).normal(size=IMAGES.shape))
        train = network_of(module, True).train
        narrow = slice_width(params, plan, 0.5)
        # Zeros silence a channel: its kernels, its bias, its norm's scale and bias.
        silenced = pad_width(narrow, plan)
        assert jax.tree.map(jnp.shape, silenced) == jax.tree.map(jnp.shape, params)
        assert count_parameters(narrow) < count_parameters(params) / 2
        logits = [jax.jit(train)(tree, images, None, jax.random.key(0)) for tree in (narrow, silenced)]
        np.testing.assert_allclose(*logits, rtol=1e-9, atol=1e-11)


def test_slicing_keeps_the_leading_channels_of_every_pixel():
    # two pixels of four channels
    plan = {"kernel": (ChannelAxis(2, 4), ChannelAxis(1, 2)), "bias": (ChannelAxis(1, 2),), "classes": (None,)}
    params = {"kernel": jnp.arange(16).reshape(8, 2), "bias": jnp.array([1, 2]), "classes": jnp.array([3, 4, 5])}
    narrow = slice_width(params, plan, 0.5)
    assert narrow["kernel"].tolist() == [[0], [2], [8], [10]]
    assert (narrow["bias"].tolist(), narrow["classes"].tolist()) == ([1], [3, 4, 5])
    wide = pad_width(narrow, plan)
    assert wide["kernel"].tolist() == [[0, 0], [2, 0], [0, 0], [0, 0], [8, 0], [10, 0], [0, 0], [0, 0]]
    turned = roll_width(params, plan, jnp.int32(-3))
    # an axis of four turns by three, an axis of two by one
    assert turned["kernel"].tolist() == [[7, 6], [1, 0], [3, 2], [5, 4], [15, 14], [9, 8], [11, 10], [13, 12]]
    assert (turned["bias"].tolist(), turned["classes"].tolist()) == ([2, 1], [3, 4, 5])


def test_full_width_is_the_model_itself():
    params = {"bias": jnp.ones(3)}
    assert slice_width(params, {"bias": (ChannelAxis(1, 3),)}, 1.0) is params


@pytest.mark.parametrize(
    ("channels", "width", "kept"), [(64, 0.64, 41), (5, 0.5, 3), (7, 0.5, 4), (4, 0.1, 1), (4, 0.01, 1), (4, 0.99, 4)]
)
def test_a_width_keeps_the_nearest_number_of_channels(channels, width, kept):
    assert kept_channels(channels, width) == kept


def test_the_plan_of_a_resnet_names_every_hidden_axis():
    module = ResNet(CLASSES, blocks=(1, 1), width=4)
    plan = plan_widths(module, IMAGES)
    params = named_leaves(jax.eval_shape(module.init, jax.random.key(0), IMAGES)["params"])
    assert plan.keys() == params.keys()
    first, second = ChannelAxis(1, 4), ChannelAxis(1, 8)
    block = "stage_1_block_0"
    assert plan["stem/kernel"] == (None, None, None, first)
    assert plan[f"{block}/conv_0/kernel"] == (None, None, first, second)
    assert plan[f"{block}/shortcut/kernel"] == (None, None, first, second)
    assert plan[f"{block}/norm_1/scale"] == plan[f"{block}/shortcut_norm/bias"] == (second,)
    assert (plan["classifier/kernel"], plan["classifier/bias"]) == ((second, None), (None,))
    assert hidden_layers(plan) == {
        "stem",
        *(f"stage_0_block_0/conv_{index}" for index in range(2)),
        *(f"{block}/{name}" for name in ("conv_0", "conv_1", "shortcut")),
    }


class FlaxConvolution(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return nn.Dense(CLASSES)(nn.Conv(4, (3, 3))(images).mean((1, 2)))


class NoLayer(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return images.mean((1, 2)) + self.param("shift", nn.initializers.zeros_init(), (1, 2))


class Concatenating(nn.Module):
    """The third convolution reads the channels of two layers, one behind the other."""

    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        first = Conv(4)(images)
        both = jnp.concatenate([first, Conv(4)(first)], axis=-1)
        return nn.Dense(CLASSES)(Conv(6)(both).mean((1, 2)))


class ConcatenatingDense(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        first = LowRankDense(8)(images.reshape(images.shape[0], -1))
        return nn.Dense(CLASSES)(jnp.concatenate([first, LowRankDense(4)(first)], axis=-1))


class NormOfFlattened(nn.Module):
    """Its norm has one value for every channel of every pixel."""

    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        flat = Conv(4, strides=(4, 4))(images).reshape(images.shape[0], -1)
        return nn.Dense(CLASSES)(StaticBatchNorm()(flat, mask=mask, train=train))


class NormOfImages(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        images = StaticBatchNorm()(images, mask=mask, train=train)
        return nn.Dense(CLASSES)(LowRankDense(4)(images.reshape(images.shape[0], -1)))


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (FlaxConvolution(), "does not say which axes of Conv_0/bias are hidden channels; fedhm_jax.Conv in place of "),
        (NoLayer(), "it has no convolution or dense layer"),
        (Concatenating(), "the 8 inputs of Conv_2 are not the outputs of one layer"),
        (ConcatenatingDense(), "the 12 inputs of Dense_0 are not the outputs of one layer"),
        (NormOfFlattened(), "does not say which axes of StaticBatchNorm_0/bias are hidden channels"),
        (NormOfImages(), "does not say which axes of StaticBatchNorm_0/bias are hidden channels"),
    ],
)
def test_a_model_whose_channels_cannot_be_told_is_refused(module, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_widths(module, IMAGES)
