"""Studies whose clients and first parameters are handed over."""

import re
import shutil
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from fedhm_jax import (
    ConfigError,
    LocalConfig,
    ModelConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    Study,
    TiersConfig,
    Variant,
    compare,
    dataset_from_arrays,
    load_run,
    read_study,
    simulate_seeds,
)
from fedhm_jax.comparison.handed_over import keep, refuse_others
from fedhm_jax.models import build_model
from fedhm_jax.run import HandedOver

CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig("mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    local=LocalConfig(epochs=1, batch_size=4),
    server=ServerConfig(rounds=1, participation=1.0),
)
STUDY = Study(
    "Handed over",
    ("centralised", Variant("still", {"strategy.name": "fedavg", "local.learning_rate": 1e-12}), "local_only"),
    (0,),
    {"mine": CONFIG},
    learning_rates=(0.01, 0.1),
    tuning_samples=10,
    reference="still",
)
LISTS = [range(0, 20), list(range(16, 30)), np.arange(30, 50)]
"""Ten of the sixty samples are nobody's, four are of two clients."""


def tiny():
    images, labels = np.random.default_rng(0).random((80, 4, 4)), np.arange(80) % 3
    return dataset_from_arrays(images[:60], labels[:60], images[60:], labels[60:])


@cache
def parameters(seed):
    module = build_model("mlp", classes=3, hidden=(8,))
    return jax.jit(module.init)(jax.random.key(seed), np.zeros((1, 4, 4, 1), np.float32))["params"]


def run(study=STUDY, folder=None, **changes):
    return compare(study, folder, **{"data": tiny(), "partition": LISTS, "init": parameters(3), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(folder=tmp_path_factory.mktemp("handed_over") / "study")


def last(result, strategy):
    (found,) = [run for run in result.runs if run.strategy == strategy]
    return found.history[-1]


@pytest.mark.long
def test_every_run_starts_from_the_parameters(finished):
    still = load_run(finished.folder / "runs/mine/still/seed-0").params
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-7), still, parameters(3))


@pytest.mark.long
def test_clients_hold_their_lists_in_every_strategy(finished):
    macs = 16 * 8 + 8 * 3
    assert last(finished, "still")["total_macs"] == (20 + 14 + 20) * macs
    assert sum(last(finished, "local_only")["clients"].values()) == 3
    # as many samples as the clients train on, in batches of four of the fifty that anybody holds
    assert last(finished, "centralised")["total_macs"] == (12 * 4 + 2 + 4) * macs
    assert {run.config.partition.method for run in finished.runs} == {"given"}


@pytest.mark.long
def test_what_is_held_out_is_in_no_list(finished):
    """Trial runs: ten of sixty samples are held out, and the clients train on what is left of theirs."""
    (text,) = (finished.folder / "trials/mine/local_only/learning-rate-0.1/costs.csv").read_text().splitlines()[1:2]
    kept = set(np.random.default_rng(0).permutation(60)[10:].tolist())
    trained = sum(len(kept & set(part)) for part in map(list, LISTS))
    trial = load_run(finished.folder / "trials/mine/centralised/learning-rate-0.1")
    assert trial.config.local.steps == -(-trained // 4)
    assert text.startswith("f1,1.0")


@pytest.mark.long
def test_the_same_goes_on_and_finds_nothing_to_do(finished, monkeypatch):
    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_together", None)
    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_alone", None)
    assert run(folder=finished.folder) == finished
    # the study in the folder is the same with the lists
    assert run(read_study(finished.folder / "study.toml"), finished.folder).runs == finished.runs


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"init": None}, "init is not given, but must be what it was when the study in"),
        ({"init": parameters(4)}, "init is another, but must be what it was when the study in"),
        ({"partition": None}, "partition is not given, but must be what it was when the study in"),
        ({"partition": LISTS[::-1]}, "partition is another, but must be what it was when the study in"),
        ({"partition": LISTS[:2]}, "partition is another, but must be what it was when the study in"),
    ],
)
def test_others_are_refused_in_a_sentence_that_says_what_to_pass(finished, changes, sentence):
    before = (finished.folder / "report.md").read_bytes()
    with pytest.raises(ConfigError) as refused:
        run(folder=finished.folder, **changes)
    assert str(refused.value).startswith(sentence)
    assert str(refused.value).endswith("began: compare(..., data=..., partition=..., init=...), or another folder")
    assert (finished.folder / "report.md").read_bytes() == before


@pytest.mark.long
def test_a_study_that_began_without_does_not_go_on_with(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "copy")
    (tmp_path / "copy/handed_over.json").unlink()
    with pytest.raises(ConfigError, match=r"^data is given, but must be left out, as when the study in .* began"):
        run(folder=tmp_path / "copy")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"partition": [[0, "a"]]}, "mine, centralised: learning rates: partition[0] holds values of type <U"),
        ({"partition": 3}, "partition is of type int, but must be a list with the sample indices of each client"),
        ({"partition": [range(61)]}, "mine, centralised: learning rates: partition[0] holds the index 60, but must"),
        ({"init": {"a": np.zeros(3)}}, "mine, centralised: learning rates: init has"),
        ({"init": "global"}, "mine, centralised: learning rates: init is 'str', but must be a tree of parameters"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, monkeypatch, changes, sentence):
    parameters(3)  # which `run` would compile
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("compiled before the check"))
    with pytest.raises(ConfigError) as refused:
        run(folder=tmp_path / "study", **{"init": None, **changes})
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "study").exists()


@pytest.mark.long
def test_a_variant_deals_for_itself_or_keeps_the_lists(tmp_path):
    own = Variant("own", {"strategy.name": "fedavg", "partition.method": "iid", "partition.clients": 4})
    study = replace(STUDY, strategies=(own,), learning_rates=(), reference=None)
    assert last(run(study, tmp_path / "own"), "own")["total_macs"] == 60 * (16 * 8 + 8 * 3)
    more = replace(own, changes={"strategy.name": "fedavg", "partition.clients": 4})
    with pytest.raises(ConfigError, match=r"^mine, own: partition.clients is 4, but must be unset or 3, the number of"):
        run(replace(study, strategies=(more,)), tmp_path / "more")
    assert not (tmp_path / "more").exists()


@pytest.mark.long
def test_all_seeds_start_from_the_parameters():
    still = replace(CONFIG, local=LocalConfig(epochs=1, batch_size=4, learning_rate=1e-12))
    first = parameters(5)
    for result in simulate_seeds(still, (0, 1), data=tiny(), partition=LISTS, init=first, strategy=None):
        kernel = result.params["classifier"]["kernel"]
        np.testing.assert_allclose(kernel, first["classifier"]["kernel"], atol=1e-6)
    with pytest.raises(ConfigError, match=r"^init has nothing at classifier/bias"):
        simulate_seeds(still, (0, 1), data=tiny(), partition=LISTS, init={"dense_0": first["dense_0"]})


def test_other_data_and_another_model_are_refused(tmp_path):
    module = build_model("mlp", classes=3, hidden=(8,))
    keep(tmp_path, HandedOver(data=tiny(), model=module))
    refuse_others(tmp_path, HandedOver(data=tiny(), model=build_model("mlp", classes=3, hidden=(8,))))
    inverted = tiny()._replace(train_images=255 - tiny().train_images)
    for changes, sentence in (
        ({"data": inverted}, "data is another, but must be what it was when the study in .* began: compare"),
        ({"model": build_model("mlp", classes=3, hidden=(9,))}, "model is another, but must be what it was"),
        ({"data": 5}, "data is another, but must be what it was"),
        ({"data": tiny()._replace(train_clients=np.arange(60))}, "data is another, but must be what it was"),
        ({"model": None}, r"model is not given, but must be .*compare\(\.\.\., data=\.\.\., model=\.\.\.\)"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            refuse_others(tmp_path, HandedOver(**{"data": tiny(), "model": module, **changes}))


def test_a_model_is_the_same_in_every_process(tmp_path, monkeypatch):
    """Where its functions lie in memory is not part of it."""

    class Net(nn.Module):
        activation: Any = partial(nn.leaky_relu, negative_slope=0.1)

    keep(tmp_path, HandedOver(model=Net()))
    elsewhere = re.sub(" at 0x[0-9a-f]+", " at 0x123abc", repr(Net()))
    assert elsewhere != repr(Net())
    monkeypatch.setattr(Net, "__repr__", lambda self: elsewhere)
    refuse_others(tmp_path, HandedOver(model=Net()))
