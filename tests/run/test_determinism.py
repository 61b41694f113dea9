"""What docs/determinism.md promises to the bit, and how far apart two ways are that are not promised."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from support.equality import same_bits, same_run, without
from support.merging import rounds

import fedhm_jax.run.host_loop
from fedhm_jax import (
    CheckpointConfig,
    DataConfig,
    DevicesConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    TiersConfig,
    simulate,
    simulate_seeds,
)
from fedhm_jax.config.config_file import config_to_toml
from fedhm_jax.engine.sharding import client_mesh
from fedhm_jax.models.build import build_model
from fedhm_jax.testing import CLASSES, cohort, farthest, setting_for
from fedhm_jax.tree import named_leaves

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(method="dirichlet", clients=6, min_samples=8),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1, 4), assignment="dynamic"),
    local=LocalConfig(epochs=1, batch_size=8, augmentation="crop_flip"),
    server=ServerConfig(rounds=6),
    devices=DevicesConfig(dropout=0.2),
    evaluation=EvaluationConfig(every=6),
)
"""Draws from every stream of random numbers: partition, model, cohorts, tiers, dropouts, batches, augmentation."""

TESTED = ("accuracy", "top5", "loss")


@pytest.fixture(scope="module")
def several_rounds_a_dispatch() -> Iterator[None]:
    """However slow the machine: the first round by itself, then as many as there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedhm_jax.run.host_loop, "DISPATCH_SECONDS", 1e9)
        yield


@pytest.fixture(scope="module")
def expected(several_rounds_a_dispatch: None) -> SimulationResult:
    result = simulate(SMALL)
    assert len(dispatches(result)) == 2
    return result


def dispatches(result: SimulationResult) -> set[float]:
    """The rounds of one dispatch share its time."""
    return {record["seconds"] for record in result.history}


# --- to the bit ------------------------------------------------------------------------------------------------------

RUN = """
import json, sys
from pathlib import Path
import numpy as np
from fedhm_jax import read_config, simulate
from fedhm_jax.tree import named_leaves
result = simulate(read_config(Path(sys.argv[1])))
leaves = {path: np.asarray(leaf).tobytes().hex() for path, leaf in named_leaves(result.params).items()}
print(json.dumps([leaves, result.history]))
"""


@pytest.mark.long
def test_another_process(expected: SimulationResult, tmp_path: Path) -> None:
    """With other hashes of strings, so that the order of a set is another one."""
    config = tmp_path / "config.toml"
    config.write_text(config_to_toml(SMALL))
    finished = subprocess.run(
        [sys.executable, "-c", RUN, str(config)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    leaves, history = json.loads(finished.stdout)
    ours = named_leaves(expected.params)
    assert leaves == {path: np.asarray(leaf).tobytes().hex() for path, leaf in ours.items()}
    assert without(history, "seconds") == without(expected.history, "seconds")


def test_one_round_a_dispatch(expected: SimulationResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedhm_jax.run.host_loop, "MOST_ROUNDS", 1)
    result = simulate(SMALL)
    assert len(dispatches(result)) == SMALL.server.rounds
    same_run(result, expected)


def test_what_is_tested_written_and_shown_does_not_touch_training(
    expected: SimulationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    watched = replace(
        SMALL,
        evaluation=EvaluationConfig(every=4),
        checkpoint=CheckpointConfig(every=2),
        output=OutputConfig(folder=folder, progress=True),
    )
    result = simulate(watched)
    assert capsys.readouterr().out
    assert [record["round"] for record in result.history if "loss" in record] == [4, 6]
    same_bits(result.params, expected.params)
    assert without(result.history, "seconds", *TESTED) == without(expected.history, "seconds", *TESTED)
    assert {name: result.final[name] for name in TESTED} == {name: expected.final[name] for name in TESTED}
    lines = (folder / "records.jsonl").read_text().splitlines()
    assert without(map(json.loads, lines), "seconds") == without(result.history, "seconds")


def test_seeds_in_one_program(expected: SimulationResult) -> None:
    """On a CPU; the seeds' largest clients differ in size."""
    other, result = simulate_seeds(SMALL, (3, SMALL.server.seed))
    same_run(result, expected)
    assert farthest(other.params, result.params) > 1e-2


def test_the_order_of_two_clients() -> None:
    """The sum of two clients' contributions does not depend on their order; that of three may, by rounding."""
    game = rounds()
    same_bits(game.play(game.state, cohort((4, 2), (5, 3))), game.play(game.state, cohort((2, 4), (3, 5))))


def test_a_client_does_the_same_in_any_company() -> None:
    """Its batches follow from the round's key and its own number: what it reports is what it reports alone."""
    game = rounds()
    alone = game.play(game.state, cohort((4,), ()))[1][0]
    same_bits(game.play(game.state, cohort((4,), (5, 3, 1)))[1][0], alone)
    assert farthest(game.play(game.state, cohort((2,), ()))[1][0], alone) > 1e-2


# --- to rounding -----------------------------------------------------------------------------------------------------

STEPS = 3
"""Of the largest client: 12 samples in batches of 4."""

LONGEST_SUM = {"mlp": 8 * 8, "cnn": 4 * 8 * 8}
"""Most terms of one sum: pixels of an image; all places of a batch, in the gradient of a convolution's kernel."""


def rounding(model: str, dtype: Any) -> float:
    """Twice ``steps n u``: two sums of n terms whose sizes add up to about 1, in each of the steps.

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 4.2.
    """
    return 2 * STEPS * LONGEST_SUM[model] * float(np.finfo(dtype).eps)


def global_model(dtype: Any, **settings: Any) -> Any:
    game = rounds(dtype=dtype, **settings)
    return game.strategy.global_model(game.play(game.state, cohort((4, 2, 0), (5, 3, 1)))[0])


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ways_to_share_the_work_differ_by_rounding(dtype: Any) -> None:
    """In double precision the difference shrinks with the unit of rounding; a mistake would stay."""
    with jax.enable_x64(dtype is np.float64):
        alone = global_model(dtype)
        assert farthest(alone, global_model(dtype, mesh=client_mesh(4))) < rounding("mlp", dtype)
        side_by_side = global_model(dtype, chunk=3)
        assert farthest(alone, side_by_side) < rounding("mlp", dtype)
        assert farthest(side_by_side, global_model(dtype, chunk=3, mesh=client_mesh(4))) < rounding("mlp", dtype)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ways_to_compute_convolutions_differ_by_rounding(dtype: Any) -> None:
    def setting(method: str) -> Any:
        return two_tiers_of_cnn._replace(module=build_model("cnn", CLASSES, convolution=method))

    two_tiers_of_cnn = setting_for("cnn", (1.0, 4.0))
    with jax.enable_x64(dtype is np.float64):
        first, *others = (global_model(dtype, setting=setting(method)) for method in ("gemm", "canonical", "lax"))
        for other in others:
            assert farthest(first, other) < rounding("cnn", dtype)
