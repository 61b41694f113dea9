"""Records of a run in other people's viewers; one library, one file, loaded where it is asked for."""

from fedhm_jax.trackers.base import Tracker, scalars
from fedhm_jax.trackers.by_name import TRACKERS, trackers_of
from fedhm_jax.trackers.mlflow import mlflow
from fedhm_jax.trackers.tensorboard import tensorboard
from fedhm_jax.trackers.wandb import wandb

__all__ = [
    "TRACKERS",
    "Tracker",
    "mlflow",
    "scalars",
    "tensorboard",
    "trackers_of",
    "wandb",
]
