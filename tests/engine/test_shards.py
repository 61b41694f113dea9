"""Samples spread over devices: what a device holds, and that a round and a test are those of replicated samples."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax import (
    AggregationConfig,
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
    simulate_seeds,
    text_from_strings,
)
from fedhm_jax.data import Examples
from fedhm_jax.engine import client_mesh, deal_batches, shard_evaluation
from fedhm_jax.engine.sharding import replicate, spread
from fedhm_jax.run import simulate_alone
from fedhm_jax.run.preparation.assembly import check_run, place_data, prepare
from fedhm_jax.run.resumption import fingerprints_of
from fedhm_jax.testing import farthest

# The config of test_sharding.py, whose compiled rounds of one device serve here as well.
SMALL = SimulationConfig(
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    partition=PartitionConfig(clients=9),
    local=LocalConfig(epochs=1, learning_rate=0.1),
    server=ServerConfig(rounds=2, cohort_size=7, devices=1),
    evaluation=EvaluationConfig(batch_size=50, every=2),
)
ROUNDING = 2e-5
VERSE = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer"


def sharded(config, devices, **server):
    return replace(config, server=replace(config.server, devices=devices, samples="sharded", **server))


@pytest.mark.parametrize("devices", [2, 4])
def test_things_that_devices_hold_are_summed_and_gathered(devices):
    """Against NumPy; of 13 places 11 are used, and one device has none of them."""
    holders = np.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1], np.int32)
    values = np.random.default_rng(0).integers(-50, 50, (13, 3)).astype(np.float32)

    def work(share, values, holders):
        share = share.undivided()
        own = share.held(holders, 11)
        slots = jnp.arange(own.most, dtype=jnp.int32)
        rows = jnp.where((slots < own.count)[:, None], values[jnp.minimum(own.place(slots), 12)], 0)
        return share.total(rows.sum(0, keepdims=True)), own.gather(rows)

    mesh = client_mesh(devices)
    total, gathered = jax.jit(spread(work, mesh, 1))(*replicate((values, holders), mesh))
    assert total.tolist() == values[:11].sum(0).tolist()
    assert gathered.tolist() == [*values[:11].tolist(), [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("devices", [2, 4])
def test_a_batch_finds_its_samples_on_its_device(devices):
    train, test = Examples(np.arange(40), np.arange(40) * 2), Examples(np.arange(100, 123), np.arange(23))
    mesh = client_mesh(devices)
    dealt = deal_batches(test, 23, 4, train_samples=40, statistics_samples=30, seed=0)
    spread_out = shard_evaluation(dealt, train, mesh)

    def work(share, test):
        def looked_up(samples, rows):
            own = jnp.arange(share.most(len(rows)), dtype=jnp.int32)
            mine = samples.inputs[rows[jnp.minimum(share.place(own), len(rows) - 1)]]
            return share.gather(mine, 0, len(rows))

        return looked_up(test.samples, test.rows), looked_up(test.statistics_samples, test.statistics_rows)

    tested, measured = jax.jit(spread(work, mesh))(spread_out)
    assert tested.tolist() == test.inputs[dealt.rows].tolist()
    assert measured.tolist() == train.inputs[dealt.statistics_rows].tolist()


def bytes_of_samples(data, test, device):
    """What one device has of training and test samples."""
    leaves = jax.tree.leaves((data.samples, data.indices, test.samples, test.statistics_samples))
    return sum(
        shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device.id == device.id
    )


def test_a_device_has_its_own_samples_alone():
    """At most an even share and one client more, and its batches of the test."""
    replicated = check_run(replace(SMALL, server=replace(SMALL.server, devices=2)))
    held = [bytes_of_samples(*place_data(replicated), jax.devices()[0])]
    for devices in (2, 4):
        parts = check_run(sharded(SMALL, devices))
        data, test = place_data(parts)
        images, largest = parts.dataset.train_images, int(parts.sampling.sizes.max())
        of_device = [bytes_of_samples(data, test, device) for device in jax.devices()[:devices]]
        even, batches = -(-len(images) // devices), -(-len(test.rows) // devices)
        # A label and an index of four bytes each, and two moments of the images' one channel.
        assert max(of_device) <= (even + largest + 50 * batches) * (images[0].nbytes + 8) + 16
        held.append(max(of_device))
    assert held == sorted(held, reverse=True)
    assert held[0] > 1.5 * held[1] > 2.25 * held[2]


def test_a_run_is_known_by_its_samples_wherever_they_are():
    one, two = (fingerprints_of([prepare(config)])[0]["digests"] for config in (SMALL, sharded(SMALL, 2)))
    assert one == two


@pytest.mark.parametrize("devices", [*(pytest.param(number, marks=pytest.mark.long) for number in (1, 2)), 4])
def test_sharded_samples_train_the_rounds_of_replicated_ones(devices):
    one, other = map(simulate, (SMALL, sharded(SMALL, devices)))
    assert farthest(other.params, one.params) <= (0 if devices == 1 else ROUNDING)
    assert [record["clients"] for record in other.history] == [record["clients"] for record in one.history]
    assert other.final["loss"]["global"] == pytest.approx(one.final["loss"]["global"], abs=ROUNDING)


MEDIAN = replace(SMALL, strategy=StrategyConfig("fedhm"), aggregation=AggregationConfig(merge="median"))
DYNAMIC = replace(SMALL, tiers=replace(SMALL.tiers, assignment="dynamic"))
NORMS = replace(
    SMALL,
    model=ModelConfig(name="cnn", norm="batch_static"),
    evaluation=EvaluationConfig(batch_size=60, every=2, statistics_samples=300),
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("spread_out", "one"),
    [
        (sharded(SMALL, 2, clients_per_chunk=2), SMALL),
        *((sharded(config, 3), config) for config in (MEDIAN, DYNAMIC, NORMS)),
    ],
    ids=["side by side", "median", "dynamic tiers", "static norms"],
)
def test_whatever_is_trained_it_is_the_same(spread_out, one):
    one, other = map(simulate, (one, spread_out))
    assert farthest(other.params, one.params) < ROUNDING
    for name in one.final["loss"]:
        assert other.final["loss"][name] == pytest.approx(one.final["loss"][name], abs=1e-4)
        assert other.models[name].predict(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)


@pytest.mark.long
def test_a_text_is_spread_by_the_tokens_of_the_windows():
    text = text_from_strings({str(speaker): VERSE * (1 + speaker) for speaker in range(5)}, window=8, test_share=0.25)
    model = ModelConfig(name="decoder", width=8, depth=1, heads=2)
    config = replace(
        SMALL,
        model=model,
        partition=PartitionConfig(method="natural", min_samples=1),
        local=replace(SMALL.local, batch_size=4),
        server=ServerConfig(rounds=2, cohort_size=4, devices=1),
    )
    one, other = (simulate(config, data=text) for config in (config, sharded(config, 3)))
    assert farthest(other.params, one.params) < ROUNDING


@pytest.mark.long
def test_seeds_of_sharded_samples_run_one_after_another():
    first, second = simulate_seeds(sharded(SMALL, 2), (0, 1))
    assert farthest(first.params, simulate(sharded(SMALL, 2)).params) == 0
    assert farthest(second.params, first.params) > ROUNDING


def test_clients_that_train_alone_need_all_samples():
    with pytest.raises(ConfigError, match=r"server\.samples is 'sharded', but must be 'replicated' for clients that"):
        simulate_alone([sharded(SMALL, 2)])
