"""A run that diverges stops with one sentence; runs of a comparison go on."""

import re
from dataclasses import replace

import pytest

from fedhm_jax import (
    LocalConfig,
    ModelConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
    simulate_seeds,
)
from fedhm_jax.cli import main
from fedhm_jax.config.schema import OutputConfig
from fedhm_jax.errors import DivergedError
from fedhm_jax.run.checkpoint import checkpoints

HOPELESS = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(epochs=1, learning_rate=1e30),
    server=ServerConfig(rounds=40),
)


@pytest.mark.long
def test_python_raises_and_keeps_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"diverged in round \d+, tiers? f1.*a lower local.learning_rate may help"):
        simulate(replace(HOPELESS, output=OutputConfig(folder=folder)))
    assert checkpoints(folder)


def test_the_command_line_answers_in_one_sentence(tmp_path, capsys):
    flags = ["--model.name", "mlp", "--model.hidden", "8", "--tiers.rank-factors", "1", "4"]
    flags += ["--local.epochs", "1", "--local.learning-rate", "1e30"]
    code = main(["simulate", *flags, "--output.folder", str(tmp_path / "run"), "--output.no-progress"])
    assert code == 1
    error = capsys.readouterr().err
    assert re.match(r"fedhm: error: diverged in round \d+, tiers? f1.*a lower local.learning_rate may help", error)
    assert len(error.splitlines()) == 1
    assert checkpoints(tmp_path / "run")


@pytest.mark.long
def test_runs_of_one_program_do_not_stop_each_other():
    results = simulate_seeds(replace(HOPELESS, server=ServerConfig(rounds=5)), seeds=(0, 1))
    assert [len(result.history) for result in results] == [5, 5]
