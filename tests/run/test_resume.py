"""Runs that were stopped in every way go on to the results of one that was not."""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import pytest
from support.equality import same_run

import fedhm_jax.reporting.run_report
import fedhm_jax.run.host_loop
import fedhm_jax.run.resumption
import fedhm_jax.run.simulation
from fedhm_jax import (
    CheckpointConfig,
    ConfigError,
    DataConfig,
    EvaluationConfig,
    Interrupted,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    TiersConfig,
    WriteError,
    read_config,
    simulate,
)
from fedhm_jax.cli import main
from fedhm_jax.config.config_file import config_from_dict, config_to_toml
from fedhm_jax.data.images.sources import load_dataset
from fedhm_jax.run.preparation.assembly import Run, prepare
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.run.program import Program, program_of
from fedhm_jax.run.resumption import stored_config
from fedhm_jax.testing import farthest

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1, 4), assignment="dynamic"),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=12),
    checkpoint=CheckpointConfig(every=2, keep=3),
)


def in_folder(folder: Path | None, config: SimulationConfig = SMALL, **sections: Any) -> SimulationConfig:
    return replace(config, output=OutputConfig(folder=folder), **sections)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Runs that compute the same share one compiled program, and draw nothing: a run costs its rounds and its files."""

    @cache
    def prepared(text: str) -> Run:
        run = prepare(config_from_dict(tomllib.loads(text)))
        return run._replace(state=copied(run.state))

    @cache
    def compiled(text: str, most_rounds: int) -> Program:
        return program_of([prepared(text)], most_rounds)

    def copied(state: Any) -> Any:
        """A round gives the state's memory away."""
        return jax.tree.map(lambda leaf: leaf.copy(), state)

    def shared(config: SimulationConfig) -> str:
        """Neither the number of rounds nor the learning rate is compiled into a program."""
        local = replace(config.local, schedule="constant", learning_rate=0.1)
        server = replace(config.server, rounds=1)
        return config_to_toml(
            replace(config, local=local, server=server, output=OutputConfig(), checkpoint=CheckpointConfig())
        )

    def prepare_again(config: SimulationConfig, given: HandedOver) -> Run:
        if given != HandedOver():
            return prepare(config, given)
        run = prepared(shared(config))
        return run._replace(
            state=copied(run.state), parts=run.parts._replace(plan=replace(run.parts.plan, config=config))
        )

    def program_again(runs: list[Run], most_rounds: int) -> Program:
        return compiled(shared(runs[0].parts.plan.config), most_rounds)._replace(state=runs[0].state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedhm_jax.run.simulation, "prepare", prepare_again)
        patch.setattr(fedhm_jax.run.host_loop, "program_of", program_again)
        patch.setattr(fedhm_jax.reporting.run_report, "partition_figure", lambda *_: None)
        patch.setattr(fedhm_jax.reporting.run_report, "training_figure", lambda *_: None)
        patch.setattr(fedhm_jax.reporting.run_report, "save_figure", lambda _, path: path.write_bytes(b"figure"))
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return simulate(in_folder(tmp_path_factory.mktemp("unbroken") / "run"))


def stop_after(round: int, how: Callable[[], None]) -> list[Callable[[Any], None]]:
    return [lambda record: how() if record["round"] == round else None]


class Death(BaseException):
    """The process ends here, and nothing is tidied up."""


def die() -> None:
    raise Death


def died_after(round: int, folder: Path, config: SimulationConfig = SMALL, **arguments: Any) -> Path:
    with pytest.raises(Death):
        simulate(in_folder(folder, config), on_round=stop_after(round, die), **arguments)
    return folder


# --- death -----------------------------------------------------------------------------------------------------------


class Moments:
    """Steps of the main thread on files below a folder, counted; at a chosen one, something happens in its place."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.count = 0
        self.fatal: int | None = None
        self.happens: Callable[[], None] = die

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None or event not in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            return
        if threading.current_thread() is threading.main_thread() and str(args[0]).startswith(self.folder):
            self.count += 1
            if self.count == self.fatal:
                self.folder = None
                self.happens()


@pytest.fixture(scope="module")
def moments() -> Moments:
    moments = Moments()
    sys.addaudithook(moments.hook)  # stays for good, and does nothing without a folder
    return moments


@pytest.mark.parametrize("deaths", [6, pytest.param(20, marks=pytest.mark.long)])
def test_death_at_random_moments_changes_nothing(
    unbroken: SimulationResult, tmp_path: Path, moments: Moments, deaths: int
) -> None:
    moments.folder, moments.fatal = str(tmp_path / "whole"), None
    simulate(in_folder(tmp_path / "whole"))
    steps, moments.folder = moments.count, None
    assert steps > 80
    for fatal in random.Random(0).sample(range(1, steps), deaths):
        folder = tmp_path / f"died-at-{fatal}"
        moments.folder, moments.count, moments.fatal = str(folder), 0, fatal
        with pytest.raises(Death):
            simulate(in_folder(folder))
        begun = (folder / "config.toml").exists()
        result = simulate(resume=folder) if begun else simulate(in_folder(tmp_path / f"anew-{fatal}"))
        same_run(result, unbroken)
        assert not [path for path in folder.rglob("*.part") if begun]
        assert not [path for path in folder.rglob("*.old") if begun]


DRIVER = """
import os, random, signal, sys
from pathlib import Path
from fedhm_jax import read_config, simulate
from dataclasses import replace
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
config = read_config(folder.with_suffix(".toml"))
steps = random.Random(seed).randrange(20, 80)
def hook(event, args):
    global steps
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(args[0]).startswith(str(folder)):
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
if seed:
    sys.addaudithook(hook)
simulate(replace(config, output=replace(config.output, folder=folder)))
"""
"""Runs a config; with a seed, kills itself at a random step on its files, most of which write checkpoints."""


@pytest.mark.long
def test_kill_minus_nine_changes_nothing(unbroken: SimulationResult, tmp_path: Path) -> None:
    processes = []
    for seed in (0, 1, 2):
        folder = tmp_path / f"run{seed}"
        folder.with_suffix(".toml").write_text(config_to_toml(SMALL))
        processes.append((folder, subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), str(seed)])))
    timed, process = processes[0]
    records = timed / "records.jsonl"
    while process.poll() is None and not (records.exists() and records.read_bytes().count(b"\n") >= 2):
        time.sleep(0.005)
    time.sleep(random.Random(0).uniform(0, 0.2))
    process.kill()
    for folder, process in processes:
        assert process.wait() == -signal.SIGKILL
        same_run(simulate(resume=folder), unbroken)


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "round"), [(signal.SIGINT, 5), (signal.SIGTERM, 6)])
def test_a_signal_ends_the_run_after_its_round_with_a_checkpoint(
    unbroken: SimulationResult, tmp_path: Path, number: int, round: int
) -> None:
    folder, handlers = tmp_path / "run", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as caught:
        simulate(in_folder(folder), on_round=stop_after(round, lambda: signal.raise_signal(number)))
    stop = caught.value
    assert (stop.folder, stop.round, stop.signal) == (folder, round, number)
    assert isinstance(stop, KeyboardInterrupt)
    assert str(stop) == f"stopped after round {round}; simulate(resume={str(folder)!r}) goes on from there"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (folder / "checkpoints" / f"round-{round:06d}").exists()
    assert len((folder / "records.jsonl").read_text().splitlines()) == round
    same_run(simulate(resume=str(folder)), unbroken)


def test_a_second_ctrl_c_is_a_plain_one(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        simulate(in_folder(tmp_path / "run"), on_round=stop_after(3, twice))
    assert type(caught.value) is KeyboardInterrupt


def test_a_signal_in_the_last_round_stops_nothing(unbroken: SimulationResult, tmp_path: Path) -> None:
    stop = stop_after(12, lambda: signal.raise_signal(signal.SIGTERM))
    same_run(simulate(in_folder(tmp_path / "run"), on_round=stop), unbroken)


def test_without_a_folder_ctrl_c_is_a_plain_one() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        simulate(in_folder(None), on_round=stop_after(1, lambda: signal.raise_signal(signal.SIGINT)))
    assert type(caught.value) is KeyboardInterrupt


def test_a_run_in_another_thread_goes_its_way(unbroken: SimulationResult, tmp_path: Path) -> None:
    results: list[SimulationResult] = []
    thread = threading.Thread(target=lambda: results.append(simulate(in_folder(tmp_path / "run"))))
    thread.start()
    thread.join()
    same_run(results[0], unbroken)


def test_the_command_line_goes_on_too(
    unbroken: SimulationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = died_after(7, tmp_path / "run")
    assert main(["simulate", "--resume", str(folder)]) == 0
    assert f"Written to {folder}" in capsys.readouterr().out
    same_run(simulate(resume=folder), unbroken)
    assert main(["simulate", "--resume", str(folder)]) == 0
    assert capsys.readouterr().err == f"fedhm: the run in {folder} has finished its 12 rounds; nothing to do\n"
    assert main(["simulate", "--resume", str(folder), "--server.rounds", "13"]) == 0
    assert len((folder / "records.jsonl").read_text().splitlines()) == 13
    assert main(["simulate", "--resume", str(folder), "--local.epochs", "3"]) == 2
    sentence = "local.epochs is 3, but must be 1, as in the run that is resumed"
    assert capsys.readouterr().err == f"fedhm: error: {sentence}\n"


# --- what goes on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"strategy": StrategyConfig(name="fedrolex", widths=(1.0, 0.5))}, marks=pytest.mark.long),
        pytest.param({"strategy": StrategyConfig(name="splitmix", widths=(1.0, 0.5))}, marks=pytest.mark.long),
        pytest.param({"strategy": StrategyConfig(name="fiarse")}, marks=pytest.mark.long),
        pytest.param({"strategy": StrategyConfig(name="depthfl")}, marks=pytest.mark.long),
        pytest.param({"server": ServerConfig(rounds=4, devices=2)}, marks=pytest.mark.long),
        {"local": replace(SMALL.local, schedule="cosine")},
        pytest.param(
            {"evaluation": EvaluationConfig(every=4), "checkpoint": CheckpointConfig()}, marks=pytest.mark.long
        ),
    ],
    ids=["fedrolex", "splitmix", "fiarse", "depthfl", "two devices", "cosine", "rounds in a row"],
)
def test_other_runs_go_on_as_well(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A state that counts rounds, one of several models, one on several devices; a rate that follows the round; records
    without a state in between."""
    config = replace(SMALL, **{"server": ServerConfig(rounds=4), **changes})
    expected = simulate(in_folder(None, config))
    same_run(simulate(resume=died_after(3, tmp_path / "run", config)), expected)


def test_more_rounds_than_before(unbroken: SimulationResult, tmp_path: Path) -> None:
    short = replace(SMALL, server=ServerConfig(rounds=5))
    folder = tmp_path / "run"
    simulate(in_folder(folder, short))
    result = simulate(SMALL, resume=folder)
    same_run(result, unbroken)
    assert read_config(folder / "config.toml") == replace(SMALL, output=OutputConfig())
    assert json.loads((folder / "summary.json").read_text())["rounds"] == 12


def test_a_finished_run_is_read_back_and_nothing_is_written(unbroken: SimulationResult) -> None:
    def everything() -> dict[Path, tuple[bytes, int]]:
        files = (path for path in unbroken.folder.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before, rounds = everything(), []
    result = simulate(resume=unbroken.folder, on_round=[rounds.append])
    same_run(result, unbroken)
    assert everything() == before
    assert rounds == []


def test_a_run_stopped_between_its_last_round_and_its_summary_gets_one(
    unbroken: SimulationResult, tmp_path: Path
) -> None:
    folder = died_after(12, tmp_path / "run")
    assert not (folder / "summary.json").exists()
    same_run(simulate(resume=folder), unbroken)
    assert json.loads((folder / "summary.json").read_text())["rounds"] == 12
    assert (folder / "accuracy.png").exists()


def test_only_the_latest_checkpoints_are_there(unbroken: SimulationResult) -> None:
    names = sorted(path.name for path in (unbroken.folder / "checkpoints").iterdir())
    assert names == ["round-000008", "round-000010", "round-000012"]


def test_a_cut_last_record_is_made_again(unbroken: SimulationResult, tmp_path: Path) -> None:
    folder = died_after(5, tmp_path / "run")
    with open(folder / "records.jsonl", "a") as file:
        file.write('{"round": 6, "learning_ra')
    same_run(simulate(resume=folder), unbroken)


# --- what does not ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:
    """A run stopped after round 5, with checkpoints of rounds 1, 2 and 4; not to be changed."""
    return died_after(5, tmp_path_factory.mktemp("stopped") / "run")


@pytest.fixture
def copy(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"local": replace(SMALL.local, epochs=2)},
            "local.epochs is 2, but must be 1, as in the run that is resumed",
        ),
        (
            {"server": replace(SMALL.server, seed=1)},
            "server.seed is 1, but must be 0, as in the run that is resumed",
        ),
        (
            {
                "tiers": replace(SMALL.tiers, rank_factors=(1, 8)),
                "strategy": StrategyConfig("fedhm", weighting="samples"),
            },
            "tiers.rank_factors is (1, 8), but must be (1, 4), as in the run that is resumed",
        ),
        ({"checkpoint": CheckpointConfig(keep=0)}, "checkpoint.keep is 0, but must be an integer of at least 1"),
        (
            {"output": OutputConfig(folder=Path("elsewhere"))},
            "output.folder is 'elsewhere', but must be unset or {folder!r}, the folder of the run to resume",
        ),
    ],
)
def test_another_config_is_refused_by_its_first_field(stopped: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(replace(SMALL, **changes), resume=stopped)
    assert str(caught.value) == sentence.format(folder=str(stopped))


def test_fields_that_change_no_result_may_change(unbroken: SimulationResult, copy: Path, tmp_path: Path) -> None:
    config = replace(
        SMALL,
        data=replace(SMALL.data, data_dir=tmp_path, cache_dir=tmp_path),
        output=OutputConfig(folder=copy, progress=False),
        checkpoint=CheckpointConfig(every=5, keep=1),
    )
    same_run(simulate(config, resume=copy), unbroken)
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["round-000012"]


def test_cosine_runs_keep_their_number_of_rounds(tmp_path: Path) -> None:
    cosine = replace(SMALL, local=replace(SMALL.local, schedule="cosine"), server=ServerConfig(rounds=4))
    folder = died_after(1, tmp_path / "run", cosine)
    with pytest.raises(ConfigError, match=r"server\.rounds is 8, but must be 4, as in the run that is resumed"):
        simulate(replace(cosine, server=ServerConfig(rounds=8)), resume=folder)


def test_fewer_rounds_than_are_finished_are_refused_with_an_offer(stopped: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(replace(SMALL, server=ServerConfig(rounds=3)), resume=stopped)
    home = stopped / "checkpoints"
    assert str(caught.value) == (
        f"the checkpoint {home / 'round-000004'} has finished 4 rounds, more than server.rounds, which is 3; "
        f"the newest good one is {home / 'round-000002'}"
    )


def damage(place: Path) -> None:
    path = max((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_newest_good_one_is_offered(
    unbroken: SimulationResult, copy: Path
) -> None:
    home = copy / "checkpoints"
    damage(home / "round-000004")
    with pytest.raises(ConfigError) as caught:
        simulate(resume=copy)
    assert str(caught.value).startswith(f"the checkpoint {home / 'round-000004'} has other bytes than were written")
    assert str(caught.value).endswith(f"; the newest good one is {home / 'round-000002'}")
    assert len((copy / "records.jsonl").read_text().splitlines()) == 5, "nothing was touched"
    same_run(simulate(resume=home / "round-000002"), unbroken)
    same_run(simulate(resume=copy), unbroken)


def test_when_all_are_damaged_none_is_offered(copy: Path) -> None:
    for place in (copy / "checkpoints").iterdir():
        (place / "manifest.json").write_text((place / "manifest.json").read_text()[:100])
    with pytest.raises(ConfigError) as caught:
        simulate(resume=copy)
    assert str(caught.value) == (
        f"the checkpoint {copy / 'checkpoints' / 'round-000004'} has no manifest.json that can be read; "
        "no other checkpoint of the run can be used"
    )


@pytest.mark.parametrize(("name", "then"), [("jax", "0.4.1"), ("fedhm-jax", "0.0.9"), ("device", "TPU v9")])
def test_other_versions_and_devices_are_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, name: str, then: str
) -> None:
    here = fedhm_jax.run.resumption.environment()
    monkeypatch.setattr(fedhm_jax.run.resumption, "environment", lambda: {**here, name: then})
    sentence = rf"was written with {name} {here[name]}, but here it is {then}; no other checkpoint of the run can be"
    with pytest.raises(ConfigError, match=sentence):
        simulate(resume=stopped)


@pytest.mark.long
@pytest.mark.parametrize("placing", [{"devices": 3}, {"devices": 2, "samples": "sharded"}])
def test_a_run_goes_on_on_another_number_of_devices(
    unbroken: SimulationResult, copy: Path, placing: dict[str, Any]
) -> None:
    """To the same bits as users compile; the quick compilation of these tests rounds differently."""
    config = stored_config(copy)
    result = simulate(replace(config, server=replace(config.server, **placing)), resume=copy)
    assert len(result.history) == len(unbroken.history)
    assert farthest(result.params, unbroken.params) < 2e-5


def test_an_edited_config_file_is_noticed(copy: Path) -> None:
    file = copy / "config.toml"
    file.write_text(file.read_text().replace("momentum = 0.9", "momentum = 0.8"))
    with pytest.raises(ConfigError, match=r"was written with local\.momentum 0\.9, but now it is 0\.8; no other"):
        simulate(resume=copy)


def test_other_data_are_refused(stopped: Path) -> None:
    digits = load_dataset("digits", train_samples=240, test_samples=60)
    other = digits._replace(test_images=digits.test_images[::-1])
    with pytest.raises(ConfigError, match="the test set must be the same as when the run to resume began, but is not"):
        simulate(resume=stopped, data=other)


def test_a_run_that_had_not_finished_a_round_begins_anew(
    unbroken: SimulationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fedhm_jax.run.host_loop, "write_checkpoint", lambda *_: die())
        with pytest.raises(Death):
            simulate(in_folder(folder))
    (folder / "partition.png").unlink()
    same_run(simulate(resume=folder), unbroken)
    assert (folder / "partition.png").exists()


def test_without_its_checkpoints_a_run_is_left_alone(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ConfigError, match="must be the folder of a run whose checkpoints are still there"):
        simulate(resume=copy)
    assert len((copy / "records.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("name", ["nowhere", "empty", "empty/checkpoints/round-000001"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"resume is '.*', but must be the folder of a run"):
        simulate(resume=tmp_path / name)


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [100, 1], ids=["record", "checkpoint"])
def test_a_disk_that_fills_up_stops_the_run_in_one_sentence(
    unbroken: SimulationResult, tmp_path: Path, every: int
) -> None:
    """Files may not grow beyond what records.jsonl has after round 5 and half a line."""
    folder = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up() -> None:
        size = (folder / "records.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300 if every == 100 else 1000, hard))

    try:
        config = replace(SMALL, checkpoint=CheckpointConfig(every=every))
        with pytest.raises(WriteError) as caught:
            simulate(in_folder(folder, config), on_round=stop_after(5, fill_up))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    what, where = ("record", folder) if every == 100 else ("checkpoint", folder / "checkpoints")
    assert str(caught.value) == f"the {what} of round 6 could not be written to '{where}' (File too large)"
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == [1, 2, 3, 4, 5]
    assert not list((folder / "checkpoints").glob("*.part"))
    same_run(simulate(resume=folder), unbroken)
