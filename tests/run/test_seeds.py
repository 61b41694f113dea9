"""Several seeds as one program against the same seeds one by one."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from fedhm_jax import (
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
    simulate_seeds,
)
from fedhm_jax.data.client_data import place_clients
from fedhm_jax.run.seeds import can_share_a_program
from fedhm_jax.run.simulation import simulate_together
from fedhm_jax.testing import farthest

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(method="dirichlet", clients=6, min_samples=8),
    model=ModelConfig(name="mlp", hidden=(16, 8)),
    tiers=TiersConfig(rank_factors=(1, 2)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=2),
)


# Of FedHM, run/test_determinism.py asks for the bits.
@pytest.mark.long
@pytest.mark.parametrize("strategy", ["fedhm", "splitmix"])
def test_each_seed_is_the_run_it_would_be_alone(strategy):
    config = replace(SMALL, strategy=StrategyConfig(name=strategy))
    together = simulate_seeds(config, (5, 7))
    for seed, result in zip((5, 7), together, strict=True):
        alone = simulate(replace(config, server=replace(config.server, seed=seed)))
        assert result.config.server.seed == seed
        assert farthest(result.params, alone.params) < 1e-6
        for one, other in zip(result.history, alone.history, strict=True):
            assert one["clients"] == other["clients"]
            assert one["total_bytes_up"] == other["total_bytes_up"]
            assert one["loss"]["global"] == pytest.approx(other["loss"]["global"], rel=1e-5)
    assert farthest(together[0].params, together[1].params) > 1e-2


@pytest.mark.long
def test_runs_of_unequal_learning_rate_share_a_program():
    rates = (0.01, 0.1)
    configs = [replace(SMALL, local=replace(SMALL.local, learning_rate=rate)) for rate in rates]
    together = simulate_together(configs)
    for config, result in zip(configs, together, strict=True):
        assert result.history[0]["learning_rate"] == config.local.learning_rate
        assert farthest(result.params, simulate(config).params) < 1e-6


@pytest.mark.long
def test_batching_gives_the_same_results_as_one_by_one(monkeypatch):
    results = {}
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        # lax convolutions and chunks are the GPU's defaults; an MLP needs neither, and chunks do not change results.
        results[backend] = simulate_seeds(replace(SMALL, server=replace(SMALL.server, clients_per_chunk=1)), (5, 7))
    for one, other in zip(results["cpu"], results["gpu"], strict=True):
        assert farthest(one.params, other.params) < 1e-5


@pytest.mark.long
def test_partitions_of_unequal_shape_run_one_after_another(monkeypatch):
    monkeypatch.setattr("fedhm_jax.run.simulation.can_share_a_program", lambda data: len(data) == 1)
    apart = simulate_seeds(SMALL, (5, 7))
    monkeypatch.undo()
    for one, other in zip(apart, simulate_seeds(SMALL, (5, 7)), strict=True):
        assert farthest(one.params, other.params) < 1e-6


def test_shapes_decide_who_shares_a_program():
    images, labels = np.zeros((6, 2, 2, 1), np.uint8), np.array([0, 1, 0, 1, 0, 1])
    parts = ([np.arange(3), np.arange(3, 6)], [np.arange(2), np.arange(2, 6)], [np.arange(2), np.arange(2, 5)])
    two_and_four, three_and_three, five = (place_clients(images, labels, part, classes=2) for part in parts)
    assert can_share_a_program([two_and_four, three_and_three])
    assert not can_share_a_program([two_and_four, five])


@pytest.mark.parametrize(("seeds", "folders"), [((), None), ((1, 1), None), ((1, 2), ["one"])])
def test_bad_seeds_are_refused(seeds, folders):
    with pytest.raises(ConfigError, match=r"(seeds|folders) is"):
        simulate_seeds(SMALL, seeds, folders=folders)
