"""Costs of narrower models, and the widths that meet a budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.models.budgets import forward_macs, model_cost, solve_width
from fedhm_jax.models.build import build_model
from fedhm_jax.models.network import network_of
from fedhm_jax.models.width_plan import plan_widths, slice_width

IMAGES = jax.ShapeDtypeStruct((7, 4, 5, 3), jnp.float32)


def narrow_cnn(width):
    module = build_model("cnn", classes=10)
    params = jax.eval_shape(module.init, jax.random.key(0), IMAGES)["params"]
    plan = plan_widths(module, IMAGES)
    return network_of(module, False), jax.eval_shape(lambda tree: slice_width(tree, plan, width), params)


# An image of 4 x 5 is 2 x 2 after one pooling and 1 x 1 after two.
@pytest.mark.parametrize(("width", "channels"), [(1.0, (16, 32, 64)), (0.25, (4, 8, 16)), (0.1, (2, 3, 6))])
def test_every_unit_equals_a_hand_count(width, channels):
    stem, conv, dense = channels
    products = 9 * 3 * stem, 9 * stem * conv, 1 * conv * dense, dense * 10
    parameters = sum(products) + stem + conv + dense + 10
    macs = 4 * 5 * products[0] + 2 * 2 * products[1] + products[2] + products[3]
    network, params = narrow_cnn(width)
    assert model_cost(network, params, IMAGES, "parameters") == parameters
    assert model_cost(network, params, IMAGES, "bytes") == 4 * parameters
    assert model_cost(network, params, IMAGES, "macs") == forward_macs(network, params, IMAGES) == macs


def test_bytes_follow_the_dtype():
    network, params = narrow_cnn(1.0)
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), params)
    assert 2 * model_cost(network, half, IMAGES, "bytes") == model_cost(network, params, IMAGES, "bytes")
    assert model_cost(network, half, IMAGES, "parameters") == model_cost(network, params, IMAGES, "parameters")


def staircase(width):
    """An MLP's cost: it climbs in steps, at other widths for each of its layers."""
    one, other = (max(int(width * channels + 0.5), 1) for channels in (13, 7))
    return 20 * one + one * other + other * 3


ALL_WIDTHS = [step / 10_000 for step in range(1, 10_001)]


@pytest.mark.parametrize("target", [*np.random.default_rng(0).integers(100, 372, 12).tolist(), 24, 371])
def test_the_solved_width_is_the_nearest_of_all(target):
    nearest = min(abs(staircase(width) - target) for width in ALL_WIDTHS)
    width = solve_width(staircase, target)
    assert abs(staircase(width) - target) == nearest
    assert 0 < width <= 1
    assert width == round(width, 4)


def test_a_budget_of_the_full_model_or_more_is_full_width():
    assert solve_width(staircase, 372) == solve_width(staircase, 10**9) == 1.0
    assert solve_width(staircase, 371) < 1.0


def test_a_budget_that_no_width_meets_within_15_percent_is_refused():
    # One channel a layer costs 20 + 1 + 3 = 24, of which 15 % either way is 3.6: 20.9 to 28.2 can be met by it.
    with pytest.raises(ValueError, match="the nearest width costs 24"):
        solve_width(staircase, 20)
    assert staircase(solve_width(staircase, 21)) == staircase(solve_width(staircase, 28)) == 24
    # Two widths, of cost 100 and 200: 150 is 50 away from both.
    with pytest.raises(ValueError, match="the nearest width costs"):
        solve_width(lambda width: 100 if width < 0.5 else 200, 150)
    assert solve_width(lambda width: 100 if width < 0.5 else 200, 115) < 0.5
