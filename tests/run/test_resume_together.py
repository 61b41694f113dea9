"""The round that interrupted runs go on from side by side: the latest that all of them can go on from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedhm_jax import OutputConfig, ServerConfig, SimulationConfig
from fedhm_jax.config.config_file import config_to_dict
from fedhm_jax.run.checkpoint import Checkpoint, checkpoint_of, common_rounds, write_checkpoint
from fedhm_jax.run.resumption import environment, find_common_start

FINGERPRINT = {"digests": {"the training set": "a"}, "handed_over": {}, "program": None}


def start(configs: list[SimulationConfig]) -> list[Checkpoint] | None:
    folders = [config.output.folder for config in configs if config.output.folder is not None]
    return find_common_start(folders, configs, [FINGERPRINT] * len(configs))


def run(folder: Path, seed: int, rounds: range, **other: Any) -> SimulationConfig:
    """A run's config, and its folder with a checkpoint of each of some rounds."""
    folder.mkdir()
    config = SimulationConfig(server=ServerConfig(seed=seed), output=OutputConfig(folder=folder))
    fingerprint = {"config": config_to_dict(config), "environment": environment(), **FINGERPRINT, **other}
    for round in rounds:
        arrays = [np.full(2, seed + round, np.float32)]
        write_checkpoint(folder, Checkpoint(round, arrays, [{"round": round}], fingerprint), keep=9)
    return config


def test_the_latest_round_of_all_is_taken(tmp_path: Path) -> None:
    configs = [run(tmp_path / "one", 10, range(1, 5)), run(tmp_path / "two", 20, range(2, 7))]
    assert common_rounds([tmp_path / "one", tmp_path / "two"]) == [4, 3, 2]
    found = start(configs)
    assert found is not None
    assert [(one.round, one.arrays[0].tolist()) for one in found] == [(4, [14, 14]), (4, [24, 24])]
    (checkpoint_of(tmp_path / "two", 4) / "records.jsonl").write_text("{}\n")
    found = start(configs)
    assert found is not None
    assert [one.round for one in found] == [3, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


OTHERS: dict[str, Any] = {
    "another version": {"environment": {"jax": "0.4.1"}},
    "other data": {"digests": {"the training set": "b"}},
    "another model": {"program": "c"},
}


@pytest.mark.parametrize("second", ["other rounds", "another config", "nothing", *OTHERS])
def test_where_no_round_is_good_all_begin_anew_and_nothing_is_lost(tmp_path: Path, second: str) -> None:
    first = run(tmp_path / "one", 1, range(1, 3))
    rounds = {"other rounds": range(3, 5), "nothing": range(0)}.get(second, range(1, 3))
    other = run(tmp_path / "two", 2, rounds, **OTHERS.get(second, {}))
    if second == "another config":
        other = replace(other, server=replace(other.server, seed=3))
    assert start([first, other]) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one-interrupted-1", "two-interrupted-1"]
    assert common_rounds([tmp_path / "one-interrupted-1"]) == [2, 1]


def test_runs_that_never_began_leave_nothing_behind(tmp_path: Path) -> None:
    config = SimulationConfig(output=OutputConfig(folder=tmp_path / "new"))
    assert start([config, config]) is None
    assert list(tmp_path.iterdir()) == []
