"""A run's folder: config, costs, records and summary as plain files (TOML, CSV, JSON lines, JSON)."""

import csv
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from fedhm_jax.config import SimulationConfig, read_config, read_handed_over, write_config
from fedhm_jax.errors import ConfigError
from fedhm_jax.files import append_line, replacing
from fedhm_jax.reporting.privacy import privacy_summary
from fedhm_jax.results import Record, RunPlan, SimulationResult, TierCost
from fedhm_jax.score import Score


def create_folder(folder: Path, plan: RunPlan) -> None:
    """Creates a run's folder with its config.toml and an empty records.jsonl.

    The written config leaves the folder itself out, so that running it again makes a new one.

    Args:
        folder: the folder to create, with its parents; it must not exist.
        plan: the run's plan.

    Raises:
        ConfigError: if the folder exists already or cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError.of("output.folder", str(folder), "a folder that does not exist yet") from error
    except OSError as error:
        raise ConfigError.of("output.folder", str(folder), f"a folder that can be made ({error.strerror})") from error
    _write_config(folder, plan)
    (folder / "records.jsonl").touch()


def reopen_folder(folder: Path, plan: RunPlan, history: Sequence[Record]) -> None:
    """Brings the folder of a run that goes on to where it goes on from.

    Args:
        folder: the run's folder.
        plan: the run's plan.
        history: the rounds that are finished; records.jsonl will hold these and no others.
    """
    # an unfinished run has no summary; one of fewer rounds had
    (folder / "summary.json").unlink(missing_ok=True)
    _write_config(folder, plan)
    with replacing(folder / "records.jsonl") as part:
        part.write_text("".join(f"{_line(record)}\n" for record in history), encoding="utf-8")


def append_record(folder: Path, record: Record) -> None:
    """Appends one line to records.jsonl, whole or not at all; it is on its way to disk when the call returns.

    Args:
        folder: the run's folder.
        record: the round; numbers that are not finite become null.
    """
    append_line(folder / "records.jsonl", _line(record))


def write_costs(folder: Path, costs: Sequence[TierCost]) -> None:
    """Writes costs.csv, one tier a row under the field names of `TierCost`.

    Args:
        folder: the run's folder.
        costs: the tiers' costs.
    """
    with open(folder / "costs.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [entry.name for entry in fields(TierCost)])
        writer.writeheader()
        writer.writerows(asdict(cost) for cost in costs)


def write_summary(folder: Path, result: SimulationResult) -> None:
    """Writes summary.json: last metrics, the tiers' costs, the privacy guarantee, wall time, and what made the run.

    Args:
        folder: the run's folder.
        result: the finished run.
    """
    import jax

    summary = {
        "final": result.final,
        "score": asdict(result.score),
        "costs": [asdict(cost) for cost in result.costs],
        "privacy": privacy_summary(result),
        "rounds": len(result.history),
        "seconds": math.fsum(record["seconds"] for record in result.history),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("fedhm-jax", "jax", "flax", "optax", "numpy")},
        },
    }
    with replacing(folder / "summary.json") as part:
        part.write_text(json.dumps(_finite(summary), indent=2, allow_nan=False) + "\n", encoding="utf-8")


class FinishedRun(NamedTuple):
    """A run as its folder holds it.

    Attributes:
        config: the exact config.
        history: one `Record` a round; numbers that were not finite are None.
        final: metrics after the last round.
        costs: one `TierCost` a tier.
        seconds: wall time of its rounds.
        environment: machine, device and versions.
        handed_over: names of what it was given in Python besides its config.
        score: the metric of its task.
    """

    config: SimulationConfig
    history: tuple[Record, ...]
    final: Record
    costs: tuple[TierCost, ...]
    seconds: float
    environment: dict[str, str]
    handed_over: dict[str, str]
    score: Score


def is_finished(folder: Path) -> bool:
    """Whether a run's folder is complete: its summary is written last.

    Args:
        folder: the run's folder, or a place where there is none.

    Returns:
        The answer.
    """
    return (folder / "summary.json").exists()


def read_run(folder: Path) -> FinishedRun:
    """Reads a finished run back from its folder.

    Args:
        folder: the run's folder.

    Returns:
        The run.

    Raises:
        ConfigError: a file of it is missing or damaged.
    """
    try:
        lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        environment = {name: str(summary[name]) for name in ("machine", "device", "devices")}
        return FinishedRun(
            config=read_config(folder / "config.toml"),
            history=tuple(json.loads(line) for line in lines),
            final=summary["final"],
            costs=tuple(TierCost(**cost) for cost in summary["costs"]),
            seconds=summary["seconds"],
            environment=environment | summary["versions"],
            handed_over=read_handed_over(folder / "config.toml"),
            score=Score(**summary.get("score", {})),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not (folder / "summary.json").exists():
            allowed = "the folder of a finished run, which holds a summary.json"
            raise ConfigError.of("run", str(folder), allowed) from error
        allowed = f"the folder of a finished run; move it away to run it again ({type(error).__name__}: {error})"
        raise ConfigError.of("run", str(folder), allowed) from error


def _write_config(folder: Path, plan: RunPlan) -> None:
    config = replace(plan.config, output=replace(plan.config.output, folder=None))
    with replacing(folder / "config.toml") as part:
        write_config(config, part, plan.handed_over)


def _line(record: Record) -> str:
    return json.dumps(_finite(record), allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
