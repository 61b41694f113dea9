"""Clients that train alone, from config to record."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from fedhm_jax import (
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutOfMemoryError,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
    simulate,
)
from fedhm_jax.run import HandedOver, local_only, simulate_alone
from fedhm_jax.run.preparation.assembly import prepare

generator = np.random.default_rng(0)
DATA = dataset_from_arrays(
    generator.random((60, 4, 4)), np.arange(60) % 4, generator.random((24, 4, 4)), np.arange(24) % 3, classes=4
)
LISTS = [list(range(0, 26)), list(range(20, 33)), list(range(33, 60))]
CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig("mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0), counts=(1, 2)),
    partition=PartitionConfig("given", clients=3),
    local=LocalConfig(epochs=2, batch_size=4, schedule="cosine", learning_rate=0.1),
    server=ServerConfig(rounds=3, participation=1.0),
    evaluation=EvaluationConfig(worst_client=True, every=3, batch_size=10),
)
GIVEN = HandedOver(DATA, partition=LISTS)
FULL = TiersConfig(rank_factors=(1.0,))


@pytest.fixture(scope="module")
def record() -> Any:
    return simulate_alone([CONFIG], GIVEN)[0].history[-1]


def same(one: Any, other: Any) -> bool:
    """All but wall times and what was asked for."""
    free = ("seconds", "clients_per_chunk")
    left, right = ({name: value for name, value in each.items() if name not in free} for each in (one, other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), left, right)
    return True


def test_a_client_alone_is_a_federation_of_one() -> None:
    """With the first client's key and one full tier, FedAvg merges what this client has trained, and nothing else."""
    one = replace(CONFIG, tiers=FULL, partition=PartitionConfig("given", clients=1))
    given = GIVEN._replace(partition=LISTS[:1])
    alone = simulate_alone([one], given)[0].history[-1]
    fedavg = replace(one, strategy=StrategyConfig("fedavg"))
    merged = simulate(fedavg, data=DATA, partition=LISTS[:1]).history[-1]
    for name in ("accuracy", "top5", "loss", "train_loss"):
        np.testing.assert_allclose(alone[name]["f1"], merged[name]["f1"], rtol=1e-4, err_msg=name)
    for name in ("worst_client", "total_macs", "macs", "learning_rate", "round", "clients"):
        assert alone[name] == merged[name], name


def test_a_tiers_accuracy_is_the_mean_over_its_clients(record: Any) -> None:
    assert record["clients"] == {"f1": 1, "f4": 2}
    assert record["accuracy"]["f4"] * 48 == pytest.approx(round(record["accuracy"]["f4"] * 48))
    assert record["total_macs"] == 3 * sum(record["macs"].values())
    assert record["total_simulated_seconds"] == 3 * record["simulated_seconds"]


@pytest.mark.long
def test_seeds_share_a_program_and_are_what_they_are_alone(record: Any) -> None:
    other = replace(CONFIG, server=replace(CONFIG.server, seed=1))
    together = simulate_alone([other, CONFIG], GIVEN)
    assert same(together[1].history[-1], record)
    assert together[0].history[-1]["loss"] != record["loss"]


@pytest.mark.long
def test_clients_side_by_side_do_not_notice(record: Any) -> None:
    side_by_side = replace(CONFIG, server=replace(CONFIG.server, clients_per_chunk=2))
    assert same(simulate_alone([side_by_side], GIVEN)[0].history[-1], record)


def test_a_tier_without_clients_is_left_out(record: Any) -> None:
    weak = replace(CONFIG, tiers=replace(CONFIG.tiers, counts=(0, 3)))
    result = simulate_alone([weak], GIVEN)[0]
    assert [cost.tier for cost in result.costs] == ["f4"]
    assert set(result.history[-1]["accuracy"]) == set(result.history[-1]["macs"]) == {"f4"}


@pytest.mark.parametrize(("asked", "tried"), [(None, [4, 2, 1]), (4, [4])])
def test_without_room_fewer_train_side_by_side(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, tried: list[int]
) -> None:
    seen: list[int] = []

    def train_tier(run: Any, *_: Any) -> Any:
        seen.append(run.clients_per_chunk)
        if run.clients_per_chunk > 1:
            raise MemoryError
        return SimpleNamespace()

    monkeypatch.setattr(local_only, "_train_tier", train_tier)
    asking = replace(CONFIG, tiers=FULL, server=replace(CONFIG.server, clients_per_chunk=asked))
    run = prepare(asking, GIVEN)._replace(clients_per_chunk=4)
    notices: list[str] = []
    if asked is None:
        assert local_only._train(run, [None], [0.1], notices.append)[0].clients_per_chunk == 1
        assert notices[0] == "ran out of memory with 4 clients side by side; trying 2"
    else:
        with pytest.raises(OutOfMemoryError, match="clients_per_chunk = 2"):
            local_only._train(run, [None], [0.1], notices.append)
    assert seen == tried
