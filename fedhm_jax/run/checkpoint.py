"""Checkpoints of a run on disk: written atomically, checked byte by byte before anything in them is used.

A checkpoint is a folder ``<run>/checkpoints/round-000012``:

| file              | holds                                                                                          |
|-------------------|------------------------------------------------------------------------------------------------|
| state.safetensors | the bytes of every array of the server state, whatever its type                                |
| records.jsonl     | every `Record` so far                                                                          |
| manifest.json     | format, round, the run's fingerprint, types and shapes of the arrays, length and BLAKE2b digest |
|                   | of every file and of itself                                                                    |

It is put together under another name and renamed when it is complete, so a process that dies leaves it whole or not at
all. After a power failure, when a file may be cut although it was renamed, the digests tell. Reading runs no code
from a file: arrays are numbers, everything else is JSON.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from fedhm_jax.files import WriteError
from fedhm_jax.results import Record

FORMAT = 3
"""Of the manifest; another number is another layout."""

SHARE = 0.01
"""Share of the time that checkpoints take when no cadence is asked for; the one after the last round comes on top."""

_STATE = "state.safetensors"


class Checkpoint(NamedTuple):
    """A run between two rounds.

    Attributes:
        round: number of finished rounds.
        arrays: leaves of the server state.
        history: one `Record` a finished round.
        fingerprint: what tells this run from others, as JSON.
    """

    round: int
    arrays: Sequence[np.ndarray]
    history: Sequence[Record]
    fingerprint: Mapping[str, Any]


class DamagedCheckpoint(ValueError):
    """Not the bytes that were written; the message says what is wrong, in words that follow the checkpoint's path."""


def is_due(every: int | None, finished: int, rounds: int, seconds_since: float, seconds_taken: float) -> bool:
    """Whether a checkpoint is to be written after a round.

    Args:
        every: cadence in rounds; None writes when the last one took less than `SHARE` of the time since.
        finished: number of finished rounds.
        rounds: number of rounds of the run.
        seconds_since: wall time since the last checkpoint.
        seconds_taken: wall time that the last checkpoint took.

    Returns:
        The answer; always yes after the first and the last round.

    Example:
        >>> [is_due(4, finished, 10, 0.0, 0.0) for finished in (1, 2, 4, 9, 10)]
        [True, False, True, False, True]
        >>> [is_due(None, 5, 10, seconds_since, 0.1) for seconds_since in (9.9, 10.1)]
        [False, True]
    """
    if finished in (1, rounds):
        return True
    return seconds_taken <= SHARE * seconds_since if every is None else finished % every == 0


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, the oldest first; nothing is read.

    Args:
        folder: the run's folder.

    Returns:
        Their folders.
    """
    found = [path for path in _home(folder).glob("round-*") if re.fullmatch(r"round-\d+", path.name)]
    return sorted(found, key=_round_of)


def common_rounds(folders: Sequence[Path]) -> list[int]:
    """The rounds of which all of some runs have a checkpoint; nothing is read.

    Args:
        folders: the runs' folders; they need not exist.

    Returns:
        Numbers of finished rounds, the latest first.
    """
    rounds = [{_round_of(place) for place in checkpoints(folder)} for folder in folders]
    return sorted(set.intersection(*rounds), reverse=True)


def checkpoint_of(folder: Path, round: int) -> Path:
    """Where a run's checkpoint of a round is.

    Args:
        folder: the run's folder.
        round: number of finished rounds.

    Returns:
        The checkpoint's folder.
    """
    return _home(folder) / f"round-{round:06d}"


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint and removes the oldest ones.

    Args:
        folder: the run's folder.
        checkpoint: what to write.
        keep: number of checkpoints that stay.

    Raises:
        WriteError: it could not be written; nothing of it is left, and the earlier ones are intact.
    """
    place = checkpoint_of(folder, checkpoint.round)
    part = place.with_suffix(".part")
    try:
        _home(folder).mkdir(exist_ok=True)
        _clear_leftovers(folder)
        part.mkdir()
        _save_arrays(part / _STATE, checkpoint.arrays)
        lines = [json.dumps(record) + "\n" for record in checkpoint.history]
        (part / "records.jsonl").write_text("".join(lines), encoding="utf-8")
        (part / "manifest.json").write_text(_manifest(part, checkpoint), encoding="utf-8")
        if place.exists():
            _remove(place)
        os.replace(part, place)
        for old in checkpoints(folder)[:-keep]:
            _remove(old)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise WriteError.of(f"the checkpoint of round {checkpoint.round}", _home(folder), error) from error


def read_checkpoint(place: Path) -> Checkpoint:
    """Reads a checkpoint after a check of every byte.

    Args:
        place: its folder.

    Returns:
        The checkpoint.

    Raises:
        DamagedCheckpoint: it is not what was written.
    """
    manifest = read_manifest(place)
    lines = (place / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return Checkpoint(
        round=manifest["round"],
        arrays=_load_arrays(place / _STATE, manifest["arrays"]),
        history=tuple(json.loads(line) for line in lines),
        fingerprint=manifest["fingerprint"],
    )


def read_manifest(place: Path) -> dict[str, Any]:
    """Checks every byte of a checkpoint and reads what it says about itself.

    Args:
        place: its folder.

    Returns:
        ``round``, ``fingerprint``, ``arrays`` (type and shape of each) and ``files`` (length and digest of each).

    Raises:
        DamagedCheckpoint: it is not what was written.
    """
    try:
        manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        claimed = manifest.pop("digest")
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise DamagedCheckpoint("has no manifest.json that can be read") from error
    if claimed != _digest(_canonical(manifest)):
        raise DamagedCheckpoint("has a manifest.json that was changed after it was written")
    if manifest.get("format") != FORMAT:
        raise DamagedCheckpoint("was written by another version of fedhm_jax")
    there = _files(place)
    for name, (length, digest) in manifest["files"].items():
        if name not in there:
            raise DamagedCheckpoint(f"lacks its file {name}")
        if there[name][0] != length:
            raise DamagedCheckpoint(f"has {there[name][0]} bytes in place of {length} in its file {name}")
        if there[name][1] != digest:
            raise DamagedCheckpoint(f"has other bytes than were written in its file {name}")
    return manifest


def remove_later(folder: Path, round: int) -> None:
    """Removes the checkpoints after a round, which the run that goes on from there writes anew.

    Args:
        folder: the run's folder.
        round: number of finished rounds.
    """
    for place in checkpoints(folder):
        if _round_of(place) > round:
            _remove(place)


def _home(folder: Path) -> Path:
    return folder / "checkpoints"


def _round_of(place: Path) -> int:
    return int(place.name.removeprefix("round-"))


def _remove(place: Path) -> None:
    """Takes the name away first: a half-removed folder must not look like a checkpoint."""
    old = place.with_suffix(".old")
    os.replace(place, old)
    shutil.rmtree(old)


def _clear_leftovers(folder: Path) -> None:
    """What a process that died has left."""
    for pattern in ("round-*.part", "round-*.old"):
        for left in _home(folder).glob(pattern):
            shutil.rmtree(left)


def _manifest(part: Path, checkpoint: Checkpoint) -> str:
    manifest = {
        "format": FORMAT,
        "round": checkpoint.round,
        "fingerprint": checkpoint.fingerprint,
        "arrays": [[array.dtype.name, list(array.shape)] for array in checkpoint.arrays],
        "files": {name: list(entry) for name, entry in _files(part).items()},
    }
    return json.dumps({**manifest, "digest": _digest(_canonical(manifest))}, indent=1)


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


def _files(place: Path) -> dict[str, tuple[int, str]]:
    """Length and digest of every file but the manifest, by path."""
    paths = sorted(path for path in place.rglob("*") if path.is_file() and path != place / "manifest.json")
    return {path.relative_to(place).as_posix(): (len(data := path.read_bytes()), _digest(data)) for path in paths}


def _save_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """As bytes: of the types that a state may hold, safetensors for NumPy does not know all."""
    path.write_bytes(save({str(index): _bytes_of(array) for index, array in enumerate(arrays)}))


def _load_arrays(path: Path, kinds: Sequence[tuple[str, Sequence[int]]]) -> list[np.ndarray]:
    held = load(path.read_bytes())
    return [held[str(index)].view(np.dtype(name)).reshape(shape) for index, (name, shape) in enumerate(kinds)]


def _bytes_of(array: np.ndarray) -> np.ndarray:
    """The array's memory; a copy only where the memory has gaps."""
    return array.reshape(-1).view(np.uint8)
