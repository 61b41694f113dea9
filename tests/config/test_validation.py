"""Every bad value is answered with one sentence that names the field, the value and what is allowed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedhm_jax.config.field_types import check_types
from fedhm_jax.config.schema import OutputConfig, PartitionConfig, SimulationConfig, TiersConfig
from fedhm_jax.config.validation import check_config
from fedhm_jax.errors import ConfigError


def changed(**values: Any) -> SimulationConfig:
    """The default config with fields replaced: ``changed(local__epochs=2)``."""
    config = SimulationConfig()
    for path, value in values.items():
        section, name = path.split("__")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


INTEGER_FIELDS = ["server.rounds", "local.epochs", "local.batch_size", "partition.min_samples", "evaluation.every"]
OPTIONAL_INTEGER_FIELDS = ["local.steps", "server.cohort_size", "server.clients_per_chunk", "data.train_samples"]
NUMBER_FIELDS = ["local.learning_rate", "partition.alpha", "strategy.temperature", "server.participation"]

WRONG_TYPES = [
    *((field, value, "an integer") for field in INTEGER_FIELDS for value in (1.0, "1", True, None)),
    *((field, value, "an integer or None") for field in OPTIONAL_INTEGER_FIELDS for value in (1.0, "1", True)),
    *(
        (field, value, "a finite number")
        for field in NUMBER_FIELDS
        for value in ("1", None, True, float("nan"), float("inf"), 10**400)
    ),
    ("strategy.history", 1, "True or False"),
    ("strategy.history", "yes", "True or False"),
    ("data.name", 3, "a string"),
    ("data.data_dir", 3, "a path or None"),
    ("model.name", "vgg", "one of 'mlp', 'cnn', 'resnet8', 'resnet20', 'resnet18', 'resnet34', 'vit', 'decoder'"),
    ("model.norm", "batch", "one of 'none', 'group', 'batch_static', 'batch_test' or None"),
    ("partition.method", 1, "one of 'iid', 'dirichlet', 'dirichlet_equal', 'shards', 'quantity', 'natural', 'given'"),
    ("tiers.rank_factors", 2.0, "a tuple of finite numbers"),
    ("tiers.rank_factors", [1.0, 2.0], "a tuple of finite numbers"),
    ("tiers.rank_factors", (1.0, "2"), "a tuple of finite numbers"),
    ("tiers.rank_factors", (1.0, float("inf")), "a tuple of finite numbers"),
    ("tiers.counts", (5.0, 5.0, 5.0, 5.0), "a tuple of integers or None"),
    ("tiers.of_client", (0, 1.0), "a tuple of integers or None"),
    ("tiers.of_client", 3, "a tuple of integers or None"),
    ("strategy.widths", [1.0, 0.64, 0.5, 0.35], "a tuple of finite numbers or None"),
    ("strategy.budget", "flops", "one of 'parameters', 'bytes', 'macs'"),
    ("local.milestones", (1, True), "a tuple of integers"),
]

WRONG_VALUES = [
    *((field, 0, "an integer of at least 1") for field in (*INTEGER_FIELDS, *OPTIONAL_INTEGER_FIELDS)),
    *((field, -3, "an integer of at least 1") for field in (*INTEGER_FIELDS, *OPTIONAL_INTEGER_FIELDS)),
    ("data.test_samples", 0, "an integer of at least 1"),
    ("partition.min_samples", 0, "an integer of at least 1"),
    ("partition.classes_per_client", 0, "an integer of at least 1"),
    ("evaluation.batch_size", 0, "an integer of at least 1"),
    ("evaluation.statistics_samples", 0, "an integer of at least 1"),
    *(
        (field, value, "a number above 0")
        for field in ("local.learning_rate", "server.learning_rate", "partition.alpha", "strategy.temperature")
        for value in (0.0, -0.5, 0)
    ),
    *(
        (field, -1e-9, "a number of at least 0")
        for field in ("local.weight_decay", "local.frobenius_decay", "local.proximal")
    ),
    *(
        (field, 1.0, "a number of at least 0 and below 1")
        for field in ("local.momentum", "server.momentum", "server.second_moment")
    ),
    *(("server.epsilon", value, "a number from 1e-15 to 1e15") for value in (0.0, -1e-3, 1e-30, 1e30)),
    ("local.momentum", -0.1, "a number of at least 0 and below 1"),
    ("server.participation", 0.0, "a number above 0 and at most 1"),
    ("server.participation", 1.01, "a number above 0 and at most 1"),
    ("local.decay_rate", 0.0, "a number above 0 and at most 1"),
    ("local.decay_rate", 1.5, "a number above 0 and at most 1"),
    ("server.seed", -1, "an integer of at least 0 and below 2**32"),
    ("server.seed", 2**32, "an integer of at least 0 and below 2**32"),
    ("data.name", "", "a name that is not empty"),
    ("data.train_split", " ", "a name that is not empty"),
    ("data.client_feature", "", "a name that is not empty"),
    ("partition.clients", 0, "an integer of at least 1"),
    ("local.optimizer", "", "a name that is not empty"),
    ("model.hidden", (64, 0), "integers of at least 1"),
    ("tiers.rank_factors", (), "one or more numbers of at least 1, strictly increasing"),
    ("tiers.rank_factors", (0.5, 2.0), "one or more numbers of at least 1, strictly increasing"),
    ("tiers.rank_factors", (2.0, 1.0), "one or more numbers of at least 1, strictly increasing"),
    ("tiers.rank_factors", (1.0, 2.0, 2.0), "one or more numbers of at least 1, strictly increasing"),
    ("tiers.shares", (0.5, 0.5, 0.5, -0.5), "numbers of at least 0 that sum to 1"),
    ("tiers.shares", (0.25, 0.25, 0.25, 0.2), "numbers of at least 0 that sum to 1"),
    ("tiers.shares", (), "numbers of at least 0 that sum to 1"),
    ("tiers.shares", (0.5, 0.5), "one share per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    ("tiers.counts", (21, 0, 0, -1), "integers of at least 0"),
    ("tiers.counts", (10, 10), "one count per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    ("tiers.counts", (5, 5, 5, 4), "integers that sum to the number of clients (20)"),
    ("tiers.of_client", (0, -1), "integers of at least 0"),
    (
        "tiers.of_client",
        (0, 4),
        "numbers of tiers, from 0 to the number of tiers less one (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))",
    ),
    ("tiers.of_client", (0, 1, 2), "one tier for each client (20), not 3 of them"),
    ("tiers.of_client", (), "one tier for each client (20), not 0 of them"),
    *(
        ("strategy.widths", widths, "one or more numbers above 0 and at most 1, strictly decreasing")
        for widths in ((), (0.35, 0.5, 0.64, 1.0), (1.0, 0.5, 0.5, 0.35), (1.1, 0.5, 0.4, 0.3), (1.0, 0.5, 0.3, 0.0))
    ),
    ("strategy.densities", (0.5, 0.5), "one or more numbers above 0 and at most 1, strictly decreasing"),
    ("strategy.densities", (1.0, 0.5), "one density per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    *(
        ("strategy.depths", depths, "one or more integers of at least 1, not increasing")
        for depths in ((), (1, 2, 2, 1), (2, 1, 1, 0))
    ),
    *(
        ("strategy.adapter_ranks", ranks, "one or more integers of at least 1, not increasing")
        for ranks in ((), (1, 2, 2, 1), (2, 1, 1, 0))
    ),
    ("strategy.adapter_ranks", (2, 1), "one rank per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    ("strategy.alpha", 0.0, "a number from 1e-6 to 1e6"),
    ("strategy.energy", 0.0, "a number above 0 and at most 1"),
    ("strategy.energy", 1.5, "a number above 0 and at most 1"),
    ("strategy.depths", (2, 1), "one depth per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    ("strategy.widths", (1.0, 0.5), "one width per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))"),
    ("strategy.distillation", -0.5, "a number of at least 0"),
    *((f"devices.{name}", (0.0,), "numbers above 0") for name in ("flops", "download", "upload")),
    ("devices.flops", (), "numbers above 0"),
    ("devices.latency", (-0.1,), "numbers of at least 0"),
    (
        "devices.flops",
        (1e9, 1e8),
        "one value for all tiers, or one per tier (tiers.rank_factors is (1.0, 2.0, 4.0, 8.0))",
    ),
    ("devices.deadline", 0.0, "a number above 0"),
    ("local.milestones", (0, 3), "integers of at least 1, strictly increasing"),
    ("local.milestones", (5, 3), "integers of at least 1, strictly increasing"),
    ("server.cohort_size", 21, "at most the number of clients (20)"),
    *((field, 2**31, "an integer below 2**31") for field in ("local.epochs", "local.steps", "server.rounds")),
    ("model.hidden", (64, 2**31), "integers below 2**31"),
    *(
        (field, value, "a number of at most 3.4e+38")
        for field in ("local.learning_rate", "local.weight_decay", "local.frobenius_decay", "local.proximal")
        for value in (1e39, 10**39)
    ),
    *(
        (field, 1e39, "a number of at most 3.4e+38")
        for field in (
            "strategy.distillation",
            "local.clip",
            "aggregation.clip",
            "aggregation.reject",
            "server.learning_rate",
        )
    ),
    *(
        (field, Path(path), "a path without a null character, and with a home directory where it begins with ~")
        for field in ("data.data_dir", "data.cache_dir", "output.folder")
        for path in ("a\0b", "~no-such-user/images")
    ),
    *(("privacy.noise_multiplier", value, "a number from 1e-6 to 1e6") for value in (1e-300, 1e9, 10**30)),
    *(
        (f"devices.{name}", (value,), "numbers from 1e-30 to 1e+30")
        for name in ("flops", "download", "upload")
        for value in (5e-324, 1e300)
    ),
    ("devices.latency", (1e308,), "numbers from 0 to 1e+30"),
    ("model.full_rank_blocks", -1, "an integer of at least 0"),
    ("model.full_rank_blocks", 1, "unset unless model.name is a ResNet (model.name is 'cnn')"),
    *((f"model.{name}", 0, "an integer of at least 1") for name in ("width", "depth", "heads")),
    *(
        (f"model.{name}", 2, f"left at {default} unless model.name is 'vit' or 'decoder' (model.name is 'cnn')")
        for name, default in (("width", 128), ("depth", 4), ("heads", 4))
    ),
]


@pytest.mark.parametrize(("field", "value", "allowed"), WRONG_TYPES + WRONG_VALUES)
def test_a_bad_value_is_named_with_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    shown = value if isinstance(value, int | float) else repr(value)
    with pytest.raises(ConfigError) as caught:
        check_config(changed(**{field.replace(".", "__"): value}))
    assert str(caught.value) == f"{field} is {shown}, but must be {allowed}"


def test_a_field_that_needs_another_one_says_so() -> None:
    cases = {
        "model.norm is 'group', but must be 'none', 'batch_static' or 'batch_test' when strategy.name is 'fedrolex', "
        "whose rolling mixes the groups": changed(strategy__name="fedrolex", model__norm="group"),
        "model.norm is 'group', but must be unset when model.name is 'vit', which has layer norms": changed(
            model__name="vit", model__norm="group"
        ),
        "model.width is 100, but must be a multiple of model.heads (model.heads is 8)": changed(
            model__name="decoder", model__width=100, model__heads=8
        ),
        "data.data_dir is None, but must be the folder of the images when data.name is 'folder'": changed(
            data__name="folder"
        ),
        "data.data_dir is None, but must be the file of the arrays when data.name is 'npz'": changed(data__name="npz"),
        "data.client_feature is 'writer', but must be unset when data.name is 'folder'": changed(
            data__name="folder", data__data_dir=Path("images"), data__client_feature="writer"
        ),
        "privacy.noise_multiplier is 1000000.0, but must be at most 3.4e+38 when multiplied by aggregation.clip (which "
        "is 1e+38)": changed(privacy__noise_multiplier=1e6, aggregation__clip=1e38),
        "local.milestones is (), but must be one or more rounds when local.schedule is 'step'": changed(
            local__schedule="step"
        ),
        "tiers.counts is (5, 5, 5, 5), but must be unset when tiers.shares is given "
        "(tiers.shares is (0.25, 0.25, 0.25, 0.25))": changed(tiers__shares=(0.25,) * 4, tiers__counts=(5,) * 4),
        "tiers.of_client is (0, 1), but must be unset when tiers.shares or tiers.counts is given": changed(
            tiers__of_client=(0, 1), tiers__counts=(5,) * 4
        ),
        "tiers.of_client is (0, 1), but must be unset unless tiers.assignment is 'fixed' (tiers.assignment is "
        "'dynamic')": changed(tiers__of_client=(0, 1), tiers__assignment="dynamic"),
        "tiers.of_client is (0, 0, 0, 0, 0, 0, ... of 30 entries), but must be one tier for each client (20), not 30 "
        "of them": changed(tiers__of_client=(0,) * 30),
    }
    for sentence, config in cases.items():
        with pytest.raises(ConfigError) as caught:
            check_config(config)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "config",
    [
        SimulationConfig(),
        changed(local__learning_rate=1, local__weight_decay=0, local__momentum=0),  # an integer is fine for a float
        changed(tiers__rank_factors=(2, 4, 8, 12), tiers__shares=(0.7, 0.1, 0.1, 0.1)),
        SimulationConfig(tiers=TiersConfig((1.0, 3.0), counts=(0, 7)), partition=PartitionConfig(clients=7)),
        SimulationConfig(tiers=TiersConfig((1.0, 3.0), of_client=(1, 0, 1)), partition=PartitionConfig(clients=3)),
        SimulationConfig(partition=PartitionConfig(clients=1)),  # fewer clients than tiers
        changed(tiers__shares=(1 / 3, 1 / 3, 1 / 3, 0)),
        changed(local__schedule="step", local__milestones=(100, 150), local__decay_rate=1),
        changed(model__name="resnet18", model__full_rank_blocks=0),
        changed(model__name="mlp", model__hidden=()),
        changed(model__name="vit", model__width=96, model__heads=3, model__depth=1),
        changed(server__cohort_size=20, server__participation=1, server__seed=2**32 - 1),
        changed(data__name="folder", data__data_dir=Path("images")),
        changed(data__name="npz", data__data_dir="arrays.npz", data__client_feature="writer"),
        # how many clients the data have is known only with the data
        changed(partition__method="natural", server__cohort_size=100),
        changed(partition__method="natural", tiers__counts=(40, 40, 40, 40)),
        changed(strategy__widths=(1.0, 0.64, 0.5, 0.35), strategy__distillation=0.0),
        changed(devices__flops=(4e9, 3e9, 2e9, 1e9), devices__latency=(0.0,), devices__deadline=60.0),
        changed(local__learning_rate=3.4e38, local__epochs=2**31 - 1, server__rounds=2**31 - 1),
        changed(data__data_dir=Path("~/images"), output__folder=Path("runs/~/a")),
        changed(local__steps=1, partition__min_samples=1, data__train_samples=1),
    ],
)
def test_values_on_the_allowed_side_pass(config: SimulationConfig) -> None:
    check_config(config)


def test_parts_of_the_wrong_kind_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^local is \{'epochs': 1\}, but must be a LocalConfig$"):
        check_types(SimulationConfig(local={"epochs": 1}))
    with pytest.raises(ConfigError, match=r"^config is None, but must be a SimulationConfig$"):
        check_config(None)


def test_the_output_folder_must_be_new_and_possible(tmp_path: Path) -> None:
    check_config(SimulationConfig(output=OutputConfig(folder=tmp_path / "deep" / "new")))
    assert not (tmp_path / "deep").exists(), "checking leaves nothing behind"

    with pytest.raises(ConfigError) as caught:
        check_config(SimulationConfig(output=OutputConfig(folder=tmp_path)))
    assert str(caught.value) == f"output.folder is '{tmp_path}', but must be a folder that does not exist yet"

    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="a folder that does not exist yet"):
        check_config(SimulationConfig(output=OutputConfig(folder=dangling)))

    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(ConfigError, match=f"in a place that can be written to, which {file} is not"):
        check_config(SimulationConfig(output=OutputConfig(folder=file / "run")))
