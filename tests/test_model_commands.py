"""`fedhm predict` and `fedhm export` on a finished run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedhm_jax import (
    DataConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
    load_dataset,
    simulate,
)
from fedhm_jax.cli import main
from fedhm_jax.data import read_image
from fedhm_jax.run.model_file import read_model_file

DATA = load_dataset("digits", train_samples=240)
CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(epochs=2, batch_size=8, learning_rate=0.1),
    server=ServerConfig(rounds=2),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    folder = tmp_path_factory.mktemp("commands") / "run"
    return simulate(replace(CONFIG, output=OutputConfig(folder=folder)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The first test images as files."""
    home, paths = tmp_path_factory.mktemp("images"), []
    for number, pixels in enumerate(DATA.test_images[:6, ..., 0]):
        paths.append(str(home / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.mark.parametrize("model", ["global", "f4"])
def test_a_line_tells_class_and_probability(
    finished: SimulationResult, images: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(finished.folder), *images, "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    logits = finished.predict(DATA.test_images[:6], model).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert len(lines) == 6
    for line, path, share in zip(lines, images, shares, strict=True):
        name, probability = line.removeprefix(f"{path}: ").removesuffix(")").split(" (")
        assert int(name) == share.argmax()
        assert float(probability) == pytest.approx(share.max(), abs=6e-5)


def test_classes_have_their_names_and_no_data_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("dark", 0), ("light", 255)):
        for split in ("train", "test"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(12):
                pixels = np.full((4, 4), abs(value - number), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    data = DataConfig("folder", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    partition = PartitionConfig(clients=2)
    config = replace(CONFIG, data=data, partition=partition, output=OutputConfig(folder=tmp_path / "run"))
    simulate(replace(config, strategy=replace(config.strategy, classifier_rows="all"), tiers=TiersConfig((1,))))
    (tmp_path / "data").rename(tmp_path / "gone")
    Image.new("RGB", (20, 10), "white").save("white.jpg")
    assert main(["predict", "run", "white.jpg", "gone/test/dark/0.png"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("white.jpg: light (")
    assert second.startswith("gone/test/dark/0.png: dark (")


def test_an_exported_file_is_the_model_of_its_name(finished: SimulationResult, tmp_path: Path) -> None:
    for model in ("global", "f1", "f4"):
        path = tmp_path / f"{model}.safetensors"
        assert main(["export", str(finished.folder), "--model", model, "--to", str(path)]) == 0
        written, expected = read_model_file(path, "file"), finished.tier(model).as_file()
        assert written.about == expected.about
        assert written.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            np.testing.assert_array_equal(written.tensors[name], tensor)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "predict {run} nowhere.png",
            "image is 'nowhere.png', but must be an image file that can be read (No such file",
        ),
        (
            "predict {run} {run}/config.toml",
            "config.toml', but must be an image file that can be read (cannot identify",
        ),
        ("predict {run} x.png --model f2", "model is 'f2', but must be one of 'global', 'f1', 'f4'"),
        ("predict {run} x.png --continue 5", "--continue is 5, but must be unset for a model that is not of text"),
        ("predict nowhere x.png", "run is 'nowhere', but must be the folder of a finished run"),
        ("export nowhere --to x.safetensors", "run is 'nowhere', but must be the folder of a finished run"),
        ("export {run} --model f2 --to x.safetensors", "model is 'f2', but must be one of 'global', 'f1', 'f4'"),
        (
            "export {run} --to {run}/models/global.safetensors",
            "global.safetensors', but must be a file that does not exist yet",
        ),
        ("export nowhere --to x", "to is 'x', but must be a file whose name ends in .safetensors"),
        ("export {run} --to {run}/config.toml", "config.toml', but must be a file whose name ends in .safetensors"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    finished: SimulationResult, command: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.format(run=finished.folder).split()) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhm: error: ")
    assert sentence in told
    assert told.count("\n") == 1


def test_a_place_that_cannot_be_written_to_exits_with_1(
    finished: SimulationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(finished.folder), "--to", str(tmp_path / "no" / "file.safetensors")]) == 1
    assert "could not be written to" in capsys.readouterr().err


def test_images_take_the_shape_of_the_data(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    assert (read_image(tmp_path / "colour.png", (5, 7, 3)) == pixels).all()
    assert read_image(tmp_path / "colour.png", (10, 4, 3)).shape == (10, 4, 3)
    # the luma of ITU-R 601, which Pillow rounds
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_image(tmp_path / "colour.png", (5, 7, 1))[..., 0], grey, atol=1)


def test_a_data_set_of_arrays_keeps_its_class_names() -> None:
    images, labels = DATA.train_images[:32], DATA.train_labels[:32]
    data = dataset_from_arrays(images, labels, images, labels, classes=10)._replace(class_names=tuple("abcdefghij"))
    config = replace(CONFIG, server=ServerConfig(rounds=1), tiers=TiersConfig((1,)))
    assert simulate(config, data=data).tier("f1").class_names == tuple("abcdefghij")
