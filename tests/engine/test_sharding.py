"""A round spread over four devices is the round of one device."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax import (
    ConfigError,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.engine.share import CLIENTS, Share
from fedhm_jax.engine.sharding import client_mesh, on_one_device, replicate, spread
from fedhm_jax.strategies import STRATEGIES
from fedhm_jax.tree import named_leaves

SMALL = SimulationConfig(
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    partition=PartitionConfig(clients=9),
    local=LocalConfig(epochs=1, learning_rate=0.1),
    server=ServerConfig(rounds=2, cohort_size=7, devices=1),
    evaluation=EvaluationConfig(batch_size=50, every=2),
)


def run(config, devices, **server):
    return simulate(replace(config, server=replace(config.server, devices=devices, **server)))


def assert_same(one, other, tolerance):
    """Parameters, training sums and test figures of two runs."""
    before, after = named_leaves(one.params), named_leaves(other.params)
    for path, leaf in before.items():
        np.testing.assert_allclose(after[path], leaf, rtol=0, atol=tolerance, err_msg=path)
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("train_loss", "loss", "accuracy"):
            if name in mine:
                np.testing.assert_allclose(_numbers(theirs[name]), _numbers(mine[name]), atol=1e-3, err_msg=name)


def _numbers(value):
    """Figures of a record; a tier that nobody trained has none."""
    return [np.nan if one is None else one for one in (value.values() if isinstance(value, dict) else [value])]


def test_every_thing_belongs_to_one_device():
    things = np.arange(1, 12)
    shares = [Share(index, 4) for index in range(4)]
    held = [np.asarray(share.of(jnp.asarray(things)))[: share.count(len(things))] for share in shares]
    assert sorted(np.concatenate(held).tolist()) == things.tolist()
    assert max(map(len, held)) - min(map(len, held)) <= 1


@pytest.mark.parametrize("total", range(10))
def test_counts_of_a_traced_length(total):
    counts = [int(Share(jnp.int32(index), 4).count(jnp.int32(total))) for index in range(4)]
    assert counts == [len(range(index, total, 4)) for index in range(4)]


@pytest.mark.parametrize("cohort_size", [1, 7])
def test_four_devices_train_the_round_of_one(cohort_size):
    """Also where the cohort is smaller than the mesh, and where no tier's clients divide evenly."""
    assert_same(run(SMALL, 1, cohort_size=cohort_size), run(SMALL, 4, cohort_size=cohort_size), 2e-5)


# The one whose state is unlike the others' quickly, all of them in the long tests.
EVERY = [pytest.param(name, marks=() if name == "splitmix" else pytest.mark.long) for name in sorted(STRATEGIES)]


@pytest.mark.parametrize("name", EVERY)
def test_every_strategy_can_be_spread(name):
    config = replace(SMALL, strategy=StrategyConfig(name=name))
    assert_same(run(config, 1), run(config, 3), 2e-5)


@pytest.mark.long
def test_static_statistics_are_measured_by_all_devices():
    config = replace(SMALL, model=ModelConfig(name="cnn", norm="batch_static"))
    config = replace(config, evaluation=EvaluationConfig(batch_size=60, every=2, statistics_samples=300))
    assert_same(run(config, 1), run(config, 4), 1e-4)


def test_gradients_stay_with_their_client():
    """Each device differentiates by a replicated weight; nobody else's loss may enter."""
    mesh = client_mesh(4)
    slopes = jnp.arange(1.0, 5.0)

    def own_gradient(share, weight, slopes):
        slope = share.of(slopes)[0]
        gradient = jax.grad(lambda w: w * slope)(weight)
        return share.sum(jnp.where(share.index == 2, gradient, 0))

    weight, slopes = replicate((jnp.float32(1), slopes), mesh)
    assert float(jax.jit(spread(own_gradient, mesh))(weight, slopes)) == 3


def test_replicated_keys_are_the_same_keys():
    mesh = client_mesh(2)
    key = jax.random.key(7)
    copy = replicate({"key": key}, mesh)["key"]
    assert copy.sharding.is_fully_replicated
    assert mesh.axis_names == (CLIENTS,)
    assert jax.random.key_data(copy).tolist() == jax.random.key_data(key).tolist()


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match=r"server.devices is 5, but must be at most 4"):
        run(SMALL, 5)


def test_one_device_updates_the_state_for_all():
    mesh = client_mesh(4)
    counted = []

    def update(state, step):
        jax.debug.callback(lambda: counted.append(1))
        return {"w": state["w"] * 2 + step, "rounds": state["rounds"] + 1}

    state = replicate({"w": jnp.array([1.5, -2.0]), "rounds": jnp.int32(3)}, mesh)
    updated = jax.block_until_ready(jax.jit(on_one_device(update, mesh))(state, jnp.float32(0.25)))
    jax.effects_barrier()
    assert updated["w"].tolist() == [3.25, -3.75]
    assert int(updated["rounds"]) == 4
    assert len(counted) == 1


def test_odd_ends_of_several_lists_spread_over_the_devices():
    """Three tiers of one client each, on two devices: nobody gets all three."""
    held = [0, 0]
    for index in range(2):
        for before in range(3):
            held[index] += int(Share(index, 2).after(before).count(1))
    assert sorted(held) == [1, 2]
