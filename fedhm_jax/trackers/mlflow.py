"""MLflow: a run of an experiment, on a server or in a data base file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedhm_jax.config import config_to_dict
from fedhm_jax.results import Record, RunPlan
from fedhm_jax.trackers.base import Tracker, library, scalars

_MOST_AT_ONCE = 100
"""Parameters that MLflow takes in one call."""


def mlflow(uri: str | None = None, *, experiment: str = "fedhm_jax", name: str | None = None) -> Tracker:
    """Logs every number of every record at its round, and the config's fields as parameters.

    Args:
        uri: where to; ``MLFLOW_TRACKING_URI`` or MLflow's own default if None.
        experiment: that the run is a part of; made if it is not there.
        name: of the run; MLflow's own choice if None.

    Returns:
        The tracker.

    Raises:
        ConfigError: mlflow is not installed.
    """
    library("mlflow", "mlflow")
    from mlflow.entities import Metric, Param, RunStatus
    from mlflow.tracking import MlflowClient

    @contextmanager
    def track(plan: RunPlan) -> Iterator[Callable[[Record], None]]:
        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        home = client.create_experiment(experiment) if known is None else known.experiment_id
        run = client.create_run(home, run_name=name).info.run_id
        fields = [
            Param(f"{section}.{key}", str(value))
            for section, values in config_to_dict(plan.config).items()
            for key, value in values.items()
        ]
        for first in range(0, len(fields), _MOST_AT_ONCE):
            client.log_batch(run, params=fields[first : first + _MOST_AT_ONCE])

        def write(record: Record) -> None:
            numbers = [Metric(key, value, 0, record["round"]) for key, value in scalars(record).items()]
            client.log_batch(run, metrics=numbers)

        try:
            yield write
        except BaseException:
            client.set_terminated(run, RunStatus.to_string(RunStatus.FAILED))
            raise
        client.set_terminated(run)

    return track
