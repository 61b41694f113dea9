"""Studies read from and written to TOML."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from fedhm_jax import ConfigError, SimulationConfig, Study
from fedhm_jax.comparison.study_checks import check_study
from fedhm_jax.comparison.study_file import read_study, study_from_dict, study_to_toml

TEXT = """
name = "Small"
strategies = ["fedhm", "heterofl"]
seeds = [3, 4]
learning_rates = [0.03, 0.1]
[base.server]
rounds = 5
[base.data]
train_samples = 100
[settings.iid]
[settings.skewed.partition]
method = "dirichlet"
[settings.skewed.server]
rounds = 7
"""


def test_settings_change_the_base(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(TEXT)
    study = read_study(file, data_dir=Path("elsewhere"))
    assert (study.name, study.strategies, study.seeds) == ("Small", ("fedhm", "heterofl"), (3, 4))
    iid, skewed = study.settings["iid"], study.settings["skewed"]
    assert (iid.server.rounds, skewed.server.rounds) == (5, 7)
    assert (iid.partition.method, skewed.partition.method) == ("iid", "dirichlet")
    assert iid.data.train_samples == skewed.data.train_samples == 100
    assert skewed.data.data_dir == Path("elsewhere")


def test_a_written_study_reads_back_without_places_on_this_machine():
    study = study_from_dict(tomllib.loads(TEXT), data_dir=Path("elsewhere"))
    text = study_to_toml(study)
    assert "elsewhere" not in text
    here = {name: replace(config, data=replace(config.data, data_dir=None)) for name, config in study.settings.items()}
    assert study_from_dict(tomllib.loads(text)) == replace(study, settings=here)


def test_a_study_of_plain_names_is_written_as_it_always_was():
    keys = ["description", "learning_rates", "name", "seeds", "strategies", "tuning_samples", "settings"]
    written = tomllib.loads(study_to_toml(study_from_dict(tomllib.loads(TEXT))))
    assert list(written) == keys
    assert written["strategies"] == ["fedhm", "heterofl"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strategy": ["fedhm"]}, "strategy is no key of a study; there are base, description"),
        ({"strategies": ["fedhm", "fedsgd"]}, "strategies is .*fedsgd.* must be a list of names among fedhm, "),
        ({"strategies": []}, "strategies is"),
        ({"strategies": ["fedhm", "fedhm"]}, "a list without repetitions"),
        ({"strategies": "fedhm"}, "a list of names among"),
        ({"seeds": [0.5]}, r"seeds is \(0.5,\), but must be a list of one or more integers"),
        ({"seeds": []}, "seeds is"),
        ({"learning_rates": [0.1, 0.0]}, "learning_rates is .* a list of numbers above 0"),
        ({"tuning_rounds": 0}, "tuning_rounds is 0, but must be an integer of at least 1"),
        ({"name": 3}, "name is 3, but must be a string"),
        ({"settings": {"a/b": {}}}, "settings is 'a/b'"),
        ({"settings": {"iid": {"output": {"folder": "x"}}}}, "settings.iid.output.folder is 'x', but must be unset"),
        ({"settings": {"iid": {"locl": {}}}}, "locl is no config key; did you mean local"),
        ({"base": 3}, "base is 3, but must be a table"),
    ],
)
def test_bad_studies_are_refused_in_one_sentence(change, sentence):
    with pytest.raises(ConfigError, match=sentence) as raised:
        study_from_dict(tomllib.loads(TEXT) | change)
    assert "\n" not in str(raised.value)


def test_an_unknown_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"study is .*nowhere.toml.*readable file \(No such file"):
        read_study(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match=r"study is 'table_2', but must be a file whose name ends in .toml"):
        read_study("table_2")


def test_a_study_made_in_python_passes_the_same_checks():
    with pytest.raises(ConfigError, match="seeds"):
        check_study(Study("S", ("fedhm",), (-1,), {"iid": SimulationConfig()}))


DOCS = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_the_documented_study_is_one():
    (text,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    study = study_from_dict(tomllib.loads(text))
    assert study.names == ("fedhm", "heterofl", "fedhm-long", "fedhm-proximal", "changes", "centralised", "local_only")
    assert study.settings["skewed"].local.epochs == 2
    assert study.variants[2].changes["local.epochs"] == 4


def test_every_key_of_a_study_is_documented():
    keys = {entry.name for entry in fields(Study)} - {"folder"} | {"base"}
    section = DOCS.split("## Keys")[1].split("## ")[0]
    assert {key for key in keys if f"`{key}`" not in section} == set()


def test_the_documented_study_of_python_is_one():
    code = next(block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "Study(" in block)
    names: dict = {}
    exec(code.split("result =")[0], names)
    check_study(names["study"])
    assert names["study"].names == ("fedhm", "short", "mine")
