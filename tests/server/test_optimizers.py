"""Server optimizers against algorithm 2 of their paper, number by number."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.server_twin import Server

from fedhm_jax.server.optimizers import ServerOptimizer, server_optimizer

SETTINGS = {"momentum": 0.8, "second_moment": 0.9, "epsilon": 0.05}


@pytest.mark.parametrize("name", get_args(ServerOptimizer))
def test_steps_equal_the_paper(name):
    generator = np.random.default_rng(0)
    shapes = {"kernel": (3, 4), "bias": (4,), "scalar": ()}
    first = {path: generator.normal(size=shape) for path, shape in shapes.items()}
    twin = Server(name, first, rate=0.3, **SETTINGS)
    with jax.enable_x64(True):
        optimizer = server_optimizer(name, 0.3, **SETTINGS)
        params = jax.tree.map(jnp.asarray, first)
        state = optimizer.init(params)
        for scale in (1.0, 0.1, 0.0, 3.0):
            merged = {path: params[path] + scale * generator.normal(size=shape) for path, shape in shapes.items()}
            wanted = twin.step({path: np.asarray(leaf) for path, leaf in merged.items()})
            gradient = jax.tree.map(jnp.subtract, params, merged)
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            for path, leaf in wanted.items():
                np.testing.assert_allclose(np.asarray(params[path]), leaf, rtol=1e-12, atol=1e-14, err_msg=path)


@pytest.mark.parametrize("name", ["adam", "yogi", "adagrad"])
def test_a_single_large_change_is_followed_by_about_one_rate(name):
    """m = D, v = D^2 up to tau: for one change far above tau, beta = 0, the step is the rate, whatever D is."""
    optimizer = server_optimizer(name, 0.01, momentum=0.0, second_moment=0.0, epsilon=1e-3)
    change = {"w": jnp.array([100.0, -1e4, 0.0])}
    updates, _ = optimizer.update(change, optimizer.init(change), change)
    np.testing.assert_allclose(updates["w"], [-0.01, 0.01, 0.0], rtol=2e-5)
