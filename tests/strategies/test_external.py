"""Strategies by file and name: loaded, run and resumed, or refused in one sentence."""

import os
from dataclasses import replace

import pytest

from fedhm_jax import (
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    simulate,
)
from fedhm_jax.cli import main
from fedhm_jax.config import AggregationConfig, check_config
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.strategies import fedavg, load_builder

MINE = """
import dataclasses
from flax import linen as nn
from fedhm_jax.strategies import fedavg

with open({log!r}, "a") as file:
    file.write("loaded ")

@dataclasses.dataclass
class Options:
    size: str = "mine"

class Module(nn.Module):
    pass

def build(setting):
    return fedavg(setting)._replace(sizes=(Options().size,) * len(setting.rank_factors))

def _private(setting):
    return 3

def wrong(setting):
    return {{"a": 1}}

def two(setting, other):
    return None

constant = 3
"""
CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=40),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=1),
)


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(log=str(tmp_path / "log")))
    return path


def named(builder):
    return replace(CONFIG, strategy=StrategyConfig("fedhm", builder=builder))


def test_a_config_names_a_strategy_by_file_and_name(mine, tmp_path):
    for _ in range(2):
        costs = check_run(named(f"{mine}:build")).plan.costs
        assert {cost.size for cost in costs} == {"mine"}
    assert (tmp_path / "log").read_text() == "loaded "
    mine.write_text(mine.read_text().replace('"mine"', '"anew"'))
    assert {cost.size for cost in check_run(named(f"{mine}:build")).plan.costs} == {"anew"}


@pytest.mark.long
def test_the_command_line_takes_it_and_goes_on_with_it(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "--model.name mlp --model.hidden 8 --local.epochs 1 --server.rounds 1 --output.no-progress"
    assert main(["simulate", "--strategy.builder", "mine.py:build", *flags.split()]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("build-digits-")
    assert "mine" in capsys.readouterr().out
    assert main(["simulate", "--resume", str(folder), "--server.rounds", "2"]) == 0
    assert len((folder / "records.jsonl").read_text().splitlines()) == 2
    os.remove(mine)
    assert main(["simulate", "--resume", str(folder), "--server.rounds", "3"]) == 2
    assert capsys.readouterr().err == (
        "fedhm: error: strategy.builder is 'mine.py:build', but must be a Python file that can be read, and a name in "
        "it (No such file or directory)\n"
    )


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("constant", "a file and a function in it; of functions there are build, two, wrong"),
        ("missing", "a file and a function in it; of functions there are build, two, wrong"),
        ("two", "a function of a Setting alone (missing a required argument: 'other')"),
        ("wrong", "a function that returns a Strategy; this one returned a dict"),
    ],
)
def test_what_is_no_builder_is_refused(mine, name, allowed):
    with pytest.raises(ConfigError) as caught:
        simulate(named(f"{mine}:{name}"))
    assert str(caught.value) == f"strategy.builder is '{mine}:{name}', but must be {allowed}"


def test_a_file_that_fails_is_refused_and_may_be_mended(tmp_path):
    (tmp_path / "bad.py").write_text("def build(setting):\n    pass\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"a file that Python can run \(ZeroDivisionError: division by zero\)$"):
        load_builder("bad.py:build", "strategies.mine.builder", tmp_path)
    (tmp_path / "bad.py").write_text("from fedhm_jax.strategies import fedhm as build\n")
    assert load_builder("bad.py:build", "strategies.mine.builder", tmp_path) is not None


@pytest.mark.parametrize(
    "name", ["mine", "mine.py", "mine.txt:build", ":build", "mine.py:", "mine.py:a.b", "mine.py:1"]
)
def test_another_form_is_refused_before_anything_is_loaded(name):
    with pytest.raises(ConfigError, match=r"must be a Python file and a name in it, such as 'mine\.py:build'$"):
        check_config(named(name))


def test_there_is_one_strategy_and_privacy_does_not_trust_it(mine):
    with pytest.raises(ConfigError, match=r"must be unset where a strategy is handed over$"):
        simulate(named(f"{mine}:build"), strategy=fedavg)
    private = replace(
        named(f"{mine}:build"),
        strategy=StrategyConfig("fedhm", builder=f"{mine}:build", classifier_rows="all", history=False),
        aggregation=AggregationConfig(clip=1.0),
        privacy=PrivacyConfig(noise_multiplier=1.0),
    )
    with pytest.raises(ConfigError, match="unset with a strategy that is handed over"):
        check_run(private)
