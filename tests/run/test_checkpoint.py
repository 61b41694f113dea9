"""Checkpoints on disk: whole or not there, every changed byte noticed, no code run."""

import itertools
import json
import os
import pickle
import random
import re
import resource
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fedhm_jax.run.checkpoint
from fedhm_jax.files import WriteError
from fedhm_jax.run.checkpoint import (
    SHARE,
    Checkpoint,
    DamagedCheckpoint,
    checkpoints,
    is_due,
    read_checkpoint,
    read_manifest,
    remove_later,
    write_checkpoint,
)

ARRAYS = [
    np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.array(7, np.int32),
    np.array([[True], [False]]),
    np.array([1.5, -2.25], ml_dtypes.bfloat16),
    np.zeros((0, 3), np.float32),
    np.array([1, 2**32 - 1], np.uint32),
]


def made(round: int, arrays: Any = ARRAYS) -> Checkpoint:
    history = [{"round": number, "loss": {"f1": 0.1 * number}} for number in range(1, round + 1)]
    return Checkpoint(round, arrays, history, {"config": {"server": {"rounds": 9}}})


def rounds(folder: Path) -> list[int]:
    return [int(place.name.removeprefix("round-")) for place in checkpoints(folder)]


def bits(checkpoint: Checkpoint) -> Any:
    arrays = [(array.dtype, array.shape, array.tobytes()) for array in checkpoint.arrays]
    return checkpoint.round, arrays, repr(list(checkpoint.history)), checkpoint.fingerprint


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_checkpoint(folder, made(3), keep=1)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(written, tmp_path / "copy")) / "checkpoints" / "round-000003"


def test_what_is_read_is_what_was_written_to_the_bit(tmp_path: Path) -> None:
    checkpoint = made(2)._replace(history=[{"round": 1, "loss": float("nan"), "rate": 0.1 + 0.2, "none": None}])
    write_checkpoint(tmp_path, checkpoint, keep=1)
    assert bits(read_checkpoint(checkpoints(tmp_path)[0])) == bits(checkpoint)


def test_the_latest_ones_are_kept(tmp_path: Path) -> None:
    assert checkpoints(tmp_path) == []
    for round in (1, 2, 999_999, 1_000_000):
        write_checkpoint(tmp_path, made(1)._replace(round=round), keep=2)
    assert rounds(tmp_path) == [999_999, 1_000_000]
    write_checkpoint(tmp_path, made(1)._replace(round=1_000_000, fingerprint={"again": True}), keep=2)
    assert read_checkpoint(checkpoints(tmp_path)[-1]).fingerprint == {"again": True}
    remove_later(tmp_path, 999_999)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["round-999999"]


@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_cadence_in_rounds_is_kept(every: int) -> None:
    due = [finished for finished in range(1, 21) if is_due(every, finished, 20, 1e-9, 1e9)]
    assert due == sorted({1, 20, *range(every, 21, every)})


def test_without_a_cadence_checkpoints_take_their_share_and_no_more() -> None:
    """A clock of its own: rounds between a millisecond and a second, checkpoints of 30 to 60 ms."""
    generator = random.Random(0)
    now, ended, taken, spent = 0.0, 0.0, 0.05, []
    for finished in range(2, 5001):
        now += 10 ** generator.uniform(-3, 0)
        if is_due(None, finished, 10_000, now - ended, taken):
            taken = generator.uniform(0.03, 0.06)
            spent.append(taken)
            now = ended = now + taken
    assert SHARE / 3 < sum(spent) / now <= SHARE


def test_a_file_that_is_cut_changed_or_lost_is_named(copy: Path) -> None:
    for path in [path for path in copy.rglob("*") if path.is_file() and path.stat().st_size]:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[random.Random(0).randrange(len(whole))] ^= 4
        other = b"{}" if path.name == "manifest.json" else bytes(flipped)
        for damaged in (whole[: len(whole) // 2], b"", other, None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(DamagedCheckpoint, match=re.escape(path.relative_to(copy).as_posix())) as caught:
                read_checkpoint(copy)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    assert bits(read_checkpoint(copy)) == bits(made(3))


def test_no_flipped_byte_of_the_manifest_changes_what_is_read(copy: Path) -> None:
    path = copy / "manifest.json"
    whole, expected = path.read_bytes(), read_manifest(copy)
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 7)
        path.write_bytes(flipped)
        with suppress(DamagedCheckpoint):  # white space may change
            assert read_manifest(copy) == expected


class Death(BaseException):
    """The process ends here, and nothing is tidied up."""


DISK = [(os, "replace"), (shutil, "rmtree"), (Path, "mkdir"), (Path, "write_text"), (Path, "write_bytes")]


def dying(function: Callable[..., Any], moments: list[int], after: bool) -> Callable[..., Any]:
    """The function, dead at the moment whose countdown ends: before it has done anything, or after it is done."""

    def call(*args: Any, **kwargs: Any) -> Any:
        moments[0] -= 1
        dead = moments[0] < 0
        if dead and not after:
            raise Death
        result = function(*args, **kwargs)
        if dead:
            raise Death
        return result

    return call


@pytest.mark.parametrize("after", [False, True])
def test_a_process_that_dies_at_any_step_of_writing_leaves_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        for round in (1, 2):
            write_checkpoint(folder, made(round), keep=2)
        with monkeypatch.context() as patch:
            moments = [step]
            for owner, name in DISK:
                patch.setattr(owner, name, dying(getattr(owner, name), moments, after))
            with suppress(Death):
                write_checkpoint(folder, made(3), keep=2)
        assert rounds(folder)[-1] in (2, 3)
        for place in checkpoints(folder):
            assert read_manifest(place)["round"] == int(place.name.removeprefix("round-"))
        write_checkpoint(folder, made(4), keep=2)
        last = "round-000002" if rounds(folder)[0] == 2 else "round-000003"
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {last, "round-000004"}
        if moments[0] >= 0:  # it was over before its moment came
            break
    assert step > 7, "it died at eight steps or more"


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path, made(1), keep=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        noise = np.random.default_rng(0).random(10_000)
        with pytest.raises(WriteError) as caught:
            write_checkpoint(tmp_path, made(2, [noise]), keep=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = tmp_path / "checkpoints"
    assert str(caught.value) == f"the checkpoint of round 2 could not be written to '{folder}' (File too large)"
    assert [path.name for path in folder.iterdir()] == ["round-000001"]
    assert bits(read_checkpoint(folder / "round-000001")) == bits(made(1))
    assert capfd.readouterr().err == ""


def test_reading_runs_no_code_from_a_file(copy: Path, tmp_path: Path) -> None:
    """Every file in turn is replaced by one that runs a command when it is unpickled, and the digests are made anew."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    pickle.loads(pickle.dumps(Payload()))
    assert (tmp_path / "ran").exists(), "the payload works"
    (tmp_path / "ran").unlink()
    for path in [path for path in copy.rglob("*") if path.is_file() and path.name != "manifest.json"]:
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(Payload()))
        manifest = {**read_json(copy), "files": {n: list(e) for n, e in fedhm_jax.run.checkpoint._files(copy).items()}}
        manifest["digest"] = fedhm_jax.run.checkpoint._digest(fedhm_jax.run.checkpoint._canonical(manifest))
        (copy / "manifest.json").write_text(json.dumps(manifest))
        assert read_manifest(copy)["round"] == 3
        with suppress(Exception):
            read_checkpoint(copy)
        path.write_bytes(whole)
    assert not (tmp_path / "ran").exists()


def read_json(place: Path) -> dict[str, Any]:
    manifest = json.loads((place / "manifest.json").read_text())
    del manifest["digest"]
    return manifest
