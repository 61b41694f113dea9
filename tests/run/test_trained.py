"""A finished run's models predict what its evaluation saw, from memory, from its folder, and in NumPy alone."""

import gc
import json
import pickle
import re
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from safetensors import safe_open

from fedhm_jax import (
    ConfigError,
    DataConfig,
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
    load_dataset,
    load_run,
    simulate,
    simulate_seeds,
)
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.tree import named_leaves

DOCS = Path(__file__).parents[2] / "docs"
SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=50),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(steps=3, batch_size=8, learning_rate=0.1),
    server=ServerConfig(rounds=2),
    # the last batch of the test set is not full, and 5 of 45 samples fill no batch of their own
    evaluation=EvaluationConfig(batch_size=20, statistics_samples=45),
)
DATA = load_dataset("digits", train_samples=120, test_samples=50)


class Finished(NamedTuple):
    result: SimulationResult
    loaded: SimulationResult


RUNS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {"model": ModelConfig("cnn", norm="batch_static")},
    "heterofl": {"strategy": StrategyConfig("heterofl", widths=(1.0, 0.5))},
    "splitmix": {"strategy": StrategyConfig("splitmix", widths=(1.0, 0.5))},
    "fedavg": {"strategy": StrategyConfig("fedavg")},
    "test batches": {"model": ModelConfig("mlp", hidden=(8,), norm="batch_test")},
}


class Runs(dict[str, Finished]):
    """Every run, and the same read back from its folder; made when a test asks for it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __missing__(self, name: str) -> Finished:
        folder = self.home / name.replace(" ", "-")
        module: dict[str, Any] = {}
        if name == "resnet":
            module = {"model": ResNet(10, blocks=(1,), width=4, norm="batch_static")}
        config = replace(SMALL, output=OutputConfig(folder=folder), **RUNS.get(name, {}))
        self[name] = Finished(simulate(config, **module), load_run(folder, **module))
        return self[name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("finished"))


# Parameters and statistics, and parts of several models; the others are read and written in the same way.
OFTEN = {"cnn", "splitmix"}
EVERY = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.long) for name in (*RUNS, "resnet")]


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    return float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("name", EVERY)
def test_predictions_are_those_that_the_run_was_tested_on(finished: Runs, name: str) -> None:
    result, loaded = finished[name]
    assert set(result.models) == {"global", "f1", "f4"} == set(result.final["accuracy"])
    for model, accuracy in result.final["accuracy"].items():
        logits = result.predict(DATA.test_images, model)
        assert logits.shape == (50, 10)
        assert (logits.argmax(1) == DATA.test_labels).mean() == accuracy
        assert log_loss(logits, DATA.test_labels) == pytest.approx(result.final["loss"][model], rel=1e-5)
        assert (loaded.predict(DATA.test_images, model) == logits).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_run_is_read_back_from_its_folder(finished: Runs, name: str) -> None:
    result, loaded = finished[name]
    assert (loaded.config, loaded.folder) == (result.config, result.folder)
    assert (loaded.costs, loaded.final) == (result.costs, result.final)
    assert [dict(record) for record in loaded.history] == [dict(record) for record in result.history]
    for model, trained in result.models.items():
        other = loaded.models[model]
        assert repr(other) == repr(trained)
        for one, two in zip(
            jax.tree.leaves((trained.params, trained.statistics)),
            jax.tree.leaves((other.params, other.statistics)),
            strict=True,
        ):
            assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
        assert (other.size, other.ranks, other.class_names) == (trained.size, trained.ranks, tuple("0123456789"))
    assert result.params is result.tier("global").params


def test_a_tier_holds_what_its_device_would(finished: Runs) -> None:
    result = finished["mlp"].result
    costs = {cost.tier: cost for cost in result.costs}
    weak = result.tier("f4")
    assert sum(leaf.size for leaf in jax.tree.leaves(weak.params)) == costs["f4"].parameters
    # the rank that divides the parameters of 64 x 8 by four
    assert weak.ranks == {"dense_0/kernel": round(64 * 8 / (4 * 72))}
    assert (weak.size, weak.classes, weak.image_shape) == ("ranks / 4", 10, (8, 8, 1))
    pixels = DATA.train_images / 255
    np.testing.assert_allclose(weak.mean, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(weak.std, [pixels.std()], rtol=1e-6)


def test_images_come_in_every_form_of_the_data(finished: Runs) -> None:
    result = finished["mlp"].result
    few = DATA.test_images[:3]
    logits = result.predict(few)
    for same in (few[..., 0], few / 255, jax.numpy.asarray(few)):
        assert (result.predict(same) == logits).all()
    # one at a time and all together differ by rounding alone
    np.testing.assert_allclose(result.predict(few[:1]), logits[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "model", "sentence"),
    [
        (DATA.test_images, "f2", "model is 'f2', but must be one of 'global', 'f1', 'f4'"),
        (DATA.test_images[:, 1:], "global", "images has shape (50, 7, 8, 1), but must hold images of 8 x 8 x 1 pixels"),
        (DATA.test_images.astype(int), "global", "images is of type int64, but must be uint8, or floats in [0, 1]"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(finished: Runs, images: Any, model: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        finished["mlp"].result.predict(images, model)
    assert str(caught.value) == sentence


def test_a_result_is_shown_in_a_line_and_survives_pickling(finished: Runs) -> None:
    result = finished["mlp"].result
    accuracy = f"{100 * result.final['accuracy']['global']:.1f} %"
    assert repr(result) == f"SimulationResult(2 rounds, global accuracy {accuracy}, in {str(result.folder)!r})"
    assert re.fullmatch(r"TrainedModel\('f4', ranks / 4, \d+ parameters\)", repr(result.tier("f4")))
    copy = pickle.loads(pickle.dumps(result))
    assert copy.final == result.final
    with pytest.raises(ConfigError, match="model is 'global', but must be one of a result with models"):
        copy.predict(DATA.test_images)


@pytest.mark.long
def test_seeds_in_one_program_and_several_devices_leave_their_models_too(tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    together = simulate_seeds(SMALL, (0, 1), folders=folders)
    spread = simulate(replace(SMALL, server=replace(SMALL.server, devices=2)))
    for result in (*together, spread):
        logits = result.predict(DATA.test_images, "f4")
        assert (logits.argmax(1) == DATA.test_labels).mean() == result.final["accuracy"]["f4"]
    for folder, result in zip(folders, together, strict=True):
        assert (load_run(folder).predict(DATA.test_images) == result.predict(DATA.test_images)).all()


def test_a_result_does_not_hold_on_to_the_data() -> None:
    images = DATA.train_images.copy()
    alive = weakref.ref(images)
    result = simulate(replace(SMALL, data=DataConfig()), data=DATA._replace(train_images=images))
    del images
    gc.collect()
    assert alive() is None
    assert result.predict(DATA.test_images).shape == (50, 10)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_tier_that_is_the_global_model_has_no_file_of_its_own(finished: Runs) -> None:
    def files(name: str) -> set[str]:
        return {path.name for path in (finished[name].result.folder / "models").iterdir()}

    assert files("mlp") == files("splitmix") == {"global.safetensors", "f4.safetensors"}
    assert files("fedavg") == {"global.safetensors"}


def test_a_file_holds_what_a_reader_needs(finished: Runs, tmp_path: Path) -> None:
    model = finished["cnn"].result.tier("f4")
    model.save(tmp_path / "f4.safetensors")
    with safe_open(tmp_path / "f4.safetensors", "np") as file:
        about, names = file.metadata(), set(file.keys())
        assert file.get_tensor("params/conv/kernel/v").shape == (1, 3, 16, 8)
    assert {"params/stem/kernel", "params/conv/kernel/u", "batch_stats/norm_1/mean_square"} < names
    assert len(names) == len(named_leaves((model.params, model.statistics)))
    assert (about["format"], about["model"], about["strategy"]) == ("fedhm_jax model 1", "f4", "fedhm")
    assert (about["classes"], json.loads(about["image_shape"])) == ("10", [8, 8, 1])
    assert json.loads(about["ranks"]) == model.ranks == {"conv/kernel": 8, "dense/kernel": 16}
    assert 'norm = "batch_static"' in about["config"]
    with pytest.raises(ConfigError, match=r"path is .* but must be a file that does not exist yet"):
        model.save(tmp_path / "f4.safetensors")


RECIPE = """
import sys
{code}
images = np.load(sys.argv[1])
for network, path in zip(sys.argv[2::2], sys.argv[3::2]):
    tensors, about = read(path)
    np.save(path + ".npy", globals()[network](normalised(images, about), tensors))
assert not {{"jax", "flax", "fedhm_jax"}} & set(sys.modules)
"""


def test_the_recipe_of_the_docs_computes_the_same_without_jax(finished: Runs, tmp_path: Path) -> None:
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (DOCS / "trained_models.md").read_text(), re.DOTALL)
        if "def read(" in block
    ]
    np.save(tmp_path / "images.npy", DATA.test_images)
    arguments, expected = [], {}
    for network in ("mlp", "cnn"):
        for tier in ("f1", "f4"):
            path = tmp_path / f"{network}-{tier}.safetensors"
            finished[network].result.tier(tier).save(path)
            expected[path] = finished[network].result.predict(DATA.test_images, tier)
            arguments += [network, str(path)]
    command = [sys.executable, "-c", RECIPE.format(code=code), str(tmp_path / "images.npy"), *arguments]
    subprocess.run(command, check=True)
    for path, logits in expected.items():
        np.testing.assert_allclose(np.load(f"{path}.npy"), logits, rtol=1e-5, atol=1e-5)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_finished_run_is_one_sentence(finished: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run is '.*nowhere', but must be the folder of a finished run$"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "config.toml").touch()
    with pytest.raises(ConfigError, match=r"a finished run; simulate\(resume='.*'\) goes on with this one$"):
        load_run(tmp_path)


def test_a_damaged_model_is_one_sentence(finished: Runs, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished["mlp"].result.folder, tmp_path / "run"))
    path = folder / "models" / "f4.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"model is '.*f4\.safetensors', but must be a file that can be read as safe"):
        load_run(folder)
    path.write_bytes((folder / "models" / "global.safetensors").read_bytes())
    with pytest.raises(
        ConfigError, match=r"'f4' in '.*' has nothing at dense_0/kernel/v, but must have shape \(64, 2\)"
    ):
        load_run(folder)
