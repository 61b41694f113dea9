"""Variants, grids and builders of a study: from the study file to the jobs, without running any."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from fedhm_jax import (
    ConfigError,
    LocalConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    Study,
    TiersConfig,
    Variant,
)
from fedhm_jax.comparison.builders import builder_of, builder_source
from fedhm_jax.comparison.centralised import centralised
from fedhm_jax.comparison.jobs import Plan, final_jobs, trial_jobs
from fedhm_jax.comparison.study_checks import check_study
from fedhm_jax.comparison.study_file import study_from_dict, study_to_toml
from fedhm_jax.comparison.variants import config_of, grid_of
from fedhm_jax.config import AggregationConfig, DevicesConfig, check_config
from fedhm_jax.strategies import fedavg

TEXT = """
name = "Variants"
seeds = [0]
tuning_samples = 0.25
reference = "mine"
[grid]
"local.learning_rate" = [0.03, 0.1]
local.proximal = [0.0, 0.1]
[strategies.fedhm]
[strategies.fedhm-long]
strategy.name = "fedhm"
local.epochs = 4
[strategies.mine]
builder = "mine.py:build"
local.proximal = 0.5
[strategies.tuned]
strategy.name = "fedavg"
[strategies.tuned.grid]
local.learning_rate = [1.0]
model.hidden = [[8], [16, 8]]
[strategies.centralised]
[settings.iid.local]
epochs = 3
"""


def study_of(text=TEXT):
    return study_from_dict(tomllib.loads(text))


def test_strategies_are_a_table_of_variants():
    study = study_of()
    assert study.names == ("fedhm", "fedhm-long", "mine", "tuned", "centralised")
    assert study.strategies[0] == "fedhm"
    assert study.strategies[1] == Variant("fedhm-long", {"strategy.name": "fedhm", "local.epochs": 4})
    assert study.strategies[2] == Variant("mine", {"local.proximal": 0.5}, builder="mine.py:build")
    assert study.strategies[4] == "centralised"


def test_a_study_of_variants_is_written_as_it_was_read():
    study = study_of()
    assert study_of(study_to_toml(study)) == study


def test_a_builder_in_python_is_written_by_its_name():
    study = Study("S", (Variant("own", builder=fedavg),), (0,), {"iid": SimulationConfig()})
    assert 'builder = "fedhm_jax.strategies.fedavg:fedavg"' in study_to_toml(study)


def test_what_a_variant_changes_stands_above_the_setting_and_below_the_grid():
    study = study_of()
    setting = study.settings["iid"]
    long = config_of(setting, study.variants[1], {"local.learning_rate": 0.1})
    expected = replace(setting.local, epochs=4, learning_rate=0.1)
    assert long == replace(setting, strategy=StrategyConfig(name="fedhm"), local=expected)
    assert config_of(setting, study.variants[0], {}).local.epochs == 3
    assert config_of(setting, Variant("heterofl"), {}).strategy.name == "heterofl"
    # one's own strategy keeps what the setting says of strategies
    ours = replace(setting, strategy=StrategyConfig("fedhm", weighting="samples"))
    assert config_of(ours, study.variants[2], {}).strategy == ours.strategy


def test_grids_of_variants():
    study = study_of()
    shared = {"local.learning_rate": (0.03, 0.1), "local.proximal": (0.0, 0.1)}
    found = {variant.name: grid_of(study, variant) for variant in study.variants}
    assert found == {
        "fedhm": shared,
        "fedhm-long": shared,
        "mine": {"local.learning_rate": (0.03, 0.1)},  # sets the other itself
        "tuned": {"local.learning_rate": (1.0,), "local.proximal": (0.0, 0.1), "model.hidden": ((8,), (16, 8))},
        "centralised": {"local.learning_rate": (0.03, 0.1)},  # no federation, no proximal term
    }
    without = Variant("fedhm", grid={"local.learning_rate": ()})
    assert grid_of(study, without) == {"local.proximal": (0.0, 0.1)}
    assert grid_of(replace(study, grid={}, learning_rates=(0.5,)), Variant("fedhm")) == {"local.learning_rate": (0.5,)}


def plan_of(study):
    def size(config):
        left = 1000 - (config.data.holdout or 0)
        return left, left, 20

    return Plan(study, Path("folder"), dict.fromkeys(study.names), size)


def test_points_that_differ_in_the_learning_rate_alone_share_a_program():
    jobs = {job.title: job.configs for job in trial_jobs(plan_of(study_of()))}
    assert [title for title in jobs if "tuned" in title] == [
        f"iid, tuned: local.proximal {proximal}, model.hidden {hidden}"
        for proximal in ("0", "0.1")
        for hidden in ("8", "16, 8")
    ]
    assert [path.as_posix() for path in jobs["iid, fedhm: local.proximal 0.1"]] == [
        f"folder/trials/iid/fedhm/learning-rate-{rate},proximal-0.1" for rate in (0.03, 0.1)
    ]
    for title, configs in jobs.items():
        same = {
            replace(config, local=replace(config.local, learning_rate=1.0), server=replace(config.server, seed=0))
            for config in configs.values()
        }
        assert len(same) == 1, title
    everything = [path for configs in jobs.values() for path in configs]
    assert len(everything) == len(set(everything)) == 4 + 4 + 2 + 4 + 2


def test_a_share_of_the_samples_is_held_out():
    jobs = trial_jobs(plan_of(study_of()))
    assert {config.data.holdout for job in jobs for config in job.configs.values()} == {250}
    whole = trial_jobs(plan_of(replace(study_of(), tuning_samples=7)))
    assert {config.data.holdout for job in whole for config in job.configs.values()} == {7}
    final = final_jobs(plan_of(study_of()), {})
    assert {config.data.holdout for job in final for config in job.configs.values()} == {None}


def test_final_runs_take_the_chosen_values():
    chosen = {("iid", "fedhm"): {"local.learning_rate": 0.1, "local.proximal": 0.0}}
    jobs = {job.title: next(iter(job.configs.values())) for job in final_jobs(plan_of(study_of()), chosen)}
    assert (jobs["iid, fedhm"].local.learning_rate, jobs["iid, fedhm"].local.proximal) == (0.1, 0.0)
    assert jobs["iid, mine"].local.proximal == 0.5


def test_centralised_training_does_the_work_of_the_federation():
    federation = SimulationConfig(
        partition=PartitionConfig(method="dirichlet", clients=20, alpha=0.1),
        tiers=TiersConfig((1.0, 4.0), shares=(0.5, 0.5)),
        local=LocalConfig(epochs=3, batch_size=16, proximal=0.1),
        server=ServerConfig(rounds=7, cohort_size=5),
        aggregation=AggregationConfig(clip=1.0, merge="median"),
        devices=DevicesConfig(dropout=0.2, deadline=3.0),
    )
    work = centralised(federation, 1000, 20)
    check_config(work)
    # a quarter of 1,000 samples three times over: 750, in batches of 16
    assert work.local == replace(federation.local, steps=47, proximal=0.0)
    assert (work.partition.clients, work.server.cohort_size, work.tiers.counts) == (1, 1, (1, 0))
    assert (work.server.rounds, work.model, work.data) == (7, federation.model, federation.data)
    assert (work.aggregation, work.privacy) == (AggregationConfig(), PrivacyConfig())
    assert (work.devices.dropout, work.devices.deadline) == (0.0, None)
    by_steps = centralised(replace(federation, local=LocalConfig(steps=4)), 1000, 20)
    assert by_steps.local.steps == 20
    # the trial runs train on what is left
    jobs = trial_jobs(plan_of(study_of()))
    steps = {config.local.steps for job in jobs if "centralised" in job.title for config in job.configs.values()}
    assert steps == {-(-3 * 750 * 10 // (20 * 16))}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('strategy.name = "fedhm"', "", r"^strategies.fedhm-long needs strategy.name or builder, for only fedhm, "),
        ('strategy.name = "fedhm"', 'strategy.name = "fedsgd"', r"^strategies.fedhm-long: strategy.name is 'fedsgd'"),
        ('strategy.name = "fedhm"', 'strategy.nam = "x"', r"strategy.nam is no config key; did you mean strategy.name"),
        ("[strategies.fedhm]", "[strategies.fed-hm]", r"^strategies.fed-hm needs strategy.name or builder"),
        ("local.epochs = 4", 'local.epochs = "x"', "^strategies.fedhm-long: local.epochs is 'x', but must be an int"),
        ("local.epochs = 4", "local.epoch = 4", "did you mean local.epochs"),
        ("local.epochs = 4", "epochs = 4", r"^strategies.fedhm-long: epochs is no config key; did you mean local"),
        ("local.epochs = 4", "local = 4", r"^strategies.fedhm-long: local is 4, but must be a table"),
        ("local.epochs = 4", "server.seed = 4", r"^strategies.fedhm-long.server.seed is 4, but must be unset"),
        ("local.epochs = 4", 'output.folder = "x"', r"^strategies.fedhm-long.output.folder is 'x', but must be unset"),
        ("local.epochs = 4", "grid = 3", r"^strategies.fedhm-long.grid is 3, but must be a table"),
        ("local.epochs = 4", "grid.local.epochs = 3", r"grid.local.epochs is 3, but must be a list of values"),
        ("local.epochs = 4", "local.epochs = 4\ngrid.local.epochs = [3]", r"unset when strategies.fedhm-long.grid has"),
        (
            "[strategies.fedhm]",
            "[strategies.fedhm]\nstrategy.name = 'fedavg'",
            r"'fedhm', or the table of another name",
        ),
        ("[strategies.fedhm]", "[strategies.fedhm]\nbuilder = 'a.py:b'", "unset for a built-in strategy"),
        (
            'builder = "mine.py:build"',
            'builder = "mine.py:build"\nstrategy.name = "fedavg"',
            "unset for a built-in strategy",
        ),
        (
            "[strategies.fedhm]",
            "[strategies.fedhm]\nstrategy.builder = 'a.py:b'",
            r"^strategies.fedhm.strategy.builder is 'a.py:b', but must be unset in a study, where builder = ",
        ),
        (
            "local.proximal = [0.0, 0.1]",
            "strategy.builder = ['a.py:b']",
            r"^grid.strategy.builder is .*unset in a study",
        ),
        (
            "[settings.iid.local]",
            "[settings.iid.strategy]\nbuilder = 'a.py:b'\n[settings.iid.local]",
            r"^settings.iid.strategy.builder is 'a.py:b', but must be unset in a study",
        ),
        ("[strategies.fedhm]", "[strategies.'a/b']\nbuilder = 'a.py:b'", "strategies is 'a/b', but must be a name"),
        ('builder = "mine.py:build"', 'builder = "mine.py"', r"a file and a name in it, like 'mine.py:build'"),
        ('builder = "mine.py:build"', "builder = 3", r"^strategies.mine.builder is 3"),
        ('builder = "mine.py:build"', "strategy = 3", r"^strategies.mine: strategy is 3, but must be a table"),
        (
            "[strategies.centralised]",
            "[strategies.centralised]\nlocal.proximal = 1.0",
            "unset, for it follows from the",
        ),
        ("[strategies.centralised]", "[strategies.centralised.grid]\ntiers.counts = [[1]]", "it makes no difference"),
        ("local.proximal = [0.0, 0.1]", "local.proximal = [1, 1.0]", "a list without repetitions"),
        ("local.proximal = [0.0, 0.1]", "data.train_split = ['a b', 'a-b']", "whose folders have different names"),
        ("local.proximal = [0.0, 0.1]", "local.proximal = 0.1", "^grid.local.proximal is 0.1, but must be a list"),
        ("local.proximal = [0.0, 0.1]", "local.proximal = ['a']", "^grid: local.proximal is 'a', but must be a finite"),
        ("local.proximal = [0.0, 0.1]", "local.proxmal = [0.1]", "^grid: local.proxmal is no config key"),
        ("local.proximal = [0.0, 0.1]", "server.seed = [1, 2]", "^grid.server.seed is 1, but must be unset"),
        ("local.proximal = [0.0, 0.1]", "strategy.name = ['fedhm']", "unset, for every strategy is a table of its own"),
        (
            "local.proximal = [0.0, 0.1]",
            f"local.epochs = {list(range(1, 102))}\nserver.rounds = {list(range(1, 102))}",
            "^strategies.fedhm.grid is '20,402 combinations', but must be one of at most 10,000",
        ),
        ("local.proximal = [0.0, 0.1]", f"local.optimizer = ['{'x' * 300}']", "fewer fields, or shorter values"),
        ("[grid]", "learning_rates = [0.1]\n[grid]", r"^learning_rates is .*unset when grid has local.learning_rate"),
        ("0.25", "1.0", r"^tuning_samples is 1.0, but must be an integer of at least 1, or a share above 0 and below"),
        ("0.25", "-1", "^tuning_samples is -1"),
        ('"mine"', '"theirs"', r"^reference is 'theirs', but must be one of the strategies, fedhm, fedhm-long"),
    ],
)
def test_bad_variants_and_grids_are_refused_in_one_sentence(old, new, sentence):
    assert old in TEXT
    with pytest.raises(ConfigError, match=sentence) as raised:
        study_of(TEXT.replace(old, new, 1))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        (Variant(3), "strategies is 3, but must be a name"),
        (Variant("fedhm", changes=3), "strategies.fedhm.changes is 3, but must be a table"),
        (Variant("fedhm", {3: 4}), "strategies.fedhm.3 is 3, but must be a config key"),
        (Variant("fedhm", {"local.steps": None}), "strategies.fedhm.local.steps is None, but must be a value"),
        (Variant("fedhm", grid={"local.steps": (1, None)}), "grid.local.steps is None, but must be a value"),
        (Variant("fedhm", grid={1: (1,)}), "must be a config key"),
        (3, "strategies is .* must be a list of names"),
    ],
)
def test_bad_variants_of_python_are_refused_in_one_sentence(variant, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_study(Study("S", (variant,), (0,), {"iid": SimulationConfig()}))


FILE = """
from dataclasses import dataclass
from fedhm_jax.strategies import fedavg

@dataclass
class Options:
    size: "int" = 1

def build(setting):
    return fedavg(setting)

def needs_more(setting, rate):
    return fedavg(setting)

def returns_a_word(setting):
    return "fedavg"

number = 3
"""


def test_a_builder_is_loaded_from_its_file(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    variant = Variant("mine", builder="mine.py:build")
    build = builder_of(variant, tmp_path)
    assert build is not None
    absolute = Variant("mine", builder=f"{tmp_path / 'mine.py'}:build")
    assert builder_of(absolute, Path("elsewhere")) is not None
    study = Study("S", (variant,), (0,), {"iid": SimulationConfig()}, folder=tmp_path)
    assert builder_source(study, variant) == FILE
    assert builder_of(Variant("fedhm"), tmp_path) is None


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        ("nowhere.py:build", "a Python file that can be read, and a name in it .No such file"),
        ("mine.txt:build", "a file whose name ends in .py, and a name in it"),
        ("mine.py:biuld", r"a file and a function in it; of functions there are build, needs_more, returns_a_word"),
        ("mine.py:number", "a file and a function in it; of functions there are build"),
        ("mine.py:needs_more", r"a function of a Setting alone \(missing a required argument: 'rate'\)"),
        ("broken.py:build", r"a file that Python can run \(ZeroDivisionError: division by zero\)"),
        ("unparsable.py:build", r"a file that Python can run \(SyntaxError: "),
    ],
)
def test_what_is_no_builder_is_refused_in_one_sentence(tmp_path, builder, sentence):
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "mine.txt").write_text(FILE)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "unparsable.py").write_text("def build(:\n")
    with pytest.raises(ConfigError, match=sentence) as raised:
        builder_of(Variant("mine", builder=builder), tmp_path)
    assert str(raised.value).startswith("strategies.mine.builder is ")
    assert "\n" not in str(raised.value)


def test_a_builder_that_returns_something_else_says_so(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    build = builder_of(Variant("mine", builder="mine.py:returns_a_word"), tmp_path)
    with pytest.raises(ConfigError, match="a function that returns a Strategy; this one returned a str"):
        build(None)
