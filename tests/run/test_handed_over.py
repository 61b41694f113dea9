"""A run that was given parts in Python is taken up with the same parts, or not at all."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support.small_run import SMALL_RUN

from fedhm_jax import (
    CheckpointConfig,
    ConfigError,
    LowRankDense,
    OutputConfig,
    ServerConfig,
    SimulationResult,
    load_dataset,
    load_run,
    read_config,
    simulate,
)
from fedhm_jax.cli import main
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.run.preparation.handed_over import HandedOver, qualified_name
from fedhm_jax.run.traced_program import training_digest
from fedhm_jax.strategies import Setting, Strategy, fedhm

SMALL = replace(SMALL_RUN, server=ServerConfig(rounds=3), checkpoint=CheckpointConfig(every=1))
DATA = load_dataset("digits", train_samples=120, test_samples=50)


class Net(nn.Module):
    """A module of a user's own, its activation a field."""

    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: Any = None, train: bool = False) -> jax.Array:
        hidden = self.activation(LowRankDense(8)(images.reshape(images.shape[0], -1)))
        return nn.Dense(10, name="classifier")(hidden)


def halved(setting: Setting, share: float = 0.5) -> Strategy:
    """FedHM whose server goes only a share of the way."""
    models = fedhm(setting)

    def aggregate(state: Any, contributions: Any, clients: jax.Array) -> Any:
        merged = models.aggregate(state, contributions, clients)
        part = jax.tree.map(lambda old, new: old + share * (new - old), state.params, merged.params)
        return models.init(part, jax.random.key(0))

    return models._replace(aggregate=aggregate)


def slower(setting: Setting) -> Strategy:
    return halved(setting, 0.25)


OWN = {"data": DATA, "model": Net(), "strategy": halved}
NAMES = {"data": "digits", "model": f"{__name__}.Net", "strategy": f"{__name__}.halved"}


class Death(BaseException):
    """The process ends here, and nothing is tidied up."""


def die_after(round: int) -> list[Callable[[Any], None]]:
    def watch(record: Any) -> None:
        if record["round"] == round:
            raise Death

    return [watch]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    return simulate(replace(SMALL, output=OutputConfig(folder=folder)), **OWN)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped in its second round."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Death):
        simulate(replace(SMALL, output=OutputConfig(folder=folder)), **OWN, on_round=die_after(2))
    return folder


def test_the_config_file_names_what_was_handed_over(unbroken: SimulationResult) -> None:
    file = unbroken.folder / "config.toml"
    assert tomllib.loads(file.read_text())["handed_over"] == NAMES
    assert read_config(file) == SMALL


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategy": None}, f"strategy is not given, but must be {NAMES['strategy']}, as when the run began: "),
        ({"model": None}, f"model is not given, but must be {NAMES['model']}, as when the run began: "),
        ({"data": None}, "data is not given, but must be digits, as when the run began: simulate(resume="),
        ({"model": Net(nn.tanh)}, f"model {NAMES['model']} and strategy {NAMES['strategy']} must be the code and opt"),
        ({"strategy": slower}, f"strategy {__name__}.slower must be the code and options that the run began with"),
        ({"data": DATA._replace(train_labels=DATA.train_labels[::-1])}, "the training set must be the same as when"),
    ],
    ids=["no strategy", "no model", "no data", "activation", "strategy", "data"],
)
def test_other_parts_are_refused_in_one_sentence(stopped: Path, changes: dict[str, Any], sentence: str) -> None:
    before = (stopped / "records.jsonl").read_bytes()
    with pytest.raises(ConfigError) as caught:
        simulate(resume=stopped, **(OWN | changes))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (stopped / "records.jsonl").read_bytes() == before


def test_the_right_parts_go_on_to_the_same_bits(unbroken: SimulationResult, stopped: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    again = {"data": DATA._replace(name="mine"), "model": Net(nn.relu), "strategy": lambda setting: halved(setting)}
    result = simulate(resume=folder, **again)
    for one, other in zip(jax.tree.leaves(result.params), jax.tree.leaves(unbroken.params), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert [record["train_loss"] for record in result.history] == [r["train_loss"] for r in unbroken.history]


def test_parts_that_a_run_did_not_begin_with_are_refused(tmp_path: Path) -> None:
    simulate(replace(SMALL, server=ServerConfig(rounds=1), output=OutputConfig(folder=tmp_path / "run")))
    with pytest.raises(ConfigError, match=r"strategy is .*halved, but must not be given, as when the run began"):
        simulate(resume=tmp_path / "run", strategy=halved)
    # data of the same content are the same data
    assert len(simulate(resume=tmp_path / "run", data=DATA).history) == 1


def test_the_command_line_says_what_it_cannot_hand_over(
    stopped: Path, unbroken: SimulationResult, capsys: pytest.CaptureFixture[str]
) -> None:
    file = unbroken.folder / "config.toml"
    assert main(["simulate", "--config", str(file)]) == 2
    told = capsys.readouterr().err
    assert f"data digits, model {NAMES['model']}, strategy {NAMES['strategy']} in Python" in told
    assert "data=..., model=..., strategy=...) runs it again" in told
    assert main(["simulate", "--resume", str(stopped)]) == 2
    assert "data is not given, but must be digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, r"model is not given, .*: load_run\('.*', model=\.\.\., strategy=\.\.\.\)$"),
        ({"model": Net()}, r"strategy is not given"),
        (
            {"model": Net(nn.tanh), "strategy": halved},
            r"model .*Net and strategy .*halved must be the code and options",
        ),
    ],
)
def test_a_run_is_read_back_with_its_parts(unbroken: SimulationResult, parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_run(unbroken.folder, **parts)
    loaded = load_run(unbroken.folder, model=Net(), strategy=halved)
    assert (loaded.predict(DATA.test_images) == unbroken.predict(DATA.test_images)).all()
    assert loaded.tier("f4").strategy == NAMES["strategy"]


DIGESTS = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
import test_handed_over
print(test_handed_over.digest())
"""


def digest(activation: Any = nn.relu, strategy: Any = halved, **changes: Any) -> str:
    parts = check_run(replace(SMALL, **changes), HandedOver(DATA, Net(activation), strategy))
    return training_digest(parts.setting, parts.strategy, parts.learning)


@pytest.mark.long
def test_a_digest_is_the_same_in_every_process_and_another_for_every_change() -> None:
    here = Path(__file__).parent
    code = DIGESTS.format(tests=str(here.parent), here=str(here))
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    mine = digest()
    jax.clear_caches()
    assert mine == digest() == run.stdout.strip()
    table = np.linspace(0, 1, 8, dtype=np.float32)
    others = [
        digest(nn.gelu),
        digest(lambda hidden: hidden * jnp.asarray(table)[None]),
        # the same words, but for what the program closes over
        digest(lambda hidden: hidden * jnp.asarray(table**2)[None]),
        digest(strategy=slower),
        digest(local=replace(SMALL.local, masked_loss=False)),
    ]
    assert len({mine, *others}) == 6


def test_a_name_says_where_a_thing_is_defined() -> None:
    assert qualified_name(slower) == f"{__name__}.slower"
    assert qualified_name(Net) == qualified_name(Net()) == f"{__name__}.Net"
    assert re.fullmatch(r".*\.<lambda>", qualified_name(lambda: None))
