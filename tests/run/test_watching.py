"""Callbacks that end a run, or fail: what is left is whole, and the run goes on from there to the same bits."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from support.equality import same_bits

from fedhm_jax import (
    CallbackError,
    ConfigError,
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StopSimulation,
    StrategyConfig,
    TiersConfig,
    simulate,
    simulate_seeds,
)
from fedhm_jax.run.checkpoint import checkpoints, read_checkpoint

CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=40),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 2)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=5),
    evaluation=EvaluationConfig(every=5),
)


def in_folder(folder):
    return replace(CONFIG, output=OutputConfig(folder=folder))


def raising(error, round=1):
    def callback(record):
        if record["round"] == round:
            raise error

    return callback


@pytest.fixture(scope="module")
def unbroken():
    return simulate(CONFIG)


def check_left(folder, rounds):
    """A checkpoint of so many rounds that can be read."""
    newest = read_checkpoint(checkpoints(folder)[-1])
    assert newest.round == len(newest.history) == rounds


def check_goes_on(folder, unbroken):
    result = simulate(resume=folder)
    same_bits(result.params, unbroken.params)
    assert [record["round"] for record in result.history] == [1, 2, 3, 4, 5]
    assert result.final == unbroken.final


def test_a_run_that_is_stopped_is_whole_and_goes_on(unbroken, tmp_path):
    told = []
    result = simulate(in_folder(tmp_path / "run"), on_round=[raising(StopSimulation), told.append])
    assert [record["round"] for record in result.history] == [1]
    assert [record["round"] for record in told] == [1], "the others are told of the round too"
    assert "accuracy" not in result.history[-1]
    assert set(result.final["accuracy"]) == {"global", "f1", "f2"}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rounds"], summary["final"]) == (1, json.loads(json.dumps(result.final)))
    assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 1
    check_left(tmp_path / "run", 1)
    check_goes_on(tmp_path / "run", unbroken)


@pytest.mark.long
def test_what_is_tested_after_the_stop_is_the_model_of_its_last_round(unbroken):
    stopped = simulate(CONFIG, on_round=[raising(StopSimulation, 5)])
    assert stopped.final == unbroken.final
    short = simulate(replace(CONFIG, server=ServerConfig(rounds=1)))
    stopped = simulate(CONFIG, on_round=[raising(StopSimulation, 1)])
    assert stopped.final == short.final


@pytest.mark.long
def test_a_callback_that_fails_is_named_and_the_run_goes_on(unbroken, tmp_path):
    with pytest.raises(CallbackError) as caught:
        simulate(in_folder(tmp_path / "run"), on_round=[partial(raising(ValueError("no\nroom"), 2))])
    assert str(caught.value) == (
        "the callback raising.<locals>.callback of test_watching raised ValueError in round 2: no room"
    )
    assert isinstance(caught.value.__cause__, ValueError)
    rounds = read_checkpoint(checkpoints(tmp_path / "run")[-1]).round
    assert 2 <= rounds < 5
    check_left(tmp_path / "run", rounds)
    check_goes_on(tmp_path / "run", unbroken)


def test_before_the_first_round_nothing_can_be_stopped(tmp_path):
    def stop(plan):
        raise StopSimulation

    def fail(plan):
        raise OSError("offline")

    with pytest.raises(ConfigError, match="on_start must not raise StopSimulation"):
        simulate(CONFIG, on_start=[stop])
    with pytest.raises(CallbackError, match=r"fail of test_watching raised OSError before the first round: offline$"):
        simulate(CONFIG, on_start=[fail])


@pytest.mark.long
def test_seeds_that_run_together_end_together():
    results = simulate_seeds(CONFIG, (0, 1), on_round=[raising(StopSimulation)])
    assert [len(result.history) for result in results] == [1, 1]
    one, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(result.params)]) for result in results)
    assert (one != other).any()
    assert all(set(result.final["accuracy"]) == {"global", "f1", "f2"} for result in results)


def test_the_command_line_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    from fedhm_jax.cli import main

    folder = tmp_path / "run"

    def simulate(config, resume: Path | None = None):
        (folder / "checkpoints").mkdir(parents=True)
        raise CallbackError.of("board", "in round 3", OSError("offline"))

    monkeypatch.setattr("fedhm_jax.run.simulate", simulate)
    assert main(["simulate", "--output.folder", str(folder)]) == 1
    assert capsys.readouterr().err == (
        "fedhm: error: the callback board raised OSError in round 3: offline; "
        f"to go on: fedhm simulate --resume {folder}\n"
    )
