"""Whole rounds of `simulate`, timed until there are enough of them."""

from collections.abc import Callable, Mapping
from typing import Any

from fedhm_jax import CallbackError, SimulationConfig, simulate
from fedhm_jax.data import Dataset

FIRST = 2
"""Rounds that do not count: the first compiles, and the second was planned by the first's time."""


class _EnoughError(Exception):
    """Ends a run without the evaluation that follows a last round."""


def time_rounds(config: SimulationConfig, data: Dataset, rounds: int, tell: Callable[[int, float], None]) -> None:
    """Runs rounds without an evaluation.

    Args:
        config: `server.rounds` and `evaluation.every` are larger than ``rounds`` + `FIRST`.
        data: the clients' samples.
        rounds: timed ones.
        tell: ``tell(index, seconds)`` of every round, from -`FIRST`.
    """

    def note(record: Mapping[str, Any]) -> None:
        index = record["round"] - 1 - FIRST
        if index < rounds:
            tell(index, record["seconds"])
        if index >= rounds - 1:
            raise _EnoughError

    try:
        simulate(config, data=data, on_round=[note])
    except CallbackError as error:
        if not isinstance(error.__cause__, _EnoughError):
            raise
