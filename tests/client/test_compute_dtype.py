"""Clients that compute in bfloat16 keep float32 parameters, and learn the same."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax import LocalConfig, ModelConfig, ServerConfig, SimulationConfig, StrategyConfig, simulate
from fedhm_jax.client.objective import supervised
from fedhm_jax.models.build import build_model
from fedhm_jax.models.network import network_of
from fedhm_jax.tasks import Batch


def gradients(norm, dtype):
    """Gradient of one batch, by computing type."""
    module = build_model("cnn", classes=4, norm=norm)
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (12, 8, 8, 1))
    params = module.init(keys[1], images)["params"]
    batch = Batch(images, jax.random.randint(keys[2], (12,), 0, 4), jnp.ones(12))
    objective = supervised(network_of(module, norm == "batch_static", dtype), masked=True)
    return jax.jit(jax.grad(objective, has_aux=True))(params, batch, jnp.ones(4, bool), keys[2])[0]


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "norm", ["batch_static", *(pytest.param(norm, marks=LONG) for norm in ("none", "group", "batch_test"))]
)
def test_gradients_are_float32_and_close(norm):
    # Flax's group norm mixes types of its own accord.
    with jax.numpy_dtype_promotion("standard" if norm == "group" else "strict"):
        exact, low = gradients(norm, None), gradients(norm, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(low)} == {jnp.dtype(jnp.float32)}
    # bfloat16 keeps 8 bits: a product is off by up to 0.4 %, and a few layers multiply that up to some percent.
    assert np.linalg.norm(flat(exact) - flat(low)) < 0.1 * np.linalg.norm(flat(exact))
    assert (flat(exact) != flat(low)).any()


@pytest.mark.long
def test_small_steps_are_not_lost():
    """Steps too small for bfloat16's 8 bits still move the float32 parameters, as far as float32 steps do."""
    config = SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        model=ModelConfig(name="mlp", hidden=(16,)),
        local=LocalConfig(epochs=1, learning_rate=1e-5, momentum=0.0, weight_decay=0.0, frobenius_decay=0.0),
        server=ServerConfig(rounds=1),
    )
    low = replace(config, local=replace(config.local, compute="bfloat16"))
    start = simulate(replace(config, local=replace(config.local, learning_rate=1e-30))).params
    moved = [simulate(one).params for one in (config, low)]
    steps = [flat(to) - flat(start) for to in moved]
    assert jax.tree.leaves(moved[1])[0].dtype == jnp.float32
    cosine = steps[0] @ steps[1] / np.linalg.norm(steps[0]) / np.linalg.norm(steps[1])
    assert cosine > 0.98
    np.testing.assert_allclose(np.linalg.norm(steps[1]), np.linalg.norm(steps[0]), rtol=0.05)
