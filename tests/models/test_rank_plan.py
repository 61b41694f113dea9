"""Which kernels are factorized, and the rank rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedhm_jax.layers.lowrank import Conv, LowRankConv, LowRankDense
from fedhm_jax.models.build import build_model
from fedhm_jax.models.rank_plan import factorizable_kernels, plan_ranks, rank_for

IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "factor", "rank"),
    [
        ((3, 3, 64, 64), 2, 32),
        ((3, 3, 64, 128), 2, 64),
        ((3, 3, 256, 512), 12, 43),
        ((3, 3, 16, 16), 64, 1),
        ((3, 3, 64, 64), 1, None),
        ((3, 3, 1, 16), 2, None),  # 8 * (3 + 48) parameters would not be fewer than 144
        ((100, 100), 2, 25),  # 25 * 200 = 100 * 100 / 2
        ((784, 128), 4, 28),
    ],
)
def test_rank_rule(shape, factor, rank):
    assert rank_for(shape, factor) == rank


@pytest.mark.parametrize(("name", "whole"), [("resnet18", 1), ("resnet34", 7), ("resnet8", 0), ("resnet20", 0)])
def test_hybrid_depth_keeps_the_leading_blocks_whole(name, whole):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    model = build_model(name, classes=10)
    kernels = factorizable_kernels(model, images)
    blocks = [f"stage_{stage}_block_{block}" for stage, count in enumerate(model.blocks) for block in range(count)]
    assert list(kernels) == [f"{block}/conv_{conv}/kernel" for block in blocks[whole:] for conv in (0, 1)]
    everything = build_model(name, classes=10, full_rank_blocks=len(blocks))
    assert factorizable_kernels(everything, images) == {}


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8", "vit", "decoder"])
def test_a_factorized_classifier_is_one_kernel_more_of_the_same_model(name):
    inputs = jax.ShapeDtypeStruct((2, 16), jnp.int32) if name == "decoder" else IMAGES
    options = {"hidden": (8,), "width": 8, "depth": 1, "heads": 2, "window": 16}
    whole, low = (build_model(name, classes=20, classifier=kind, **options) for kind in ("whole", "factorized"))
    path, shape = [*factorizable_kernels(low, inputs).items()][-1]
    assert path == "classifier/kernel"
    assert shape[1] == 20
    assert [*factorizable_kernels(low, inputs)][:-1] == [*factorizable_kernels(whole, inputs)]
    first, same = (jax.eval_shape(module.init, jax.random.key(0), inputs) for module in (whole, low))
    assert first == same


def test_a_factorized_classifier_starts_from_the_same_values():
    images = jnp.ones((1, 8, 8, 1))
    whole, low = (build_model("mlp", 5, hidden=(4,), classifier=kind) for kind in ("whole", "factorized"))
    first, same = (module.init(jax.random.key(3), images) for module in (whole, low))
    jax.tree.map(np.testing.assert_array_equal, first, same)
    np.testing.assert_array_equal(whole.apply(first, images), low.apply(first, images))


class Body(nn.Module):
    @nn.compact
    def __call__(self, images):
        return LowRankConv(8, name="second")(nn.relu(LowRankConv(8)(images)))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        hidden = Conv(4, name="stem")(images)
        hidden = Body(name="body")(hidden)
        return nn.Dense(3, name="classifier")(LowRankDense(16)(hidden.mean((1, 2))))


def test_a_users_module_is_planned_by_its_layers():
    kernels = factorizable_kernels(Nested(), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
    assert kernels == {
        "body/LowRankConv_0/kernel": (3, 3, 4, 8),
        "body/second/kernel": (3, 3, 8, 8),
        "LowRankDense_0/kernel": (8, 16),
    }
    assert plan_ranks(kernels, 4.0) == {
        "body/LowRankConv_0/kernel": 2,
        "body/second/kernel": 2,
        "LowRankDense_0/kernel": 1,
    }
