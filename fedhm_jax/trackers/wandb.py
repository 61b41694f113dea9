"""Weights & Biases; ``WANDB_MODE=offline`` writes files alone, which ``wandb sync`` sends later."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedhm_jax.config import config_to_dict
from fedhm_jax.results import Record, RunPlan
from fedhm_jax.trackers.base import Tracker, library, scalars


def wandb(project: str = "fedhm_jax", *, name: str | None = None, folder: Path | str | None = None) -> Tracker:
    """Logs every number of every record at its round, and the config.

    Args:
        project: that the run is a part of.
        name: of the run; wandb's own choice if None.
        folder: of wandb's files; its own choice if None.

    Returns:
        The tracker.

    Raises:
        ConfigError: wandb is not installed.
    """
    wandb_library = library("wandb", "wandb")

    @contextmanager
    def track(plan: RunPlan) -> Iterator[Callable[[Record], None]]:
        run = wandb_library.init(
            project=project,
            name=name,
            dir=None if folder is None else str(folder),
            config=config_to_dict(plan.config),
            reinit="create_new",  # beside a run of the user's own
            settings=wandb_library.Settings(silent=True),
        )
        try:
            yield lambda record: run.log(scalars(record), step=record["round"])
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()

    return track
