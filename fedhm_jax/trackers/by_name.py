"""The trackers that a config can name; each writes into the run's folder, unless its own variables say otherwise."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from fedhm_jax.config import OutputConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.trackers.base import Tracker
from fedhm_jax.trackers.mlflow import mlflow
from fedhm_jax.trackers.tensorboard import tensorboard
from fedhm_jax.trackers.wandb import wandb


def _mlflow(folder: Path) -> Tracker:
    # MLflow no longer takes a plain folder: an SQLite file in it is the simplest of its stores.
    uri = None if "MLFLOW_TRACKING_URI" in os.environ else f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    return mlflow(uri, name=folder.name)


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": lambda folder: tensorboard(folder / "tensorboard"),
    "wandb": lambda folder: wandb(name=folder.name, folder=folder),
    "mlflow": _mlflow,
}
"""By name, from a run's folder to its tracker."""


def trackers_of(output: OutputConfig) -> list[Tracker]:
    """The trackers that a config names.

    Args:
        output: what a run leaves behind.

    Returns:
        One tracker a name.

    Raises:
        ConfigError: there is no folder to write to, or a library is not installed.
    """
    if not output.trackers:
        return []
    if output.folder is None:
        raise ConfigError.of("output.trackers", output.trackers, "empty unless output.folder is set")
    folder = output.folder
    return [TRACKERS[name](folder) for name in dict.fromkeys(output.trackers)]
