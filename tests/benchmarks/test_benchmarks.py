"""The benchmarks run, compare like with like, and compute what their tables say."""

import csv
import math
from importlib import util

import jax
import jax.numpy as jnp
import pytest

from benchmarks import round_time, server_step
from benchmarks.__main__ import commands_of, names_of
from benchmarks.report import RESULTS, Report, ResultTable, write
from benchmarks.round_time import RoundTime
from benchmarks.server_step import ServerTime
from benchmarks.timing import Timing, time_in_turn

pytestmark = pytest.mark.usefixtures("quick_compilation")


def all_positive(timings):
    return all(value > 0 and math.isfinite(value) for timing in timings for value in timing.values)


@pytest.fixture(scope="module")
def rounds():
    return list(round_time.measure(round_time.QUICK_CASES, repetitions=1))


@pytest.mark.long
def test_every_round_is_timed_in_every_way(rounds):
    assert [(row.model, row.tier, row.clients) for row in rounds] == [("block8", "f1", 2), ("block8", "f4", 2)]
    for row in rounds:
        assert set(row.timings) == {"sequential lax", "sequential gemm", "batched loop", "batched vmap"}
        assert all_positive(row.timings.values())
        assert all(seconds > 0 for seconds in row.compile_seconds.values())


@pytest.mark.long
def test_batched_and_sequential_rounds_train_the_same_model(rounds):
    # relative to the update; rounding alone, in float32
    assert all(row.difference < 1e-4 for row in rounds)


def test_difference_is_relative_to_the_update_and_stops_the_benchmark():
    received = {"w": jnp.array([1.0, 1.0])}
    # two clients moved the sum by (3, 4), length 5
    results = [{"w": jnp.array([5.0, 6.0])}, {"w": jnp.array([5.0, 6.01])}, {"w": jnp.array([5.02, 6.0])}]
    assert round_time.largest_difference(results, received, clients=2) == pytest.approx(0.02 / 5, rel=1e-3)
    with pytest.raises(RuntimeError, match=r"difference of the results is 0\.2, but must be below"):
        round_time.largest_difference([*results, {"w": jnp.array([5.0, 7.0])}], received, clients=2)


def test_ratio_is_to_the_faster_sequential_way_and_one_client_has_no_vmap():
    timings = {
        "sequential lax": Timing((4.0, 6.0, 4.0)),
        "sequential gemm": Timing((3.0, 8.0, 5.0)),
        "batched loop": Timing((2.0, 3.0, 6.0)),
    }
    row = RoundTime("cnn", "f1", 1, dict.fromkeys(timings, 0.5), timings, 1e-6)
    assert row.ratio("batched loop").values == (0.5, 0.5, 1.5)

    report = round_time.build_report([row], "command")
    times = dict(zip(report.tables[0].columns, report.tables[0].rows[0], strict=True))
    assert times["sequential lax"] == "4,000 (4,000..6,000)"
    assert times["loop / sequential"] == "0.500 (0.500..1.50)"
    assert times["batched vmap"] == times["vmap / sequential"] == "-"
    assert len(report.measurements) == 9


@pytest.mark.long
def test_every_part_of_the_server_step_is_timed():
    rows = list(server_step.measure(server_step.QUICK_WORKLOADS, repetitions=1))
    (row,) = rows
    assert set(row.contribute) == set(row.step) == {"f1", "f2", "f4", "f8"}
    assert all_positive(
        (row.decomposition, row.distribute, row.aggregate, *row.contribute.values(), *row.step.values())
    )
    measured, extrapolated = server_step.build_report(rows, "command").tables
    assert len(measured.rows) == 11
    assert [cells[2] for cells in extrapolated.rows] == ["1", "10"]


def test_share_of_the_server():
    tiers = ("f1", "f2", "f4", "f8")
    row = ServerTime(
        model="m",
        batch_size=64,
        decomposition=Timing((100.0,)),
        distribute=Timing((1.0,)),
        contribute=dict.fromkeys(tiers, Timing((0.5,))),
        aggregate=Timing((4.0,)),
        step=dict.fromkeys(tiers, Timing((0.1,))),
    )
    # ten clients: 1 + 4 + 10 * 0.5, the decomposition being a part of the 4; 40 steps of 0.1 each
    assert row.server_seconds == pytest.approx(10)
    assert row.training_seconds(epochs=1) == pytest.approx(40)
    assert row.share(epochs=1) == pytest.approx(0.2)
    assert row.share(epochs=10) == pytest.approx(10 / 410)


def test_timings_alternate_and_leave_warm_up_out():
    order = []
    timings = time_in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 3, at_least=0)
    assert "".join(order) == "ab" * 5
    assert all(len(timing.values) == 3 for timing in timings.values())


def test_results_go_to_files_of_their_own(tmp_path):
    other = tmp_path / "other-cpu.md"
    other.write_text("kept")
    for value in (1, 2):
        table = ResultTable("Title", ("name", "value"), [("a", str(value))])
        path = write(Report("script", "the command", [table], ["A note."], [{"name": "a", "value": value}]), tmp_path)
    text = path.read_text()
    assert "| name | value |\n| --- | ---: |\n| a | 2 |" in text
    assert "the command" in text
    assert jax.__version__ in text
    with path.with_suffix(".csv").open() as file:
        assert list(csv.DictReader(file)) == [{"name": "a", "value": "2"}]
    assert other.read_text() == "kept"


def test_all_results_say_how_to_measure_them_again():
    old, new = (names_of(RESULTS, version, "AMD EPYC") for version in ("0.10.2", "0.12.0.1"))
    assert {"scale", "soak", "peers", "start_up", "amd/peers"} <= set(old)
    assert new == ["jax-0.12-amd/peers"]
    commands = commands_of(RESULTS, [*old, *new])
    assert all(util.find_spec(command[1]) is not None for command in commands.values())
    assert commands["jax-0.12-amd/peers"][-1] == "benchmarks/results/jax-0.12-amd"
    assert commands_of(RESULTS, ("soak",)) == {"soak": ["-m", "benchmarks.soak"]}
    with pytest.raises(SystemExit, match="no results of nothing"):
        commands_of(RESULTS, ("soak", "nothing"))
