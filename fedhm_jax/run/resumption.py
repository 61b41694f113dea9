"""Where an interrupted run goes on, and whether it may.

All randomness of a run follows from ``server.seed`` and the number of the round: the cohort is drawn from the seed and
the round, and the round's PRNG key is the run's key folded with the round. So the number of finished rounds is the
state of both the sampler and the PRNG. A checkpoint holds digests of the key and of what the sampler draws from, and a
run that would draw otherwise is refused.

The code is known by the versions of this package and of the libraries that compute; changes to the source without a
new version are not noticed. A model or strategy that was handed over is known by the program that is traced from it.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedhm_jax.config import (
    SimulationConfig,
    check_config,
    check_types,
    config_from_dict,
    config_to_dict,
    read_config,
    read_handed_over,
)
from fedhm_jax.data import Images
from fedhm_jax.engine import show_cores
from fedhm_jax.errors import ConfigError, shown
from fedhm_jax.files import set_aside
from fedhm_jax.reporting import is_finished
from fedhm_jax.run.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_of,
    checkpoints,
    common_rounds,
    read_checkpoint,
    read_manifest,
)
from fedhm_jax.run.preparation.assembly import Run, data_on_host
from fedhm_jax.run.traced_program import CODE, refuse_other_program, training_digest
from fedhm_jax.strategies import State

_FREE = {
    "data.data_dir",
    "data.cache_dir",
    "model.init",
    "output.folder",
    "output.progress",
    "output.compilation_cache",
    "output.trackers",
    "checkpoint.every",
    "checkpoint.keep",
    "server.clients_per_chunk",
    "server.devices",
    "server.samples",
}
"""Fields that may be others when a run goes on: they do not change its results, the chunk but for rounding. A run that
ran out of memory must be able to go on with a smaller one. Of a file to start from, the content decides."""


class Start(NamedTuple):
    """Where a run begins.

    Attributes:
        config: what to run, with the run's folder.
        checkpoint: the finished rounds; None if the run was stopped before its first checkpoint.
        finished: nothing is left to do.
        handed_over: names of what the run takes besides its config, by argument of `simulate`.
    """

    config: SimulationConfig
    checkpoint: Checkpoint | None
    finished: bool
    handed_over: Mapping[str, str]


def find_start(resume: Path | str, config: SimulationConfig | None = None) -> Start:
    """Finds the checkpoint that a run goes on from, and checks that it can.

    ``server.rounds`` may be another number than the run was started with, but not below the rounds that are finished,
    and not with a cosine schedule, whose learning rates depend on it. Folders, all of ``output``, ``checkpoint``,
    ``server.devices``, ``server.samples`` and ``server.clients_per_chunk`` may change as well; nothing else.

    Args:
        resume: the run's folder, for its latest checkpoint, or one checkpoint's folder.
        config: the config to go on with; the run's own if None.

    Returns:
        The start, its checkpoint checked byte by byte.

    Raises:
        ConfigError: there is no such run; the config is not the run's; or the checkpoint is damaged, or was written
            with other versions or on another kind of device. The sentence then ends with the newest checkpoint that
            can be used instead.
    """
    folder, place = _run_and_checkpoint(Path(resume))
    stored = stored_config(resume)
    if config is None:
        config = stored
    check_types(config)
    config = _in_folder(config, folder)
    check_config(replace(config, output=replace(config.output, folder=None)))
    show_cores(config.server.devices)
    for name, now, then in _differences(config, stored):
        raise ConfigError.of(name, now, f"{shown(then)}, as in the run that is resumed")
    if place is None:
        _refuse_lost_checkpoints(folder)
        return Start(config, None, finished=False, handed_over=read_handed_over(folder / "config.toml"))
    problem = _problem(place, config)
    if problem is not None:
        others = (other for other in reversed(checkpoints(folder)) if other != place)
        good = next((other for other in others if _problem(other, config) is None), None)
        instead = "no other checkpoint of the run can be used" if good is None else f"the newest good one is {good}"
        raise ConfigError(f"the checkpoint {place} {problem}; {instead}")
    checkpoint = read_checkpoint(place)
    finished = is_finished(folder) and checkpoint.round == config.server.rounds
    return Start(config, checkpoint, finished, checkpoint.fingerprint["handed_over"])


def find_common_start(
    folders: Sequence[Path], configs: Sequence[SimulationConfig], fingerprints: Sequence[Mapping[str, Any]]
) -> list[Checkpoint] | None:
    """The latest round from which interrupted runs can go on side by side.

    Args:
        folders: one a run, in which it was begun, if it was.
        configs: of the runs.
        fingerprints: of the runs, from `fingerprints_of`.

    Returns:
        A checkpoint of that round for each run, checked byte by byte; None if they share no round, or one of them was
        begun with something else than it would go on with. Their folders are then given other names, so that the runs
        can begin anew.
    """
    for round in common_rounds(folders):
        places = [checkpoint_of(folder, round) for folder in folders]
        if all(map(_can_go_on, places, configs, fingerprints)):
            return [read_checkpoint(place) for place in places]
    for folder in folders:
        set_aside(folder, "interrupted")
    return None


def _can_go_on(place: Path, config: SimulationConfig, fingerprint: Mapping[str, Any]) -> bool:
    if _problem(place, config) is not None:
        return False
    then = read_manifest(place)["fingerprint"]
    return all(then[name] == fingerprint[name] for name in ("digests", "handed_over", "program"))


def stored_config(resume: Path | str) -> SimulationConfig:
    """The config that a run was started with.

    Args:
        resume: the run's folder, or one of its checkpoints.

    Returns:
        The config, with the run's folder.

    Raises:
        ConfigError: there is no such run.
    """
    folder, _ = _run_and_checkpoint(Path(resume))
    return _in_folder(read_config(folder / "config.toml"), folder)


def fingerprints_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What tells runs from others: config, where they are computed, digests of what they begin with, and what was
    handed over besides the config, by name and by the program that is traced from it.

    Args:
        runs: before their first round; they differ in seed, learning rate and folder only.

    Returns:
        For each, mappings that can be written as JSON.
    """
    program = _program(runs[0])
    return [
        {
            "config": config_to_dict(run.parts.plan.config),
            "environment": environment(),
            "digests": _initial_digests(run),
            "handed_over": dict(run.parts.plan.handed_over),
            "program": program,
        }
        for run in runs
    ]


def environment() -> dict[str, str]:
    """What results depend on to the last bit, beside config and data.

    Returns:
        Versions, machine and kind of device.
    """
    return {
        **{name: version(name) for name in ("fedhm-jax", "jax", "jaxlib", "flax", "optax", "numpy")},
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
    }


def leaves_on_host(state: State) -> list[np.ndarray]:
    """The arrays of a server state, for a checkpoint.

    Args:
        state: any pytree; PRNG keys become their data.

    Returns:
        One array a leaf.
    """
    return [np.asarray(leaf) for leaf in jax.device_get([_plain(leaf) for leaf in jax.tree.leaves(state)])]


def on_devices(state: State, arrays: Sequence[np.ndarray]) -> State:
    """The reverse of `leaves_on_host`.

    Args:
        state: of the same structure, for types and devices; its memory may have been given away.
        arrays: one a leaf.

    Returns:
        The state of these arrays.
    """
    leaves, structure = jax.tree.flatten(state)
    placed = [_placed_like(leaf, array) for leaf, array in zip(leaves, arrays, strict=True)]
    return jax.tree.unflatten(structure, placed)


def with_checkpoint(run: Run, checkpoint: Checkpoint, fingerprint: Mapping[str, Any]) -> Run:
    """A run as it was after the checkpoint's round.

    Args:
        run: the run before its first round.
        checkpoint: from `find_start` or `find_common_start`.
        fingerprint: of the run, from `fingerprints_of`.

    Returns:
        The run with the server state of the checkpoint, on the devices it was prepared for.

    Raises:
        ConfigError: the run computes something else, or begins with other data, another model, sampler or key than the
            checkpoint's.
    """
    refuse_other_program(run.parts.plan.handed_over, fingerprint["program"], checkpoint.fingerprint["program"])
    for name, digest in fingerprint["digests"].items():
        if digest != checkpoint.fingerprint["digests"].get(name):
            raise ConfigError(f"{name} must be the same as when the run to resume began, but is not")
    return run._replace(state=on_devices(run.state, checkpoint.arrays))


def _run_and_checkpoint(resume: Path) -> tuple[Path, Path | None]:
    """A run's folder, and the checkpoint that is meant, if there is one."""
    chosen = resume.parent.name == "checkpoints"
    folder = resume.parent.parent if chosen else resume
    if not resume.is_dir() or not (folder / "config.toml").is_file():
        raise ConfigError.of("resume", str(resume), "the folder of a run, which holds its config.toml and checkpoints")
    return folder, resume if chosen else next(reversed(checkpoints(folder)), None)


def _in_folder(config: SimulationConfig, folder: Path) -> SimulationConfig:
    given = config.output.folder
    if given is not None and given.absolute() != folder.absolute():
        raise ConfigError.of("output.folder", str(given), f"unset or {str(folder)!r}, the folder of the run to resume")
    return replace(config, output=replace(config.output, folder=folder))


def _refuse_lost_checkpoints(folder: Path) -> None:
    """The first checkpoint is written before the first record; without any, what is there must not be overwritten."""
    records = folder / "records.jsonl"
    if is_finished(folder) or (records.exists() and records.read_bytes().strip()):
        raise ConfigError.of("resume", str(folder), "the folder of a run whose checkpoints are still there")


def _problem(place: Path, config: SimulationConfig) -> str | None:
    """Why a run cannot go on from a checkpoint, in words that follow the checkpoint's path."""
    try:
        manifest = read_manifest(place)
    except DamagedCheckpoint as error:
        return str(error)
    fingerprint = manifest["fingerprint"]
    for name, here in environment().items():
        if here != (then := fingerprint["environment"].get(name)):
            return f"was written with {name} {then}, but here it is {here}"
    for name, now, then in _differences(config, config_from_dict(fingerprint["config"])):
        return f"was written with {name} {shown(then)}, but now it is {shown(now)}"
    if config.server.rounds < manifest["round"]:
        return f"has finished {manifest['round']} rounds, more than server.rounds, which is {config.server.rounds}"
    return None


def _differences(config: SimulationConfig, stored: SimulationConfig) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of every field that differs and must not."""
    free = _FREE if config.local.schedule == "cosine" else {*_FREE, "server.rounds"}
    for section in fields(SimulationConfig):
        now, then = getattr(config, section.name), getattr(stored, section.name)
        for entry in fields(now):
            name, values = f"{section.name}.{entry.name}", (getattr(now, entry.name), getattr(then, entry.name))
            if name not in free and values[0] != values[1]:
                yield name, *values


def _program(run: Run) -> str | None:
    """Built-in code is known by the versions; what was handed over is known by what is traced from it."""
    parts = run.parts
    if not set(CODE) & set(parts.plan.handed_over):
        return None
    return training_digest(parts.setting, parts.strategy, parts.learning)


def _initial_digests(run: Run) -> dict[str, str]:
    """Digests by what they are of. Of the training images, mean and deviation must do: the images may be many."""
    # Samples that are spread are nowhere together but in host memory.
    data, test = (run.data, run.test) if run.data.holders is None else data_on_host(run.parts)
    if isinstance(data.samples, Images):
        data = data._replace(samples=data.samples[1:])
    return {
        "the training set": _digest(data),
        "the test set": _digest(test),
        "the sampling of cohorts": _digest((run.parts.sampling, run.parts.client_seconds)),
        "the PRNG key": _digest(run.key),
        "the model before the first round": _digest((run.state, [str(cost) for cost in run.parts.plan.costs])),
    }


def _digest(tree: Any) -> str:
    """Of the structure of a tree, and of type, shape and value of every leaf."""
    total = blake2b(str(jax.tree.structure(tree)).encode(), digest_size=32)
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(_plain(leaf))
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _placed_like(leaf: jax.Array, array: np.ndarray) -> jax.Array:
    """On the leaf's devices; in memory of its own, since a round gives the state's memory away."""
    placed = jax.device_put(array, leaf.sharding, may_alias=False)
    return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else placed
