"""Config files: the round trip is the identity, and mistakes are named."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhm_jax.config.config_file import all_keys, config_from_dict, read_config, write_config
from fedhm_jax.config.schema import DataConfig, LocalConfig, ModelConfig, OutputConfig, SimulationConfig, TiersConfig
from fedhm_jax.config.suggestions import SYNONYMS
from fedhm_jax.errors import ConfigError

numbers = st.floats(allow_nan=False, allow_infinity=False)
configs = st.builds(
    SimulationConfig,
    data=st.builds(
        DataConfig,
        name=st.text(),
        data_dir=st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1).map(Path),
        train_samples=st.none() | st.integers(-(2**62), 2**62),
    ),
    model=st.builds(ModelConfig, norm=st.sampled_from(["group", None]), hidden=st.lists(st.integers(1, 9)).map(tuple)),
    tiers=st.builds(
        TiersConfig,
        rank_factors=st.lists(numbers).map(tuple),
        shares=st.none() | st.lists(numbers).map(tuple),
        counts=st.none() | st.lists(st.integers(0, 100)).map(tuple),
    ),
    local=st.builds(LocalConfig, learning_rate=numbers, masked_loss=st.booleans(), steps=st.none() | st.integers(1, 9)),
)


@given(configs)
def test_reading_what_was_written_gives_the_same_config(
    tmp_path_factory: pytest.TempPathFactory, config: SimulationConfig
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    write_config(config, path)
    assert read_config(path) == config


def test_an_unset_field_always_has_unset_as_its_default() -> None:
    """Unset fields are left out of a file, so the round trip relies on this."""
    default = SimulationConfig()
    for section in fields(default):
        part = getattr(default, section.name)
        for entry in fields(part):
            if "None" in str(entry.type):
                assert getattr(part, entry.name) is None, f"{section.name}.{entry.name}"


def test_a_file_overrides_only_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[local]\nepochs = 2\nlearning_rate = 1\n[tiers]\nrank_factors = [1, 2.5]\n[output]\nfolder = "runs/a"\n'
    )
    defaults = SimulationConfig(output=OutputConfig(progress=True), local=LocalConfig(momentum=0.5))
    assert read_config(path, defaults) == SimulationConfig(
        local=LocalConfig(epochs=2, learning_rate=1, momentum=0.5),
        tiers=TiersConfig(rank_factors=(1.0, 2.5)),
        output=OutputConfig(folder=Path("runs/a"), progress=True),
    )
    assert read_config(str(path)).output == OutputConfig(folder=Path("runs/a"), progress=False)


def test_an_empty_file_is_the_default_config(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    assert read_config(tmp_path / "empty.toml") == SimulationConfig()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"locl": {}}, "locl is no config key; did you mean local?"),
        ({"epochs": 3}, "epochs is no config key; did you mean local.epochs?"),
        ({"local": {"lr": 0.1}}, "local.lr is no config key; did you mean local.learning_rate?"),
        ({"local": {"bs": 8}}, "local.bs is no config key; did you mean local.batch_size?"),
        ({"num_clients": 8}, "num_clients is no config key; did you mean partition.clients?"),
        ({"local": {"epoch": 3}}, "local.epoch is no config key; did you mean local.epochs?"),
        (
            {"evaluation": {"batchsize": 3}},
            "evaluation.batchsize is no config key; did you mean evaluation.batch_size?",
        ),
        ({"local": {"participation": 1}}, "local.participation is no config key; did you mean server.participation?"),
        (
            {"output": {"zzz": 1}},
            "output.zzz is no config key; there are output.folder, output.progress, output.trackers, "
            "output.compilation_cache",
        ),
        (
            {"zzz": {}},
            "zzz is no config key; there are data, partition, model, tiers, strategy, local, aggregation, privacy, "
            "server, devices, evaluation, output, checkpoint",
        ),
        ({"output": "runs"}, "output is 'runs', but must be a table, with keys such as output.folder"),
        ({"local": {"epochs": "two"}}, "local.epochs is 'two', but must be an integer"),
        ({"local": {"masked_loss": 1}}, "local.masked_loss is 1, but must be True or False"),
        ({"model": {"hidden": [1, 2.5]}}, "model.hidden is (1, 2.5), but must be a tuple of integers"),
        ({"server": {"participation": float("nan")}}, "server.participation is nan, but must be a finite number"),
        ({"output": {"folder": 3}}, "output.folder is 3, but must be a path or None"),
    ],
)
def test_a_wrong_key_or_type_is_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(values)
    assert str(caught.value) == sentence


def test_every_synonym_stands_for_keys_that_there_are() -> None:
    keys = set(all_keys())
    assert {key for meant in SYNONYMS.values() for key in meant} <= keys
    assert not set(SYNONYMS) & {key.rpartition(".")[2] for key in keys}


def test_the_given_defaults_are_not_changed() -> None:
    defaults = SimulationConfig()
    changed = config_from_dict({"local": {"epochs": 9}}, defaults)
    assert changed == replace(defaults, local=LocalConfig(epochs=9))
    assert defaults == SimulationConfig()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("run.json", b"", "a file whose name ends in .toml"),
        ("missing.toml", None, "a readable file (No such file or directory)"),
        ("broken.toml", b"[local]\nepochs =\n", "at line 2"),
        ("twice.toml", b"[local]\nepochs = 1\nepochs = 2\n", "at line 3"),
        ("latin.toml", b'[data]\nname = "\xe9"\n', "TOML in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / name)
    sentence = str(caught.value)
    assert sentence.startswith(f"config file is '{tmp_path / name}', but must be ")
    assert reason in sentence
    assert "\n" not in sentence


def test_paths_may_be_given_as_strings(tmp_path: Path) -> None:
    given = SimulationConfig(
        data=DataConfig(data_dir="images", cache_dir="cache"), output=OutputConfig(folder="runs/a")
    )
    expected = DataConfig(data_dir=Path("images"), cache_dir=Path("cache"))
    assert given == SimulationConfig(data=expected, output=OutputConfig(folder=Path("runs/a")))
    write_config(given, tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml") == given
