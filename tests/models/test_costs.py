"""Costs against hand counts and against the published sizes of the ResNets."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fedhm_jax.layers.depthwise import depthwise_conv2d
from fedhm_jax.layers.lowrank import Conv, LowRankConv
from fedhm_jax.lowrank.decomposition import factorize_tree, with_factors
from fedhm_jax.models.build import build_model
from fedhm_jax.models.costs import count_bytes, count_macs, count_parameters
from fedhm_jax.models.rank_plan import factorizable_kernels, plan_ranks

# model, classes, f, parameters (M), MiB one way, MMAC of one 32 x 32 image
PUBLISHED = [
    ("resnet18", 10, 1, "11.174", "42.6", "555.4"),
    ("resnet18", 10, 2, "4.158", "15.9", "259.7"),
    ("resnet18", 10, 4, "2.210", "8.4", "171.6"),
    ("resnet18", 10, 8, "1.236", "4.7", "127.6"),
    # Counted layer by layer this is 1159.449 (see below), which the published 1159.5 rounds twice.
    ("resnet34", 100, 1, "21.328", "81.4", "1159.4"),
    ("resnet34", 100, 2, "8.401", "32.0", "744"),
    ("resnet34", 100, 4, "4.985", "19.0", "631"),
    ("resnet34", 100, 8, "3.277", "12.5", "574"),
    ("resnet34", 100, 12, "2.708", "10.3", "555"),
]


def rounded(value, like):
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(
    ("name", "classes", "factor", "parameters", "mebibytes", "mega_macs"),
    [pytest.param(*row, marks=() if row[0] == "resnet18" else pytest.mark.long) for row in PUBLISHED],
)
def test_resnets_cost_what_the_paper_says(name, classes, factor, parameters, mebibytes, mega_macs):
    model, image = build_model(name, classes), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    plan = plan_ranks(factorizable_kernels(model, image), factor)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    tier = jax.eval_shape(lambda tree: with_factors(tree, factorize_tree(tree, plan), plan), params)
    macs = count_macs(lambda tree, x: model.apply({"params": tree}, x, train=True), tier, image)
    assert rounded(count_parameters(tier) / 1e6, parameters) == parameters
    assert rounded(count_bytes(tier) / 2**20, mebibytes) == mebibytes
    assert rounded(macs / 1e6, mega_macs) == mega_macs


def test_resnet34_layer_by_layer():
    stem, classifier = 32 * 32 * 27 * 64, 512 * 100
    stages = 6 * 32**2 * 576 * 64
    for side, width, blocks in [(16, 128, 4), (8, 256, 6), (4, 512, 3)]:
        entry, shortcut = side**2 * 9 * width // 2 * width, side**2 * width // 2 * width
        stages += entry + shortcut + (2 * blocks - 1) * side**2 * 9 * width**2
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    model = build_model("resnet34", 100)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    assert (
        count_macs(lambda p, x: model.apply({"params": p}, x, train=True), params, image) == stem + stages + classifier
    )


@pytest.mark.parametrize("method", ["gemm", "canonical", "lax"])
def test_macs_do_not_depend_on_how_a_convolution_is_computed(method):
    images = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    whole = Conv(6, (3, 3), strides=(2, 2), method=method)
    variables = jax.eval_shape(whole.init, jax.random.key(0), images)
    assert count_macs(whole.apply, variables, images) == 2 * 4 * 4 * 9 * 4 * 6
    factorized = LowRankConv(6, (3, 3), strides=(2, 2), rank=3, method=method)
    variables = jax.eval_shape(factorized.init, jax.random.key(0), images)
    # 1 x 3 on all 8 rows and every other column, then 3 x 1 on every other row
    assert count_macs(factorized.apply, variables, images) == 2 * (8 * 4 * 3 * 4 * 3 + 4 * 4 * 3 * 3 * 6)


def test_a_kernel_for_each_channel_counts_its_taps_and_twice_as_many_for_its_gradient():
    images, kernel = jax.ShapeDtypeStruct((2, 8, 7, 4), jnp.float32), jax.ShapeDtypeStruct((3, 3, 1, 4), jnp.float32)
    forward = 2 * 4 * 4 * 4 * 9
    assert count_macs(lambda x, k: depthwise_conv2d(x, k, 2), images, kernel) == forward
    gradient = jax.grad(lambda x, k: depthwise_conv2d(x, k, 2).sum(), (0, 1))
    assert count_macs(gradient, images, kernel) == 3 * forward


def test_products_in_a_function_of_that_name_count_too():
    def depthwise_conv2d(matrix):
        return matrix @ matrix

    assert count_macs(jax.jit(depthwise_conv2d), jax.ShapeDtypeStruct((3, 3), jnp.float32)) == 27


def test_loops_multiply_and_branches_count_their_mean():
    matrix = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    looped = lambda x: lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]  # noqa: E731
    assert count_macs(looped, matrix) == 5 * 27
    branching = lambda x: lax.cond(x[0, 0] > 0, lambda y: y @ y @ y @ y, lambda y: y @ y, x)  # noqa: E731
    assert count_macs(branching, matrix) == (3 + 1) * 27 // 2
    branches = [lambda y: y, lambda y: y @ y @ y, lambda y: y @ y @ y @ y @ y]
    assert count_macs(lambda x: lax.switch(1, branches, x) @ x, matrix) == (0 + 2 + 4) * 27 // 3 + 27
    endless = lambda x: lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y @ y, x)  # noqa: E731
    with pytest.raises(ValueError, match="while loop"):
        count_macs(endless, matrix)


def test_bytes_count_each_dtype():
    tree = {"a": jnp.ones((2, 3), jnp.float32), "b": jnp.ones(5, jnp.bfloat16), "c": jnp.ones(7, jnp.int8)}
    assert count_bytes(tree) == 6 * 4 + 5 * 2 + 7
    assert count_parameters(tree) == 18
