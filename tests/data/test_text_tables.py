"""Text from tables on disk: data sets as the library datasets saves them, Parquet files, and what is neither."""

import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fedhm_jax.config import DataConfig, SimulationConfig, StrategyConfig, check_config
from fedhm_jax.data import decode, load_text
from fedhm_jax.data.text.hub_cache import find_cached_set
from fedhm_jax.data.text.tables import read_tables
from fedhm_jax.errors import ConfigError
from fedhm_jax.run.preparation.data import build_dataset

ROWS = {"text": ["to be or", "not to be", "a b"], "by": ["ann", "bob", "ann"], "at": [1, 2, 1]}
BY = {"ann": "to be or\na b", "bob": "not to be"}


def save(folder, rows, shards=1):
    """What `Dataset.save_to_disk` of datasets 5.2 writes, as far as it is read."""
    folder.mkdir(parents=True)
    table = pyarrow.table(rows)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    for name, part in zip(names, np.array_split(np.arange(len(table)), shards), strict=True):
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.take(part))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def save_splits(folder, **splits):
    for name, rows in splits.items():
        save(folder / name, rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def cached(folder, rows, shards=1):
    """What `load_dataset` of datasets 5.2 leaves of a set named play in its cache, as far as it is read."""
    save(folder, rows, shards).joinpath("state.json").unlink()
    (folder / "dataset_info.json").write_text(json.dumps({"dataset_name": "play", "config_name": "default"}))
    for file in folder.glob("data*.arrow"):
        file.rename(folder / file.name.replace("data" if shards > 1 else "data-00000-of-00001", "play-train"))
    return folder


def parquet(file, rows=ROWS):
    pyarrow.parquet.write_table(pyarrow.table(rows), file)
    return file


def test_all_forms_hold_the_same_text(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, rows in enumerate(
        ({key: values[:2] for key, values in ROWS.items()}, {k: v[2:] for k, v in ROWS.items()})
    ):
        parquet(shards / f"train-{number:05}-of-00002.parquet", rows)
    parquet(shards / "test-00000-of-00001.parquet", {"text": ["x"], "by": ["x"], "at": [0]})
    places = (
        save(tmp_path / "one", ROWS),
        save(tmp_path / "two", ROWS, shards=2),
        save_splits(tmp_path / "splits", train=ROWS, test={"text": ["x"], "by": ["x"], "at": [0]}),
        cached(tmp_path / "cached", ROWS),
        cached(tmp_path / "cached in two", ROWS, shards=2),
        parquet(tmp_path / "a.parquet"),
        shards,
    )
    for place in places:
        assert read_tables(place, "train") == ROWS["text"]
        assert read_tables(place, "train", client_field="by") == BY
        assert read_tables(place, "train", "by", "at") == {1: "ann\nann", 2: "bob"}
    for place in (tmp_path / "splits", shards):
        assert read_tables(place, "test") == ["x"]


def test_a_config_names_the_table(tmp_path):
    place = save_splits(tmp_path / "play", train={"text": ["x"]}, validation=ROWS)
    fields = {"train_split": "validation", "client_field": "by", "window": 2, "test_share": 0.4}
    data = DataConfig("huggingface", data_dir=place, **fields)
    check_config(SimulationConfig(strategy=StrategyConfig("fedhm"), data=data))
    text = build_dataset(data, None)
    assert text.name == "play"
    # "to be or\na b" of 12 and "not to be" of 9 characters: 7 and 5 for training
    assert decode(text, text.train_tokens) == "to be onot t"
    assert text.train_clients.tolist() == ["ann"] * 3 + ["bob"] * 2


def test_a_set_is_found_in_the_cache_by_its_name(tmp_path, monkeypatch):
    place = tmp_path / "datasets" / "Ann___tiny_plays"
    cached(place / "whole" / "0.0.0" / "older", {"text": ["x"]})
    cached(place / "whole" / "0.0.0" / "newer", ROWS)
    cached(place / "half" / "1.0.0" / "only", {"text": ["y"]})
    for age, file in enumerate([*place.rglob("newer/*.json"), *place.rglob("older/*.json")]):
        os.utime(file, (1000 - age, 1000 - age))
    name = "huggingface:Ann/TinyPlays/whole"
    data = DataConfig(name, data_dir=tmp_path / "datasets", client_field="by", window=2, test_share=0.4)
    check_config(SimulationConfig(strategy=StrategyConfig("fedhm"), data=data))
    text = build_dataset(data, None)
    assert text.name == "Ann/TinyPlays/whole"
    assert decode(text, text.train_tokens) == "to be onot t"
    for variable, value in (("HF_DATASETS_CACHE", tmp_path / "datasets"), ("HF_HOME", tmp_path)):
        with monkeypatch.context() as patch:
            for other in ("HF_DATASETS_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
                patch.delenv(other, raising=False)
            patch.setenv(variable, str(value))
            assert find_cached_set("Ann/TinyPlays/half") == place / "half" / "1.0.0" / "only"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "data.name is 'huggingface:', but must be 'huggingface:' and OWNER/NAME or OWNER/NAME/CONFIG"),
        ("plays", "data.name is 'huggingface:plays', but must be 'huggingface:' and OWNER/NAME or OWNER/NAME/CONFIG"),
        (
            "Bob/plays",
            "data.name is 'huggingface:Bob/plays', but there is no copy in {0}/Bob___plays; where there is",
        ),
        ("Ann/plays", "data.name is 'huggingface:Ann/plays', but must be 'huggingface:Ann/plays/a' or 'huggingface:A"),
        ("Ann/plays/c", "data.name is 'huggingface:Ann/plays/c', but must be 'huggingface:Ann/plays/' and a or b, "),
    ],
)
def test_names_that_are_not_in_the_cache_are_refused(tmp_path, name, says):
    for config in "ab":
        cached(tmp_path / "Ann___plays" / config / "0.0.0" / "1", ROWS)
    with pytest.raises(ConfigError) as refused:
        load_text(f"huggingface:{name}", data_dir=tmp_path)
    assert str(refused.value).startswith(says.format(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (lambda _: None, {}, "data.data_dir is {0!r}, but must be a folder that save_to_disk of the library datasets"),
        (lambda place: place.mkdir(), {}, "data.data_dir is {0!r}, but must be a folder that save_to_disk of the "),
        (
            lambda place: (save(place, ROWS) / "data-00000-of-00001.arrow").write_bytes(b"no arrow"),
            {},
            "data.data_dir is {0!r}, but must be a folder that save_to_disk of the library datasets wrote, a .parquet "
            "file, or a folder of such files, that can be read (",
        ),
        (lambda place: (save(place, ROWS) / "state.json").write_text("{"), {}, "data.data_dir is {0!r}, but must be "),
        (lambda place: (save(place, ROWS) / "state.json").write_text("[]"), {}, "data.data_dir is {0!r}, but must be "),
        (lambda place: (save(place, ROWS) / "data-00000-of-00001.arrow").unlink(), {}, "data.data_dir is {0!r}, but "),
        (
            lambda place: save_splits(place, train=ROWS, validation=ROWS),
            {"train_split": "test"},
            "data.train_split is 'test', but must be 'train' or 'validation', as {0!r} has no other split",
        ),
        (
            lambda place: save(place, ROWS),
            {"train_split": "test"},
            "data.train_split is 'test', but must be 'train', as {0!r} has no other split",
        ),
        (
            lambda place: save(place, ROWS),
            {"text_field": "body"},
            "data.text_field is 'body', but must be a column of strings; the columns are 'text', 'by', 'at'",
        ),
        (
            lambda place: save(place, ROWS),
            {"text_field": "at"},
            "data.text_field is 'at', but must be a column of strings, and it is one of int64",
        ),
        (
            lambda place: save(place, ROWS | {"by": [0.5, 1.5, 2.5]}),
            {"client_field": "by"},
            "data.client_field is 'by', but must be a column of strings or integers, and it is one of double",
        ),
        (
            lambda place: save(place, ROWS | {"text": ["a", None, "b"]}),
            {},
            "data.text_field is 'text', but must be a column without empty places, and 1 rows have one",
        ),
        (
            lambda place: save(place, ROWS | {"text": ["", "", ""]}),
            {},
            "data.data_dir is {0!r}, but must be where text is, and there is none in it",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, make, options, says):
    place = tmp_path / "table"
    make(place)
    with pytest.raises(ConfigError) as refused:
        load_text("huggingface", data_dir=place, **options)
    assert str(refused.value).startswith(says.format(str(place)))
    assert "\n" not in str(refused.value)
