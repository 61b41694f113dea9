"""Studies from beginning to end: tuning, resuming, refusing."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fedhm_jax import (
    ConfigError,
    DataConfig,
    DevicesConfig,
    Interrupted,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    Study,
    TiersConfig,
    Variant,
    compare,
    read_study,
    write_config,
)
from fedhm_jax.cli import main
from fedhm_jax.comparison import runner
from fedhm_jax.comparison.extension import refuse_other_study
from fedhm_jax.comparison.finished_runs import runs_page, side_by_side
from fedhm_jax.comparison.numbers import bounds, score_spreads
from fedhm_jax.reporting import read_run

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1, 2)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=2, participation=1.0),
)
STUDY = Study(
    "Small",
    ("fedhm", "fedavg"),
    (0, 1),
    {"iid": SMALL},
    learning_rates=(1e-6, 0.05, 1e6),
    tuning_rounds=3,
    tuning_samples=60,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "small"
    return compare(STUDY, folder)


def test_every_run_is_there_with_the_tuned_learning_rate(finished):
    assert [(run.strategy, run.seed) for run in finished.runs] == [
        ("fedhm", 0), ("fedhm", 1), ("fedavg", 0), ("fedavg", 1),
    ]  # fmt: skip
    # a rate of 1e-6 learns nothing in three rounds, and with 1e6 training diverges
    chosen = [(1e-6, False), (0.05, True), (1e6, False)]
    assert [(trial.learning_rate, trial.chosen) for trial in finished.trials] == chosen * 2
    for run in finished.runs:
        assert (run.config.local.learning_rate, run.config.server.seed) == (0.05, run.seed)
        assert run.config.strategy.name == run.strategy
        assert len(run.history) == 2
        assert run.config.data.holdout is None


def test_trials_look_at_held_out_training_samples_only(finished):
    records = (finished.folder / "trials/iid/fedhm/learning-rate-0.05/records.jsonl").read_text().splitlines()
    last = json.loads(records[-1])
    assert len(records) == 3
    # 240 training samples less 60 held out, one pass of all clients; the accuracy counts 60 samples
    assert sum(last["macs"].values()) < 180 * 64 * 16 * 4
    assert 60 * last["accuracy"]["global"] == pytest.approx(round(60 * last["accuracy"]["global"]))


def test_finished_runs_are_not_run_again(finished, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("nothing was left to run")

    monkeypatch.setattr("fedhm_jax.comparison.runner.simulate_together", never)
    report = (finished.folder / "report.md").read_bytes()
    again = compare(STUDY, finished.folder)
    assert again == finished
    assert (finished.folder / "report.md").read_bytes() == report


def test_the_written_study_is_a_study_file(finished):
    assert read_study(finished.folder / "study.toml") == STUDY


@pytest.fixture
def copy(finished, tmp_path):
    """The folder of the finished study, to change."""
    return Path(shutil.copytree(finished.folder, tmp_path / "study"))


def without_time(run):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in run.history]


def test_what_is_missing_is_run_and_leftovers_are_kept(finished, copy):
    place = copy / "runs/iid/fedavg/seed-1"
    place.rename(place.with_name("seed-1.part"))
    (place.with_name("seed-1.part") / "summary.json").unlink()
    again = compare(STUDY, copy)
    assert without_time(finished.runs[3]) == without_time(again.runs[3])
    assert (place.parent / "seed-1.part-interrupted-1" / "records.jsonl").exists()


@pytest.mark.long
def test_a_study_goes_on_inside_of_its_runs(finished, copy, monkeypatch):
    shutil.rmtree(copy / "runs/iid/fedavg")
    simulate_together = runner.simulate_together

    def seen(records, stop):
        def look(record):
            records.append(record["round"])
            if stop:
                signal.raise_signal(signal.SIGTERM)

        return lambda *args, on_round, **rest: simulate_together(*args, on_round=[*on_round, look], **rest)

    first, second = [], []
    monkeypatch.setattr(runner, "simulate_together", seen(first, stop=True))
    # each seed's record raises a signal, and the second would end the process
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(Interrupted) as stopped:
            compare(STUDY, copy)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (stopped.value.round, stopped.value.signal, first) == (1, signal.SIGTERM, [1, 1])
    monkeypatch.setattr(runner, "simulate_together", seen(second, stop=False))
    again = compare(STUDY, copy)
    assert second == [2, 2]
    for one, other in zip(finished.runs, again.runs, strict=True):
        assert without_time(one) == without_time(other)
    assert sorted(path.name for path in (copy / "runs/iid/fedavg").iterdir()) == ["seed-0", "seed-1"]
    assert not list(copy.rglob("checkpoints"))


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def monotonic(self):
        return self.now


def test_a_running_study_is_reported_once_a_minute_and_what_fails_leaves_nothing_out(monkeypatch):
    clock, written = Clock(), []
    monkeypatch.setattr(runner, "time", clock)

    def study(jobs, failure=None):
        with runner._now_and_then(lambda: written.append(clock.now)) as report:
            for clock.now in jobs:
                report()
            if failure is not None:
                raise failure

    study([10.0, 59.0, 60.0, 61.0, 125.0, 126.0])
    assert written == [60.0, 125.0]  # `compare` writes the last one
    for jobs in ([127.0], [200.0], []):
        with pytest.raises(KeyboardInterrupt):
            study(jobs, KeyboardInterrupt())
    assert written == [60.0, 125.0, 127.0, 200.0]  # once each, and nothing where nothing was run


def run_folders(finished):
    return sorted((finished.folder / "runs/iid").glob("*/seed-*"))


def test_runs_side_by_side_have_the_numbers_of_their_study(finished):
    found = side_by_side(run_folders(finished))
    assert list(found.study.settings) == ["digits-iid"]
    assert score_spreads(found, "digits-iid") == {
        name: score_spreads(finished, "iid")[name] for name in ("fedavg", "fedhm")
    }
    assert {variant.name: variant.changes for variant in found.study.variants} == {
        "fedavg": {"strategy.name": "fedavg"},
        "fedhm": {"strategy.name": "fedhm"},
    }


def test_runs_of_other_data_and_other_options_are_told_apart(finished, tmp_path):
    first = run_folders(finished)[0]
    again, other, skewed = (tmp_path / name for name in ("again", "other", "skewed"))
    for folder, change in ((again, ()), (other, ("epochs = 1", "epochs = 2")), (skewed, ('"iid"', '"shards"'))):
        shutil.copytree(first, folder)
        if change:
            text = (folder / "config.toml").read_text()
            assert change[0] in text
            (folder / "config.toml").write_text(text.replace(*change))
    found = side_by_side([first, again, other, skewed])
    assert list(found.study.settings) == ["digits-iid", "digits-shards"]
    names = [f"fedavg in {first}", f"fedavg in {again}", "fedavg-2", "fedavg"]
    assert [run.strategy for run in found.runs] == names
    assert found.study.variants[2].changes == {"local.epochs": 2, "strategy.name": "fedavg"}


def test_what_a_run_was_given_in_python_tells_it_apart(finished, tmp_path):
    """Its config alone would call all of them digits, with the model and the method that it names."""
    first = run_folders(finished)[0]
    folders = [first]
    for name, value in (("data", "noise"), ("model", "mine.Net"), ("strategy", "mine.build")):
        folders.append(tmp_path / name)
        shutil.copytree(first, folders[-1])
        with (folders[-1] / "config.toml").open("a") as file:
            file.write(f'\n[handed_over]\n{name} = "{value}"\n')
    found = side_by_side(folders)
    names = [(run.setting, run.strategy) for run in found.runs]
    assert names == [
        ("digits-iid", "fedavg"), ("noise-iid", "fedavg"), ("digits-iid", "fedavg-2"), ("digits-iid", "build"),
    ]  # fmt: skip
    page = runs_page(folders)
    assert "noise, mlp, 4 clients (iid)" in page
    assert "digits, Net, 4 clients" in runs_page([folders[2]])
    assert "model = &quot;mine.Net&quot;" in page


def test_a_run_that_was_ended_early_is_shown_as_it_was_tested_in_the_end(finished, tmp_path):
    """Its last round need not have been evaluated; the summary has what the model after it reaches."""
    folder = tmp_path / "run"
    shutil.copytree(run_folders(finished)[0], folder)
    *before, last = (folder / "records.jsonl").read_text().splitlines()
    untested = {name: value for name, value in json.loads(last).items() if name not in ("accuracy", "loss", "top5")}
    (folder / "records.jsonl").write_text("\n".join([*before, json.dumps(untested)]) + "\n")
    (run,) = side_by_side([folder]).runs
    assert run.history[-1] == json.loads(last)
    assert "<table>" in runs_page([folder])


def test_a_frame_stays_a_frame(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folders(finished)[0], folder)
    with (folder / "config.toml").open("a") as file:
        file.write('\n[handed_over]\nstrategy = "local_only"\n')
    found = side_by_side([run_folders(finished)[-1], folder])
    assert bounds(found, "digits-iid") == {"local_only"}


def test_the_command_line_writes_a_page_of_runs(finished, tmp_path, capsys):
    folders = list(map(str, run_folders(finished)))
    page = tmp_path / "two words.html"
    assert main(["report", *folders, "--to", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg aria-label=") == 2
    assert all(f"<td>{folder}</td>" in text for folder in folders)
    for arguments, sentence in (
        ([folders[0], "--to", str(page)], "must be a file that does not exist yet"),
        (["nowhere", "--to", str(tmp_path / "b.pdf")], "b.pdf', but must be a file whose name ends in .html"),
        ([folders[0], folders[0], "--to", str(tmp_path / "b.html")], "must be named once"),
        ([str(tmp_path), "--to", str(tmp_path / "b.html")], "must be the folder of a finished run"),
    ):
        assert main(["report", *arguments]) == 2
        assert sentence in capsys.readouterr().err


def test_what_is_added_runs_with_the_rates_that_were_chosen(copy, monkeypatch):
    asked = []

    def simulate_together(configs, given, **_):
        """What the runs say is no matter here."""
        for config in configs:
            asked.append((config.strategy.name, config.server.seed, config.local.learning_rate, config.local.epochs))
            shutil.copytree(copy / "runs/iid/fedavg/seed-0", config.output.folder)
            write_config(replace(config, output=OutputConfig()), config.output.folder / "config.toml")

    monkeypatch.setattr(runner, "simulate_together", simulate_together)
    monkeypatch.setattr(runner, "write_comparison", lambda *_: None)
    before = {file: file.stat().st_mtime_ns for kind in ("runs", "trials") for file in (copy / kind).rglob("*.*")}
    long = Variant("long", {"strategy.name": "fedavg", "local.epochs": 2}, grid={"local.learning_rate": ()})
    study = replace(STUDY, seeds=(0, 7, 1), strategies=("fedhm", long, "fedavg"), name="More", reference="long")
    assert [(run.strategy, run.seed) for run in compare(study, copy).runs] == [
        (strategy, seed) for strategy in ("fedhm", "long", "fedavg") for seed in (0, 7, 1)
    ]
    rate = SMALL.local.learning_rate
    assert asked == [("fedhm", 7, 0.05, 1), *(("fedavg", seed, rate, 2) for seed in (0, 7, 1)), ("fedavg", 7, 0.05, 1)]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert read_study(copy / "study.toml") == study
    # and what was added is a part of the study from now on
    with pytest.raises(ConfigError, match=r"^seeds is \(0, 1\), but must be a list with 7, as in the study that "):
        compare(STUDY, copy)


LONGER = replace(SMALL, server=replace(SMALL.server, rounds=3))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": (0, 2)}, r"^seeds is \(0, 2\), but must be a list with 1, as in the study that "),
        ({"strategies": ("fedhm",)}, r"^strategies is \('fedhm',\), but must be a list with fedavg,"),
        ({"settings": {"other": SMALL}}, r"^settings is \('other',\), but must be a list with iid,"),
        ({"settings": {"iid": LONGER, "other": SMALL}}, r"^settings.iid.server.rounds is 3, but must be 2,"),
        (
            {"strategies": ("fedavg", Variant("fedhm", {"local.epochs": 2}))},
            r"^strategies.fedhm.local.epochs is 2, but must be unset,",
        ),
        (
            {"learning_rates": (0.05, 0.1)},
            r"^strategies.fedhm.grid.local.learning_rate is \(0.05, 0.1\), but must be a list with 1e-06, 1000000.0,",
        ),
        ({"learning_rates": ()}, r"^strategies.fedhm.grid.local.learning_rate is None, but must be \(1e-06, 0.05, "),
        ({"grid": {"local.proximal": (0.0,)}}, r"^strategies.fedhm.grid.local.proximal is .* must be unset,"),
        ({"tuning_rounds": None}, r"^tuning_rounds is None, but must be 3,"),
        ({"tuning_samples": 50}, r"^tuning_samples is 50, but must be 60,"),
    ],
)
def test_what_finished_runs_depend_on_stays(change, sentence):
    with pytest.raises(ConfigError, match=f"{sentence}.* seeds, strategies, settings and values of") as raised:
        refuse_other_study(replace(STUDY, **change), STUDY, Path("runs/a"))
    assert "\n" not in str(raised.value)


@pytest.mark.long
def test_a_grid_gains_values_and_what_is_chosen_then_is_run(finished, copy, capsys):
    wider = replace(
        STUDY, strategies=("fedavg", Variant("fedhm", grid={"local.learning_rate": (1e-6, 0.05, 0.2, 1e6)}))
    )
    again = compare(wider, copy, progress=True)
    assert "iid, fedhm: round 4 of 7 in all" in capsys.readouterr().err  # three of a trial, then two seeds of two
    fedavg, fedhm = ([run for run in again.runs if run.strategy == name] for name in ("fedavg", "fedhm"))
    assert [without_time(run) for run in fedavg] == [without_time(run) for run in finished.runs[2:]]
    chosen = {trial.strategy: trial.learning_rate for trial in again.trials if trial.chosen}
    # three rounds of 0.05 are no end of what there is to learn, and 0.2 is still stable
    assert chosen == {"fedavg": 0.05, "fedhm": 0.2}
    assert [run.config.local.learning_rate for run in fedhm] == [0.2, 0.2]
    kept = [copy / f"runs/iid/fedhm/seed-{seed}-superseded-1" for seed in STUDY.seeds]
    assert [read_run(place).config.local.learning_rate for place in kept] == [0.05, 0.05]


def test_tuning_is_no_matter_where_nothing_was_tuned():
    plain = replace(STUDY, learning_rates=())
    tuned = Variant("tuned", {"strategy.name": "fedhm"}, grid={"local.epochs": (1, 2)})
    refuse_other_study(replace(plain, strategies=(*STUDY.strategies, tuned), tuning_rounds=9), plain, Path("runs/a"))


def test_a_folder_of_another_study_is_refused(finished):
    before = (finished.folder / "study.toml").read_bytes()
    with pytest.raises(ConfigError, match=r"^settings\.iid\.server\.rounds is 3"):
        compare(replace(STUDY, settings={"iid": LONGER}), finished.folder)
    assert (finished.folder / "study.toml").read_bytes() == before


def test_a_study_written_before_a_field_existed_goes_on(copy, monkeypatch):
    monkeypatch.setattr(runner, "write_comparison", lambda *_: None)
    file = copy / "study.toml"
    text = file.read_text()
    assert "dropout = 0.0\n" in text
    file.write_text(text.replace("dropout = 0.0\n", ""))
    assert len(compare(STUDY, copy).runs) == 4
    other = replace(SMALL, devices=DevicesConfig(dropout=0.1))
    with pytest.raises(ConfigError, match=r"^settings\.iid\.devices\.dropout is 0\.1, but must be 0\.0"):
        compare(replace(STUDY, settings={"iid": other}), copy)


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"a new folder, or one with this study's study\.toml"):
        compare(STUDY, tmp_path)
    with pytest.raises(ConfigError, match="a folder, not a file"):
        compare(STUDY, tmp_path / "precious.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_damaged_run_is_named(copy):
    (copy / "runs/iid/fedavg/seed-0/records.jsonl").write_text('{"round": 1')
    with pytest.raises(ConfigError, match=r"run is .*seed-0.*must be the folder of a finished run; move it away"):
        compare(STUDY, copy)


def test_a_run_of_another_config_does_not_pass_for_a_finished_one(copy):
    config = copy / "runs/iid/fedavg/seed-0/config.toml"
    config.write_text(config.read_text().replace("learning_rate = 0.05", "learning_rate = 0.03"))
    with pytest.raises(ConfigError, match=r"run is .*seed-0.*must be the folder of a run with the study's config"):
        compare(STUDY, copy)


def test_what_cannot_run_is_refused_before_anything_is_run(tmp_path):
    impossible = replace(SMALL, strategy=StrategyConfig("fedhm", widths=(1.0, 0.5, 0.25)))
    later = {"iid": SMALL, "impossible": impossible}
    with pytest.raises(ConfigError, match=r"^impossible, fedhm: learning rates: strategy\.widths is"):
        compare(replace(STUDY, settings=later), tmp_path / "study")
    with pytest.raises(ConfigError, match=r"data\.holdout is 240, but must be below 240"):
        compare(replace(STUDY, tuning_samples=240), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_study_made_in_python_needs_a_folder():
    with pytest.raises(ConfigError, match="folder is None"):
        compare(STUDY)
