"""Text sets of TFDS: what is read, by client and not, and what is refused."""

import pytest
from support.tfds_files import write_set

from fedhm_jax.config import DataConfig, SimulationConfig, StrategyConfig, check_config
from fedhm_jax.data import decode, load_text
from fedhm_jax.data.text.tfds import read_tfds_text
from fedhm_jax.errors import ConfigError
from fedhm_jax.run.preparation.data import build_dataset

CORE = "tensorflow_datasets.core.features."
FEATURES = {
    "line": {"pythonClassName": CORE + "text_feature.Text", "text": {}},
    "at": {
        "pythonClassName": CORE + "tensor_feature.Tensor",
        "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
    },
    "by": {"pythonClassName": CORE + "text_feature.Text", "text": {}},
}
LINES = [("to be or", 1, "ann"), ("not to be", 2, "bob"), ("a b", 1, "ann")]


def samples(lines):
    return [{"line": line.encode(), "at": at, "by": by.encode()} for line, at, by in lines]


@pytest.fixture
def root(tmp_path):
    write_set(tmp_path, FEATURES, {"train": samples(LINES), "validation": samples([("é", 3, "eve")])})
    return tmp_path


def test_texts_are_read_and_joined_by_client(root):
    texts = [line for line, _, _ in LINES]
    assert read_tfds_text("toy", root, "train", "line") == texts
    assert read_tfds_text("toy:1.2.0", root, "train[1:]", "line") == texts[1:]
    assert read_tfds_text("toy", root, "validation", "line", "by") == {"eve": "é"}
    assert read_tfds_text("toy", root, "train", "line", "by") == {"ann": "to be or\na b", "bob": "not to be"}
    assert read_tfds_text("toy", root, "train", "line", "at") == {1: "to be or\na b", 2: "not to be"}


def test_a_config_names_the_set(root):
    fields = {"text_field": "line", "client_field": "by", "window": 2, "test_share": 0.4}
    data = DataConfig("tfds_text:toy", data_dir=root, **fields)
    check_config(SimulationConfig(strategy=StrategyConfig("fedhm"), data=data))
    text = build_dataset(data, None)
    assert text.name == "toy"
    assert decode(text, text.train_tokens) == "to be onot t"
    assert text.train_clients.tolist() == ["ann"] * 3 + ["bob"] * 2


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "tiny_shakespear",
            {},
            "data.name is 'tfds_text:tiny_shakespear', but must be 'tfds_text:' and the name of",
        ),
        (
            "tiny_shakespeare",
            {"text_field": "text"},
            "data.name is 'tfds_text:tiny_shakespeare', but no prepared set",
        ),
        ("toy:9.9.9", {}, "data.name is 'tfds_text:toy:9.9.9', but must be 'tfds_text:' and the name of a TFDS "),
        (
            "toy",
            {"text_field": "at"},
            "data.text_field is 'at', but must be a feature of toy that is a text (found: ",
        ),
        (
            "toy",
            {"client_field": "line"},
            "data.client_field is 'line', but must be a feature of toy that is one int",
        ),
        (
            "toy",
            {"client_field": "who"},
            "data.client_field is 'who', but must be a feature of toy that is one int",
        ),
        (
            "toy",
            {"train_split": "test"},
            "data.train_split is 'test', but must be one of 'train' (3 samples), 'va",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(root, name, options, says):
    with pytest.raises(ConfigError) as refused:
        load_text(f"tfds_text:{name}", data_dir=root, **{"text_field": "line"} | options)
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)
