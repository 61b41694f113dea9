"""TensorBoard, by tensorboardX: event files in a folder, written without TensorFlow and without TensorBoard itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedhm_jax.config import config_to_toml
from fedhm_jax.results import Record, RunPlan
from fedhm_jax.trackers.base import Tracker, library, scalars


def tensorboard(folder: Path | str) -> Tracker:
    """Writes every number of every record, and the config as text, for ``tensorboard --logdir``.

    Args:
        folder: of the event files; made if it is not there.

    Returns:
        The tracker.

    Raises:
        ConfigError: tensorboardX is not installed.
    """
    tensorboard_x = library("tensorboardX", "tensorboard")

    @contextmanager
    def track(plan: RunPlan) -> Iterator[Callable[[Record], None]]:
        with tensorboard_x.SummaryWriter(str(folder)) as writer:
            # indented by four, it is shown as it is
            writer.add_text("config", "    " + config_to_toml(plan.config).replace("\n", "\n    "))

            def write(record: Record) -> None:
                for name, value in scalars(record).items():
                    writer.add_scalar(name, value, record["round"])
                writer.flush()

            yield write

    return track
