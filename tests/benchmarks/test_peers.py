"""The side-by-side benchmark asks every peer for the same work, adds up right, and runs fedhm_jax; needs no peer."""

import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.data import (
    FOLLOWERS,
    MEAN,
    STD,
    SYMBOLS,
    WINDOW,
    client_data,
    client_inputs,
    followers,
    probe_batches,
    standardise,
)
from benchmarks.peers.environments import PEERS, PINS, interpreter
from benchmarks.peers.fedhm_peer import DATA, config_of, probe_loss
from benchmarks.peers.turns import Row, Variant, build_report, quick, run_worker, take_turns, task_of, variants
from benchmarks.peers.worker import Measurement, Meter
from benchmarks.peers.workload import WORKLOADS, Task, Workload
from fedhm_jax import build_model
from fedhm_jax.config.validation import check_config
from fedhm_jax.errors import ConfigError

PYTHONS = {"fedhm_jax": interpreter("fedhm_jax", Path("unused"))}
OURS = Variant("fedhm_jax", "fedhm_jax", at_once=1, threads=1)


def found(seconds, cpu):
    """Output of a worker that timed two rounds of so many seconds and CPU seconds."""
    return Measurement(
        start_up_seconds=3.0,
        rounds=2,
        steps=80,
        wall_seconds=2 * seconds,
        cpu_seconds=2 * cpu,
        peak_mib=100.0,
        loss=0.5,
    )


def test_steps_of_a_round():
    # 100 samples in batches of 20
    assert {name: workload.steps_per_round for name, workload in WORKLOADS.items()} == {
        **{"A": 50, "B": 500, "C": 50},
        **{"H": 60, "HC": 60},
        # 64 windows in batches of 16
        "T": 40,
    }
    assert replace(WORKLOADS["A"], samples=101).steps_per_round == 60


@pytest.mark.parametrize("name", ["H", "HC"])
def test_every_round_has_as_many_clients_of_each_tier(name):
    workload = WORKLOADS[name]
    assert workload.cohort == workload.clients
    tiers = [workload.tier_of(client) for client in range(workload.clients)]
    assert np.bincount(tiers).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "T"])
def test_data_have_the_moments_they_are_standardised_with(name):
    images, labels = client_data(replace(WORKLOADS[name], samples=1000), client=3)
    assert images.dtype == np.uint8
    assert images.mean() / 255 == pytest.approx(MEAN, rel=5e-3)
    assert images.std() / 255 == pytest.approx(STD, rel=5e-3)
    assert standardise(images).dtype == np.float32
    assert set(labels) == set(range(10))


def test_classes_differ_by_more_than_noise():
    images, labels = client_data(replace(WORKLOADS["A"], samples=2000), client=0)
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    # 200 images of deviation 96 / sqrt(12) leave 2 grey levels of noise in a mean; orthogonal waves are 64 apart
    distances = np.sqrt(((means[:, None] - means[None]) ** 2).mean((2, 3, 4)))
    assert distances[~np.eye(10, dtype=bool)].min() > 30


def test_clients_differ_and_are_drawn_again_the_same():
    workload = WORKLOADS["C"]
    first, again, other = (client_data(workload, client)[0] for client in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    images, labels = probe_batches(workload)[0]
    np.testing.assert_array_equal(images, standardise(first[:20]))
    assert labels.shape == (20,)


def test_a_symbol_is_followed_by_one_of_four_that_are_as_likely():
    workload, table = replace(WORKLOADS["T"], samples=2000), followers()
    assert table.shape == (SYMBOLS, FOLLOWERS)
    assert all(sorted(column) == list(range(SYMBOLS)) for column in table.T)
    tokens, following = client_data(workload, client=5)
    # one chain, cut into windows
    np.testing.assert_array_equal(tokens.ravel()[1:], following.ravel()[:-1])
    chosen = table[tokens] == following[..., None]
    assert chosen.any(-1).all()
    # of 128,000 draws a quarter, with a deviation of 155
    where_all_differ = np.array([len(set(row)) == FOLLOWERS for row in table.tolist()])[tokens]
    shares = chosen[where_all_differ].mean(0)
    np.testing.assert_allclose(shares, 1 / 4, atol=0.01)
    np.testing.assert_allclose(np.bincount(tokens.ravel()) / tokens.size, 1 / SYMBOLS, rtol=0.15)


def test_text_is_handed_over_as_the_peers_get_it():
    workload = replace(WORKLOADS["T"], clients=3, samples=20)
    parts = [client_data(workload, client) for client in range(3)]
    text = DATA["decoder"](parts, workload)
    windows = text.train_tokens[text.train_starts[:, None] + np.arange(WINDOW + 1)]
    np.testing.assert_array_equal(windows[:, :-1], np.concatenate([tokens for tokens, _ in parts]))
    np.testing.assert_array_equal(windows[:, 1:], np.concatenate([following for _, following in parts]))
    # tested on the first window of each client
    windows = text.test_tokens[text.test_starts[:, None] + np.arange(WINDOW + 1)]
    np.testing.assert_array_equal(windows[:, :-1], [tokens[0] for tokens, _ in parts])


def test_a_model_that_knows_nothing_has_the_loss_of_a_guess():
    workload = replace(WORKLOADS["T"], clients=1, samples=1, batch_size=1)
    module = build_model("decoder", SYMBOLS)
    shapes = jax.eval_shape(module.init, jax.random.key(0), client_inputs(workload, 0)[0])["params"]
    nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    assert probe_loss(nothing, workload) == pytest.approx(math.log(SYMBOLS), rel=1e-6)


def test_task_survives_the_command_line():
    task = task_of(WORKLOADS["H"], OURS, rounds=10, warm_up=2, cores=2)
    assert Task.from_json(task.to_json()) == task
    # the rule of the rank plan: o / f
    assert task.ranks == ({}, *({"conv/kernel": 32 // f, "dense/kernel": 64 // f} for f in (2, 4, 8)))
    assert task.total_rounds == 12


@pytest.mark.parametrize("name", WORKLOADS)
def test_fedhm_jax_accepts_every_workload(name):
    config = config_of(task_of(WORKLOADS[name], OURS, rounds=10, warm_up=2, cores=2))
    check_config(config)
    assert config.strategy.name == ("fedhm" if name.startswith("H") else "fedavg")
    assert config.local.momentum == config.local.weight_decay == config.local.frobenius_decay == 0


def test_every_peer_takes_part_once_in_every_way():
    ways = variants(2, tuple(PEERS), WORKLOADS["A"])
    assert {way.peer for way in ways} == set(PEERS)
    assert len({way[1:] for way in ways}) == len(ways) == 10
    assert ways[-1].peer == "fedhm_jax"
    assert len(variants(1, tuple(PEERS), WORKLOADS["A"])) == len(PEERS)
    able = [way.peer for way in variants(2, tuple(PEERS), WORKLOADS["H"])]
    assert able == ["torch", "torch", "fedhm_jax", "fedhm_jax"]
    assert [way.peer for way in variants(2, ("fedjax",), WORKLOADS["A"])] == ["fedjax"]
    assert {way.peer for way in variants(2, tuple(PEERS), WORKLOADS["T"])} == {"torch", "pfl", "fedhm_jax"}


def test_tables_hold_medians_and_ratios_turn_by_turn():
    rows = [Row("A", "peer", turn, found(seconds, cpu=4.0)) for turn, seconds in enumerate((2.0, 3.0, 9.0))]
    rows += [Row("A", "fedhm_jax", turn, found(seconds, cpu=1.0)) for turn, seconds in enumerate((1.0, 1.0, 6.0))]
    report = build_report(rows, {"A": WORKLOADS["A"]}, "command")
    (table,) = report.tables
    peer = dict(zip(table.columns, table.rows[0], strict=True))
    assert peer["ms a round"] == "3,000 (2,000..9,000)"
    # ratios of the turns are 2, 3 and 1.5
    assert peer["round / fedhm_jax"] == "2.00 (1.50..3.00)"
    assert peer["CPU s a round"] == "4.00 (4.00..4.00)"
    assert peer["CPU / fedhm_jax"] == "4.00 (4.00..4.00)"
    assert peer["rounds/s"] == "0.333"
    # 80 steps in two rounds of 3 seconds
    assert peer["client steps/s"] == "13"
    # ten clients of 100 images in 3 seconds
    assert peer["images/s"] == "333"
    assert (peer["peak MiB"], peer["start-up s"], peer["loss"]) == ("100", "3.0", "0.500")
    ours = dict(zip(table.columns, table.rows[1], strict=True))
    assert ours["round / fedhm_jax"] == "1.00 (1.00..1.00)"
    assert len(report.measurements) == 6
    assert report.measurements[2]["wall_seconds"] == 18.0
    assert report.measurements[2]["cpu_seconds"] == 8.0


def test_text_is_counted_in_tokens():
    (table,) = build_report([Row("T", "peer", 0, found(2.0, cpu=1.0))], {"T": WORKLOADS["T"]}, "command").tables
    # ten clients of 64 windows of 64 tokens in two seconds
    assert dict(zip(table.columns, table.rows[0], strict=True))["tokens/s"] == "20,480"


def test_a_variant_that_failed_is_left_out_and_named():
    rows = [Row("A", "good", 0, found(1.0, 1.0)), Row("A", "bad", 0, found(1.0, 1.0)), Row("A", "bad", 1, None)]
    report = build_report(rows, {"A": WORKLOADS["A"]}, "command")
    assert [cells[0] for cells in report.tables[0].rows] == ["good"]
    assert report.tables[0].rows[0][2] == "-"
    assert report.notes[-1] == "Failed and left out: A bad."
    with pytest.raises(RuntimeError, match="every worker failed"):
        build_report([rows[-1]], {"A": WORKLOADS["A"]}, "command")


def test_pins_are_exact_for_every_peer_itself():
    names = ("torch", "pfl", "flwr[simulation]", "blazefl", "fedjax")
    for name, module in zip(names, PINS, strict=True):
        assert any(word.startswith(f"{name}==") for call in PINS[module] for word in call)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["setup", "tff"], "peers is 'tff', but must be one or more of torch, pfl, flower, blazefl, fedjax, fedhm_jax"),
        (["run", "--peers", "tff"], "peers is 'tff', but must be one or more of torch, "),
        (["run", "--workloads", "Z"], "workloads is 'Z', but must be one or more of A, B, C, H, HC, T"),
        (["run", "--rounds", "0"], "rounds is 0, but must be an integer of at least 1"),
        (["run", "--peers", "pfl", "--environments", "nowhere"], "pfl is not set up in nowhere: python -m benchmarks"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"benchmarks.peers: {message}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_an_environment_at_other_pins_is_not_used(tmp_path):
    (tmp_path / "pfl").mkdir()
    (tmp_path / "pfl" / "pins.txt").write_text("(('pfl==0.5.0',),)")
    with pytest.raises(ConfigError, match="pfl is not set up"):
        interpreter("pfl", tmp_path)


def test_meter_times_the_rounds_after_warm_up():
    meter = Meter(warm_up=1, rounds=2)
    for seconds in (0.5, 0.05, 0.05):
        time.sleep(seconds)
        meter.round_done()
    assert meter.start_up_seconds > 0.5
    assert 0.1 <= meter.wall_seconds < 0.5
    assert 0 <= meter.cpu_seconds < 0.5
    assert meter.peak_mib > 10


def test_meter_counts_descendants():
    meter = Meter(warm_up=1, rounds=1)
    meter.round_done()
    # a child of a child, alive at the end, works for a second of CPU time
    work = "import time\nwhile time.process_time() < 1: pass\nprint(flush=True); input()"
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        meter.round_done()
        child.communicate(b"\n")
    # the system counts in ticks of a hundredth
    assert 0.95 <= meter.cpu_seconds < 3


@pytest.fixture(scope="module")
def tiny_run():
    workload = Workload("cnn", clients=2, cohort=2, samples=40)
    return list(take_turns({"tiny": workload}, PYTHONS, turns=1, rounds=1, warm_up=1, cores=1, limit=300))


@pytest.mark.long
def test_the_worker_of_fedhm_jax_runs(tiny_run):
    ((workload, variant, turn, measured),) = tiny_run
    assert (workload, variant, turn) == ("tiny", "fedhm_jax", 0)
    assert measured.steps == 4
    assert measured.rounds == 1
    assert 0 < measured.wall_seconds < measured.start_up_seconds
    assert measured.peak_mib > 50
    # two rounds of two steps: somewhere near the loss of a coin of ten sides
    assert 0.1 < measured.loss < 2 * math.log(10)


def test_a_worker_that_fails_says_why(monkeypatch):
    monkeypatch.setitem(PEERS, "missing", "missing_peer")
    task = task_of(quick(WORKLOADS["A"]), OURS, rounds=1, warm_up=1, cores=1)
    with pytest.raises(RuntimeError, match=r"missing failed with exit code 1; its last words: .*No module named"):
        run_worker(PYTHONS["fedhm_jax"], "missing", task, limit=60)


def test_a_worker_that_hangs_is_stopped_with_its_children(tmp_path):
    stuck = tmp_path / "python"
    stuck.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path / 'child'}\nwait\n")
    stuck.chmod(0o755)
    task = task_of(quick(WORKLOADS["A"]), OURS, rounds=1, warm_up=1, cores=1)
    with pytest.raises(RuntimeError, match="torch was stopped, for it did not finish in 1 seconds"):
        run_worker(stuck, "torch", task, limit=1)
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    # a killed process ends when it is next scheduled
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(process):
    """Whether a process, by its folder in /proc, is there and no zombie."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
