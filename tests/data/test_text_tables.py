"""Text from tables on disk: data sets as the library datasets saves them, Parquet files, and what is neither."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fedhm_jax.config import DataConfig, SimulationConfig, StrategyConfig, check_config
from fedhm_jax.data import decode, load_text
from fedhm_jax.data.text_tables import read_tables
from fedhm_jax.errors import ConfigError
from fedhm_jax.run.data_preparation import build_dataset

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
