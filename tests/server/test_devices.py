"""Simulated time against hand numbers, and clients that miss the deadline against clients that were never sampled."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedhm_jax import (
    DataConfig,
    DevicesConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.client.update import Assignment, LocalTraining, build_local_update, train_client
from fedhm_jax.data.client_data import client_by_id, place_clients
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.server.client_devices import DeviceProfile, client_seconds, drop_stragglers, samples_trained
from fedhm_jax.server.cohort import Cohort

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=20),
    partition=PartitionConfig(clients=6),
    model=ModelConfig(name="mlp", hidden=(16, 8)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(epochs=3, batch_size=8),
    server=ServerConfig(rounds=2, participation=1.0),
)


def test_a_round_by_hand():
    profile = DeviceProfile(flops=3e9, download=4e6, upload=1e6, latency=0.25)
    found = client_seconds(profile, bytes_down=8e6, bytes_up=5e5, train_macs=1e6, samples=np.array([0, 500, 2000]))
    # 0.5 s of latency, 2 s down, 0.5 s up, and 6e6 FLOP a sample: 2 ms each
    np.testing.assert_allclose(found, [3.0, 4.0, 7.0], rtol=1e-12)


@pytest.mark.parametrize("steps", [None, 1, 2, 3, 4, 7, 11])
@pytest.mark.parametrize("epochs", [1, 3])
def test_samples_trained_equals_a_loop_over_batches(steps, epochs):
    sizes, batch_size = np.array([1, 3, 4, 5, 8, 11]), 4
    wanted = []
    for size in sizes:
        batches = [min(batch_size, size - start) for start in range(0, size, batch_size)]
        in_order = batches * 20
        wanted.append(sum(in_order[: epochs * len(batches) if steps is None else steps]))
    assert samples_trained(sizes, batch_size, epochs, steps).tolist() == wanted


@pytest.mark.parametrize("steps", [None, 1, 5])
def test_samples_trained_is_what_a_client_reports(steps):
    sizes = (3, 4, 9)
    images = np.zeros((sum(sizes), 1, 1, 1), np.uint8)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    data = place_clients(images, np.zeros(len(images), np.int64), parts, classes=2)
    training = LocalTraining(optax.sgd, batch_size=4, epochs=2, steps=steps)

    def objective(params, batch, owned, key):
        return params.sum(), batch.mask.sum()

    train = jax.jit(partial(train_client, build_local_update(objective, training, max(sizes))))
    clients = [client_by_id(data, jnp.int32(i), jnp.bool_(True)) for i in range(len(sizes))]
    assignments = [Assignment(jnp.zeros(1), client, data, 0.1, jax.random.key(0)) for client in clients]
    reported = [int(train(assignment).samples) for assignment in assignments]
    assert reported == samples_trained(np.array(sizes), 4, 2, steps).tolist()


@pytest.mark.parametrize("deadline", [0.0, 2.0, 3.5, 5.0, 100.0, None])
def test_a_straggler_counts_as_never_sampled(deadline):
    generator = np.random.default_rng(0)
    seconds = generator.integers(1, 7, size=(3, 12)).astype(float)
    sampled = ([4, 7, 0, 9], [2, 11], [])
    places = (5, 2, 3)

    def cohort_of(tiers):
        padded = tuple(
            np.array([*ids, *[0] * (size - len(ids))], np.int32) for ids, size in zip(tiers, places, strict=True)
        )
        return Cohort(padded, np.array([len(ids) for ids in tiers], np.int32))

    in_time, took = [], []
    for tier, ids in enumerate(sampled):
        in_time.append([client for client in ids if deadline is None or seconds[tier, client] <= deadline])
        took += [seconds[tier, client] for client in ids]
    kept, missed, round_seconds = drop_stragglers(cohort_of(sampled), seconds, deadline)
    jax.tree.map(np.testing.assert_array_equal, kept, cohort_of(in_time))
    assert missed.tolist() == [len(ids) - len(some) for ids, some in zip(sampled, in_time, strict=True)]
    assert round_seconds == (max(took) if deadline is None else min(max(took), deadline))
    assert all(ids.dtype == np.int32 for ids in kept.clients)


def test_a_round_without_clients_takes_no_time():
    nobody = Cohort((np.zeros(2, np.int32),), np.zeros(1, np.int32))
    assert drop_stragglers(nobody, np.ones((1, 4)), 5.0)[2] == 0


def test_every_tier_has_its_device():
    devices = DevicesConfig(flops=(1e9, 1e8), download=(1e6,), upload=(5e5, 1e5), latency=(0.0, 0.5))
    seconds = check_run(replace(SMALL, devices=devices)).client_seconds
    # 64-16-8-10, and at f = 4 ranks of 64 x 16 / (4 x 80) = 3 and 16 x 8 / (4 x 24) = 1
    macs = 64 * 16 + 16 * 8 + 8 * 10, 3 * (64 + 16) + 1 * (16 + 8) + 8 * 10
    sent = [4 * (products + 16 + 8 + 10) for products in macs]
    samples = 3 * 20
    assert seconds.shape == (2, 6)
    strong = sent[0] / 1e6 + 6 * macs[0] * samples / 1e9 + sent[0] / 5e5
    weak = 2 * 0.5 + sent[1] / 1e6 + 6 * macs[1] * samples / 1e8 + sent[1] / 1e5
    np.testing.assert_allclose(seconds, np.repeat([[strong], [weak]], 6, axis=1), rtol=1e-12)


def test_a_deadline_that_only_the_weak_meet():
    """The strong are sent the model and bring nothing back; the round ends with the deadline."""
    slow_tier = DevicesConfig(latency=(2.0, 0.0), deadline=3.0)
    result = simulate(replace(SMALL, devices=slow_tier))
    strong, weak = result.costs
    for number, record in enumerate(result.history, start=1):
        assert (record["clients"], record["stragglers"]) == ({"f1": 0, "f4": 3}, {"f1": 3, "f4": 0})
        assert record["bytes_down"] == {"f1": 3 * strong.bytes_down, "f4": 3 * weak.bytes_down}
        assert record["bytes_up"] == {"f1": 0, "f4": 3 * weak.bytes_up}
        assert (record["simulated_seconds"], record["total_simulated_seconds"]) == (3.0, 3.0 * number)


@pytest.mark.long
def test_without_anybody_in_time_the_model_stays():
    devices = DevicesConfig(deadline=1e-6)
    one, two = (
        simulate(replace(SMALL, devices=devices, server=replace(SMALL.server, rounds=rounds))) for rounds in (1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    assert two.history[1]["train_loss"] == {"f1": None, "f4": None}
