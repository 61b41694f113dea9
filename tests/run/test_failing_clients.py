"""Clients that fail count as never sampled, to the bit; they are counted and reported; all failing stops the run."""

import functools
import io
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from support.equality import same_bits
from support.merging import poison, rounds, tampering, two_tiers

from fedhm_jax import (
    CheckpointConfig,
    DataConfig,
    DevicesConfig,
    DivergedError,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.client.update import TrainMetrics
from fedhm_jax.data.client_data import place_clients
from fedhm_jax.reporting.tables import failure_table
from fedhm_jax.results import TierCost
from fedhm_jax.run.checkpoint import checkpoints, read_manifest
from fedhm_jax.run.divergence import check_divergence
from fedhm_jax.run.round_record import training_record
from fedhm_jax.server.acceptance import MergeRule, all_finite
from fedhm_jax.server.client_devices import drop_out
from fedhm_jax.server.cohort import Cohort
from fedhm_jax.strategies import fedavg_low_rank, fedhm, heterofl, splitmix
from fedhm_jax.testing import CLASSES, FULL_TIERS, IMAGE, cohort, farthest

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=20),
    partition=PartitionConfig(clients=6),
    model=ModelConfig(name="mlp", hidden=(16, 8)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=3, participation=1.0),
)
LEFT_OUT, LEFT = (2, 0), cohort((4,), (5, 1))
"""Of `FULL_TIERS`, two clients of either tier that fail, and the cohort without them."""


def accepted_and_rejected(metrics):
    return [(int(tier.clients), int(tier.rejected)) for tier in metrics]


def merged_figures(metrics):
    return [tier._replace(rejected=0) for tier in metrics]


# --- updates that are not finite, or too long ------------------------------------------------------------------------


@functools.cache
def with_nan(build=fedhm):
    """Two clients, one of either tier in `FULL_TIERS`, send NaN."""
    # fedavg_low_rank merges factors as they are
    return rounds(build=tampering(LEFT_OUT, poison(math.nan), build, products=build is not fedavg_low_rank))


@pytest.mark.parametrize(
    "build", [fedhm, *(pytest.param(build, marks=pytest.mark.long) for build in (fedavg_low_rank, heterofl, splitmix))]
)
def test_an_update_that_is_not_finite_counts_as_never_sampled(build):
    failing = with_nan(build)
    after, metrics = failing.play(failing.state, FULL_TIERS)
    without, wanted = failing.play(failing.state, LEFT)
    same_bits(after, without)
    same_bits(merged_figures(metrics), merged_figures(wanted))
    assert accepted_and_rejected(metrics) == [(1, 1), (2, 1)]
    assert accepted_and_rejected(wanted) == [(1, 0), (2, 0)]
    assert farthest(without, failing.state) > 1e-3


@pytest.mark.parametrize("shape", [(1,), (1568, 64)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max])
def test_one_number_tells_whether_all_are_finite(shape, value):
    tree = {"a": jnp.ones(3), "b": jnp.full(shape, -1e38).at[(-1,) * len(shape)].set(value)}
    assert bool(jax.jit(all_finite)(tree)) == np.isfinite(value)


@pytest.mark.long
def test_infinite_updates_in_chunks():
    failing = rounds(build=tampering(LEFT_OUT, poison(-math.inf)), chunk=3)
    after, metrics = failing.play(failing.state, FULL_TIERS)
    assert farthest(after, failing.play(failing.state, LEFT)[0]) < 1e-6
    assert accepted_and_rejected(metrics) == [(1, 1), (2, 1)]


def test_training_that_explodes_is_rejected_by_itself():
    failing = with_nan()
    after, metrics = failing.play(failing.state, FULL_TIERS, rate=1e30)
    same_bits(after, failing.state)
    assert accepted_and_rejected(metrics) == [(0, 2), (0, 3)]
    assert all(float(tier.loss) == 0 and int(tier.samples) == 0 for tier in metrics)


def test_updates_that_are_too_long_count_as_never_sampled():
    build = tampering(LEFT_OUT, lambda before, after: before + 1e4 * (after - before))
    limited = rounds(MergeRule(reject=100.0), build=build)
    after, metrics = limited.play(limited.state, FULL_TIERS)
    same_bits(after, limited.play(limited.state, LEFT)[0])
    assert accepted_and_rejected(metrics) == [(1, 1), (2, 1)]
    assert accepted_and_rejected(limited.play(limited.state, LEFT)[1]) == [(1, 0), (2, 0)]


@pytest.mark.long
def test_a_robust_merge_leaves_them_out_as_well():
    failing = rounds(MergeRule("trimmed_mean", trim=0.4, clip=0.1), build=tampering(LEFT_OUT, poison(math.nan)))
    after, metrics = failing.play(failing.state, FULL_TIERS)
    same_bits(after, failing.play(failing.state, LEFT)[0])
    assert accepted_and_rejected(metrics) == [(1, 1), (2, 1)]


def test_the_old_model_joins_when_the_strongest_tier_fails():
    """FedHM's history term looks at who was merged, not at who was sampled."""
    failing = with_nan()
    after, metrics = failing.play(failing.state, cohort((2,), (5, 1)))
    same_bits(after, failing.play(failing.state, cohort((), (5, 1)))[0])
    assert accepted_and_rejected(metrics) == [(0, 1), (2, 0)]


def test_limits_that_nobody_reaches_change_no_bit_and_one_trace_serves_all():
    plain, limited = with_nan(), rounds(MergeRule(clip=1e6, reject=1e6))
    for sampled in (LEFT, cohort((), (1,)), cohort((1, 3, 4, 5), ()), cohort((), ())):
        same_bits(plain.play(plain.state, sampled), limited.play(limited.state, sampled))
    assert len(plain.traces) == len(limited.traces) == 1


# --- clients without samples, clients that drop out ------------------------------------------------------------------


def test_a_client_without_samples_counts_as_never_sampled():
    images = np.random.default_rng(0).integers(0, 256, (30, *IMAGE)).astype(np.uint8)
    labels = (np.arange(30) % CLASSES).astype(np.int32)
    parts = [np.arange(0), *np.split(np.arange(30), 3), np.arange(0)]
    data = place_clients(images, labels, parts, CLASSES)
    game = rounds(setting=two_tiers(classifier="classifier"))
    after, metrics = game.play(game.state, cohort((1, 0), (2, 4)), data=data)
    same_bits(after, game.play(game.state, cohort((1,), (2,)), data=data)[0])
    assert accepted_and_rejected(metrics) == [(1, 1), (1, 1)]


def test_a_dropout_counts_as_never_sampled():
    sampled = Cohort((np.array([4, 7, 0, 9, 0], np.int32), np.array([2, 11, 0], np.int32)), np.array([4, 2], np.int32))
    seen = set()
    for number in range(60):
        left, failed = drop_out(sampled, 0.5, number, seed=1)
        for ids, count, all_ids, drawn in zip(left.clients, left.counts, sampled.clients, sampled.counts, strict=True):
            survivors = ids[:count].tolist()
            assert survivors == [client for client in all_ids[:drawn].tolist() if client in survivors]
            assert len(ids) == len(all_ids)
            assert not ids[count:].any()
        assert (left.counts + failed).tolist() == [4, 2]
        assert all(ids.dtype == np.int32 for ids in left.clients)
        jax.tree.map(np.testing.assert_array_equal, (left, failed), drop_out(sampled, 0.5, number, seed=1))
        seen.add((*left.clients[0][: left.counts[0]].tolist(), -1, *left.clients[1][: left.counts[1]].tolist()))
    # 2^6 subsets, 60 draws: the mean number of different ones is 64 (1 - (63/64)^60) = 39, its deviation below 4
    assert len(seen) > 20


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.7])
def test_clients_drop_out_as_often_as_they_should(probability):
    everybody = Cohort((np.arange(20_000, dtype=np.int32),), np.array([20_000], np.int32))
    _, failed = drop_out(everybody, probability, 3, seed=5)
    deviation = math.sqrt(20_000 * probability * (1 - probability))
    assert abs(failed[0] - 20_000 * probability) <= 5 * deviation


def test_a_run_with_dropouts():
    result = simulate(replace(SMALL, devices=DevicesConfig(dropout=0.5)))
    strong, weak = result.costs
    for record in result.history:
        for cost in (strong, weak):
            assert record["clients"][cost.tier] + record["dropouts"][cost.tier] == 3
            assert record["bytes_down"][cost.tier] == 3 * cost.bytes_down
            assert record["bytes_up"][cost.tier] == record["clients"][cost.tier] * cost.bytes_up
    assert 0 < sum(sum(record["dropouts"].values()) for record in result.history) < 18


# --- records and reports ---------------------------------------------------------------------------------------------

COSTS = [TierCost("f1", 1.0, "full", 3, 10, 10, 30, 100, 80), TierCost("f4", 4.0, "ranks / 4", 3, 5, 5, 15, 50, 40)]


def sums(clients, rejected, loss=1.0):
    return TrainMetrics(*map(np.asarray, (loss * clients, 4 * clients, clients, rejected)))


def record_of(strong, weak, previous=None, late=(0, 0), failed=(0, 0)):
    counts = np.array(late), np.array(failed)
    return {"round": 7, **training_record((strong, weak), *counts, COSTS, {} if previous is None else previous)}


def test_a_record_counts_everybody_who_was_sampled():
    record = record_of(sums(2, 1), sums(0, 3), late=(1, 0), failed=(0, 2))
    assert record["clients"] == {"f1": 2, "f4": 0}
    assert record["rejected"] == {"f1": 1, "f4": 3}
    assert record["stragglers"] == {"f1": 1, "f4": 0}
    assert record["dropouts"] == {"f1": 0, "f4": 2}
    assert record["train_loss"] == {"f1": 0.25, "f4": None}
    assert record["bytes_down"] == {"f1": 4 * 100, "f4": 5 * 50}
    assert record["bytes_up"] == {"f1": 3 * 80, "f4": 3 * 40}


def test_failed_rounds_are_those_in_a_row_without_an_accepted_update():
    number, record = [], None
    for strong, weak in [(0, 1), (1, 1), (1, 1), (0, 0), (1, 0), (1, 0)]:
        record = record_of(sums(1 - strong, strong), sums(1 - weak, weak), record)
        number.append(record["failed_rounds"])
    assert number == [0, 1, 2, 0, 0, 0]
    # who was sampled and never came back has not diverged
    assert record_of(sums(0, 0), sums(0, 0), record, failed=(3, 3))["failed_rounds"] == 0


def test_a_run_that_diverges_says_where():
    healthy = record_of(sums(1, 2), sums(1, 0))
    check_divergence(healthy)
    failed = record_of(sums(0, 2), sums(0, 0), {"failed_rounds": 1})
    check_divergence(failed)
    with pytest.raises(DivergedError, match=r"round 7, tier f1: for 3 rounds .* rejected.*local\.learning_rate"):
        check_divergence(failed | {"failed_rounds": 3})
    check_divergence(failed | {"failed_rounds": 3}, patience=4)
    for loss in (math.nan, math.inf):
        with pytest.raises(DivergedError, match=rf"round 7, tier f4: the training loss is {loss};.*learning_rate"):
            check_divergence(record_of(sums(1, 0), sums(1, 0, loss)))
    with pytest.raises(DivergedError, match="tiers f1, f4"):
        check_divergence(record_of(sums(1, 0, math.nan), sums(1, 0, math.nan)))


@pytest.mark.long
def test_a_diverging_run_stops_and_keeps_its_checkpoints(tmp_path):
    """Rounds in which every update explodes leave the model as it was; the third such round is the end."""
    local, cadence = replace(SMALL.local, learning_rate=1e30), CheckpointConfig(every=1)
    hopeless = replace(SMALL, local=local, server=ServerConfig(rounds=9), checkpoint=cadence)
    with pytest.raises(DivergedError, match="round 3, tiers f1, f4"):
        simulate(replace(hopeless, output=OutputConfig(tmp_path / "run")))
    assert [read_manifest(place)["round"] for place in checkpoints(tmp_path / "run")] == [1, 2, 3]


def test_the_table_of_failures():
    history = [
        record_of(sums(2, 1), sums(1, 0), late=(0, 2)),
        record_of(sums(0, 3), sums(0, 1), failed=(0, 4)) | {"round": 8},
    ]
    table = failure_table(history)
    assert [list(column.cells) for column in table.columns] == [
        ["f1", "f4"],
        ["2", "1"],
        ["0", "2"],
        ["0", "4"],
        ["4", "1"],
    ]
    text = Console(file=io.StringIO(), width=80)
    text.print(table)
    assert "kept in 1 round without a client: 8" in " ".join(text.file.getvalue().split())
    assert failure_table([record_of(sums(2, 0), sums(1, 0))]) is None
