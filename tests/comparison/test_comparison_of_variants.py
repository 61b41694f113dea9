"""Studies of variants, own builders and grids from beginning to end."""

import json
import shutil
import tomllib
from dataclasses import replace

import pytest
from flax import linen as nn

from fedhm_jax import (
    ConfigError,
    DataConfig,
    LocalConfig,
    PartitionConfig,
    SimulationConfig,
    StrategyConfig,
    Variant,
    compare,
    load_run,
    read_study,
)
from fedhm_jax.comparison.runner import _keep_builders, _size
from fedhm_jax.comparison.study_file import study_from_dict
from fedhm_jax.config import refuse_handed_over
from fedhm_jax.run import HandedOver
from fedhm_jax.strategies import fedavg, fedavg_low_rank

TEXT = """
name = "Variants"
seeds = [0]
tuning_rounds = 1
tuning_samples = 0.25
[base]
data = {train_samples = 160, test_samples = 20}
model = {name = "mlp", hidden = [8]}
tiers.rank_factors = [1, 2]
partition.clients = 4
local = {epochs = 3, batch_size = 10}
evaluation.worst_client = true
server = {rounds = 1, cohort_size = 2}
[strategies.centralised]
[strategies.local_only]
[strategies.mine]
builder = "mine.py:build"
local.weight_decay = 0.01
grid.local.learning_rate = [1e-6, 0.05]
grid.local.epochs = [1, 2]
"""

BUILDER = """
from fedhm_jax.strategies import fedavg

def build(setting):
    return fedavg(setting)._replace(sizes=("mine",) * len(setting.rank_factors))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("variants")
    (home / "variants.toml").write_text(TEXT)
    (home / "mine.py").write_text(BUILDER)
    return compare(read_study(home / "variants.toml"), home / "runs")


@pytest.fixture
def again(finished, tmp_path):
    """A copy of the finished study: its file, its builder and its folder."""
    shutil.copytree(finished.folder.parent, tmp_path / "copy")
    return tmp_path / "copy"


def run_of(result, strategy):
    (found,) = [run for run in result.runs if run.strategy == strategy]
    return found


def test_ones_own_builder_is_what_runs(finished):
    assert {cost.size for cost in run_of(finished, "mine").costs} == {"mine"}
    assert {cost.size for cost in run_of(finished, "centralised").costs} == {"full model"}
    assert run_of(finished, "mine").config.local.weight_decay == 0.01


def test_every_point_is_tried_and_the_best_is_run(finished):
    mine = [trial for trial in finished.trials if trial.strategy == "mine"]
    assert [tuple(trial.point.values()) for trial in mine] == [(1e-6, 1), (1e-6, 2), (0.05, 1), (0.05, 2)]
    best = max(trial.value for trial in mine)
    (chosen,) = [trial for trial in mine if trial.chosen]
    assert chosen.value == best
    # a rate of 1e-6 learns nothing in a round
    assert chosen.learning_rate == 0.05
    config = run_of(finished, "mine").config
    assert {"local.learning_rate": config.local.learning_rate, "local.epochs": config.local.epochs} == chosen.point
    trial = json.loads((finished.folder / "trials/default/mine/learning-rate-0.05,epochs-2/summary.json").read_text())
    assert trial["rounds"] == 1


def test_a_quarter_of_the_samples_is_held_out(finished):
    config = tomllib.loads(
        (finished.folder / "trials/default/mine/learning-rate-0.05,epochs-1/config.toml").read_text()
    )
    assert config["data"]["holdout"] == 40


def test_centralised_training_has_one_client_and_the_work_of_the_cohort(finished):
    alone = run_of(finished, "centralised")
    assert alone.history[-1]["clients"] == {"f1": 1, "f2": 0}
    # two of four clients of 40 samples, three passes: 240 samples, as 24 batches of ten
    assert alone.config.local.steps == 24
    assert alone.history[-1]["total_macs"] == 240 * (64 * 8 + 8 * 10)
    assert alone.history[-1]["accuracy"]["f1"] == alone.history[-1]["accuracy"]["f2"]


def test_clients_alone_do_their_share_of_the_work_and_send_nothing(finished):
    alone = run_of(finished, "local_only")
    (record,) = alone.history
    assert record["clients"] == {"f1": 2, "f2": 2}
    # one round of two clients of four: at least one each, of three passes over 40 samples
    f1, f2 = (120 * 2 * cost.train_macs for cost in alone.costs)
    assert record["total_macs"] == f1 + f2
    assert record["total_bytes_down"] == record["total_bytes_up"] == 0
    assert {cost.bytes_up for cost in alone.costs} == {0}
    assert set(record["accuracy"]) == {"f1", "f2"}
    # the larger model at ten to the ten operations a second, two a multiply-accumulate, three passes, and no waiting
    assert record["total_simulated_seconds"] == pytest.approx(2 * 3 * alone.costs[0].train_macs * 120 / 1e10)


def test_the_report_has_the_frame_and_the_worst_client(finished):
    text = (finished.folder / "report.md").read_text()
    assert "*local_only* trains every client alone" in text
    heading, _, *lines = [line for line in text.splitlines() if line.startswith("|")][:5]
    assert heading == "| strategy | worst tier | mean of tiers | global | worst client | f1 | f2 |"
    rows = {cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in line.split("|")] for line in lines)}
    alone = run_of(finished, "local_only").history[-1]
    assert rows["*local_only*"][2:4] == ["-", f"{100 * alone['worst_client']:.2f}"]  # there is no global model
    assert rows["centralised"][3] == "-"
    lines = (finished.folder / "worst_clients.csv").read_text().splitlines()
    assert lines[0] == "setting,strategy,seed,round,worst_client"
    assert {line.split(",")[1] for line in lines[1:]} == {"local_only", "mine"}


def test_models_of_clients_alone_are_not_kept(finished):
    place = finished.folder / "runs/default/local_only/seed-0"
    with pytest.raises(ConfigError, match=r"^run is '.*', but must be the folder of a run that keeps its models"):
        load_run(place)
    with pytest.raises(ConfigError, match="of a run that was given strategy local_only"):
        refuse_handed_over(place / "config.toml")


def test_a_finished_study_goes_on_and_finds_nothing_to_do(again, monkeypatch):
    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_together", None)
    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_alone", None)
    report = (again / "runs/report.md").read_bytes()
    compare(again / "variants.toml", again / "runs")
    assert (again / "runs/report.md").read_bytes() == report


def test_a_builder_that_has_changed_does_not_pass_for_the_one_that_ran(again, monkeypatch):
    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_together", None)
    (again / "mine.py").write_text(BUILDER + "\n# better now\n")
    sentence = r"^strategies.mine.builder is 'mine.py:build', but must be as .*mine.py keeps"
    with pytest.raises(ConfigError, match=sentence) as raised:
        compare(again / "variants.toml", again / "runs")
    for place in ("builders/mine.py", "trials/default/mine", "runs/default/mine"):
        assert place in str(raised.value)
    # back to what it was
    (again / "mine.py").write_text(BUILDER)
    compare(again / "variants.toml", again / "runs")


def test_a_grid_loses_no_value(again):
    (again / "variants.toml").write_text(TEXT.replace("epochs = [1, 2]", "epochs = [1, 3]"))
    with pytest.raises(ConfigError, match=r"grid.local.epochs is \(1, 3\), but must be a list with 2, as in the"):
        compare(again / "variants.toml", again / "runs")


def test_a_builder_of_python_is_kept_and_compared_as_its_source(tmp_path):
    base = study_from_dict(tomllib.loads(TEXT) | {"strategies": ["fedavg"]})
    study, other = (replace(base, strategies=(Variant("own", builder=build),)) for build in (fedavg, fedavg_low_rank))
    _keep_builders(study, tmp_path)
    assert (tmp_path / "builders/own.py").read_text().startswith("def fedavg(setting")
    # nothing has been run yet
    _keep_builders(other, tmp_path)
    assert (tmp_path / "builders/own.py").read_text().startswith("def fedavg_low_rank(setting")
    (tmp_path / "runs/default/own/seed-0").mkdir(parents=True)
    _keep_builders(other, tmp_path)
    with pytest.raises(
        ConfigError, match=r"^strategies.own.builder is 'fedhm_jax.strategies.fedavg:fedavg', but must be"
    ):
        _keep_builders(study, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("mine.py:build", "mine.py:biuld", "a file and a function in it; of functions there are build"),
        ("epochs = [1, 2]", "epochs = [1, 0]", "^default, mine: local.epochs 0: local.epochs is 0, but must be an int"),
        (
            "0.05]",
            "-0.05]",
            "^default, mine: local.epochs 1: local.learning_rate is -0.05, but must be a number above",
        ),
        ("0.25", "0.97", "local.batch_size is 10, but must be at most"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(tmp_path, old, new, sentence):
    (tmp_path / "mine.py").write_text(BUILDER)
    (tmp_path / "variants.toml").write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=sentence) as raised:
        compare(tmp_path / "variants.toml", tmp_path / "runs")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


class Plain(nn.Module):
    """A model without low-rank layers, which FedHM refuses."""

    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return nn.Dense(10, name="classifier")(images.reshape(images.shape[0], -1))


def test_samples_are_counted_whatever_the_strategy():
    known = {}
    config = SimulationConfig(strategy=StrategyConfig("fedhm"), data=DataConfig(train_samples=500))
    held = replace(config, data=replace(config.data, holdout=100))
    sizes = [_size(HandedOver(model=Plain()), known, each) for each in (config, held, config)]
    assert sizes == [(500, 500, 20), (400, 400, 20), (500, 500, 20)]
    assert len(known) == 2
    lists = HandedOver(model=Plain(), partition=[[0, 1, 2], [2, 3]])
    given = replace(config, partition=PartitionConfig("given", clients=2), local=LocalConfig(batch_size=2))
    assert _size(lists, {}, given) == (500, 5, 2)
