"""Trackers write what a run reports, read back from the files that their real libraries leave, offline."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from fedhm_jax import (
    CallbackError,
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.config import config_to_toml
from fedhm_jax.results import RunPlan
from fedhm_jax.trackers import mlflow, scalars, tensorboard, trackers_of, wandb

CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=40),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 8)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=2),
)
PLAN = RunPlan(CONFIG, (), np.zeros((1, 1)), None, ())
RECORDS = [
    {"round": 1, "train_loss": {"f1": 2.0, "f4": None}, "total_bytes_up": 64},
    {"round": 2, "train_loss": {"f1": 1.0, "f4": 1.5}, "total_bytes_up": 128, "accuracy": {"global": 0.5}},
]
WANTED = [scalars(record) for record in RECORDS]


def test_numbers_of_a_record_have_names():
    assert WANTED[0] == {"round": 1.0, "train_loss/f1": 2.0, "total_bytes_up": 64.0}
    assert WANTED[1]["accuracy/global"] == 0.5


def track(tracker):
    with tracker(PLAN) as write:
        for record in RECORDS:
            write(record)


def events(folder):
    """Numbers by round, and all texts, from the event files of a folder: records with length and checksums around."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    numbers, texts = {}, []
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    numbers.setdefault(event.step, {})[value.tag] = value.simple_value
                else:
                    texts += [text.decode() for text in value.tensor.string_val]
    return numbers, texts


def test_a_run_leaves_event_files_in_its_folder(tmp_path):
    pytest.importorskip("tensorboardX")
    output = OutputConfig(folder=tmp_path / "run", trackers=("tensorboard",))
    result = simulate(replace(CONFIG, output=output), trackers=[tensorboard(tmp_path / "mine")])
    for folder in (tmp_path / "run" / "tensorboard", tmp_path / "mine"):
        numbers, texts = events(folder)
        assert sorted(numbers) == [1, 2]
        for record in result.history:
            found, wanted = numbers[record["round"]], scalars(record)
            assert found.keys() == wanted.keys() >= {"accuracy/global", "accuracy/f8", "train_loss/f1"}
            assert all(found[name] == pytest.approx(value, rel=1e-6) for name, value in wanted.items())
        assert texts == ["    " + config_to_toml(result.config).replace("\n", "\n    ")]


def entries(data):
    """Of a LevelDB log behind 7 bytes of its own: blocks of 32 KiB, an entry's parts with checksum, length and type."""
    whole, place = b"", 7
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its last part
            yield whole
            whole = b""


@pytest.mark.long
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    library = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    track(wandb(name="mine", folder=tmp_path))
    library.teardown()  # its own process writes the file, and is done when it ends
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rounds, config = [], {}
    for data in entries(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        rounds += [items] if items else []
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        assert record.run.display_name in ("", "mine")
    assert [{name: value for name, value in items.items() if name[0] != "_"} for items in rounds] == WANTED
    assert [items["_step"] for items in rounds] == [1, 2]
    assert config["partition"]["clients"] == 4


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of its own libraries
@pytest.mark.parametrize("fails", [False, True])
def test_mlflow_in_a_file(tmp_path, fails):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    if fails:
        with pytest.raises(ZeroDivisionError), mlflow(uri)(PLAN):
            raise ZeroDivisionError
    else:
        track(mlflow(uri, name="mine"))
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("fedhm_jax").experiment_id])
    assert run.info.status == ("FAILED" if fails else "FINISHED")
    assert run.data.params["partition.clients"] == "4"
    found = [{}, {}]
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            found[metric.step - 1][name] = metric.value
    assert found == ([{}, {}] if fails else WANTED)


def test_a_library_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    sentence = (
        "output.trackers is 'wandb', but must be one whose library is installed: pip install 'fedhm-jax[trackers]', "
        "or wandb alone"
    )
    with pytest.raises(ConfigError) as caught:
        simulate(replace(CONFIG, output=OutputConfig(folder=tmp_path / "run", trackers=("wandb",))))
    assert str(caught.value) == sentence
    assert not (tmp_path / "run").exists()


def test_without_a_folder_and_by_other_names_trackers_are_refused():
    with pytest.raises(ConfigError, match=r"but must be empty unless output\.folder is set"):
        trackers_of(OutputConfig(trackers=("tensorboard",)))
    with pytest.raises(ConfigError) as caught:
        simulate(replace(CONFIG, output=OutputConfig(trackers=("neptune",))))
    assert str(caught.value) == (
        "output.trackers is ('neptune',), but must be a tuple, each entry one of 'tensorboard', 'wandb', 'mlflow'"
    )


def test_one_that_cannot_start_is_named_before_the_first_round():
    def offline(plan):
        raise OSError("no network")

    with pytest.raises(CallbackError, match=r"offline of test_trackers raised OSError before the first round: no netw"):
        simulate(CONFIG, trackers=[offline])
