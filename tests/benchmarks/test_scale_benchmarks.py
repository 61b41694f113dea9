"""The benchmarks of utilisation, scale and unequal clients compute what their tables say."""

import numpy as np
import pytest

from benchmarks import ragged, scale, sharding, utilisation
from benchmarks.ragged import Case, in_chunks, in_lanes
from benchmarks.scale import Measured, Point
from benchmarks.scale_figure import scale_figure
from benchmarks.timing import Timing
from benchmarks.utilisation import Scale, Utilisation
from benchmarks.workload import initial_params, training_macs
from fedhm_jax import DataConfig, ModelConfig, PartitionConfig, ServerConfig, SimulationConfig, TiersConfig
from fedhm_jax.run.preparation.assembly import check_run


def test_utilisation_is_the_ratio_of_two_rates():
    # 6 FLOP in 2 s against 8 FLOP in 1 s: 3 / 8
    row = Utilisation("mlp", "f1", "float32", 6.0, Timing((2.0, 4.0)), 8.0, Timing((1.0, 2.0)))
    assert row.share.values == (0.375, 0.375)
    report = utilisation.build_report([row], Scale(2, 1, 64), "command")
    assert report.tables[0].rows[0][-1].startswith("0.375")
    assert [one["seconds"] for one in report.measurements] == [2.0, 4.0]


def test_training_step_counts_three_products_a_layer():
    """Forward, and both gradients; the first layer's input needs none. MLP 16 -> 128 -> 128 -> 10, batch 4."""
    workload = utilisation.QUICK_WORKLOADS["mlp"]
    first, rest = 16 * 128, 128 * 128 + 128 * 10
    assert training_macs(workload, initial_params(workload)) == 4 * (2 * first + 3 * rest)


@pytest.mark.long
def test_quick_utilisation_runs():
    rows = list(utilisation.measure(utilisation.QUICK_WORKLOADS, ("bfloat16",), Scale(2, 1, 32), 1))
    assert [row.tier for row in rows] == ["f1", "f2", "f4", "f8"]
    assert all(row.share.median > 0 for row in rows)
    assert rows[0].flops > rows[1].flops > rows[2].flops > rows[3].flops


def test_work_is_even_as_far_as_clients_divide():
    """Eight clients of twenty samples, all in every round: of three devices one has three of them, 9 / 8 of a share."""
    parts = check_run(
        SimulationConfig(
            data=DataConfig(train_samples=160),
            partition=PartitionConfig(clients=8),
            model=ModelConfig("mlp"),
            tiers=TiersConfig(rank_factors=(1.0,)),
            server=ServerConfig(participation=1.0),
        )
    )
    found = [sharding.largest_shares(parts, devices, 2) for devices in (1, 3, 4)]
    assert found == [(1, 1), (1.125, 1.125), (1, 1)]


def test_lanes_wait_less_than_chunks():
    steps = np.array([9, 8, 2, 1, 1])
    assert in_chunks(steps, 1) == steps.sum()
    assert in_chunks(steps, 2) == 2 * (9 + 2 + 1)
    assert in_chunks(steps, 5) == 5 * 9
    assert in_lanes(steps, 2) == 2 * 11
    assert in_lanes(steps, 1) == steps.sum()
    assert in_lanes(steps, 5) == 5 * 9


def test_padding_of_equal_clients_is_none_and_order_helps():
    case = Case(alpha=0.1, clients=40, cohort=20, lanes=4, samples=800)
    even = ragged.padding(case, np.full(40, 60), batch_size=20)
    assert even == (1.0, 1.0, 1.0, 1.0)
    sizes = np.array([len(part) for part in ragged.deal(case)])
    uneven = ragged.padding(case, sizes, batch_size=20)
    assert sizes.sum() == case.samples
    assert 1 < uneven.batches < uneven.total < uneven.unsorted
    assert uneven.total < uneven.chunks


@pytest.mark.long
def test_unequal_clients_are_timed_per_sample():
    case = Case(alpha=0.5, clients=4, cohort=2, lanes=1, samples=80)
    workload = ragged.WORKLOAD._replace(batch_size=4)
    assert all(timing.median > 0 for timing in ragged.measure(case, workload, repetitions=1))


@pytest.mark.long
def test_scale_point_runs_and_its_report_divides():
    found = scale.run(Point("rounds", registered=6, cohort=3, rounds=10, model="mlp"))
    assert found.data == pytest.approx(6 * 10 * 28 * 28 / 2**20)
    assert found.peak > 0.9 * found.memory_first > 0
    assert found.first > 0
    hand = Measured(1.0, 0.2, 0.1, 0.15, 0.3, 10.0, 11.0, 12.0, 5.0)
    report = scale.build_report([(Point("cohort", 100, 20, 5), hand), (Point("rounds", 10, 5, 10), hand)], "command")
    cohort, _, long, _ = report.tables
    assert cohort.rows == [("100", "20", "100", "200", "1.0", "5", "12")]
    assert long.rows[0][3] == "0.50"


@pytest.mark.long
def test_a_failing_point_says_why():
    with pytest.raises(RuntimeError, match=r"model.name is 'nothing'"):
        scale.run_apart(Point("cohort", 6, 3, 2, model="nothing"))


def test_the_figure_shows_every_point_of_both_curves():
    points = [Point("cohort", 100, cohort, 5) for cohort in (10, 20)] + [Point("registered", 50, 10, 5)]
    measured = [scale.Measured(1.0, 0.5, 0.5, 0.5, 0.4, 10.0, 10.0, peak, 3.0) for peak in (100.0, 110.0, 90.0)]
    memory, registered, speed, _ = scale_figure([*zip(points, measured, strict=True)]).axes
    assert memory.lines[0].get_xydata().tolist() == [[10, 100], [20, 110]]
    assert memory.lines[1].get_xydata().tolist() == [[10, 3], [20, 3]]
    assert speed.lines[0].get_xydata().tolist() == [[10, 20], [20, 40]]
    assert registered.lines[0].get_xydata().tolist() == [[50, 90]]
