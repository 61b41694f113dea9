"""Numbers that follow from numbers."""

from collections.abc import Mapping

import jax

from fedhm_jax.data import Examples
from fedhm_jax.score import Score
from fedhm_jax.tasks.base import Metric, Task


def _look_up(samples: Examples, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return samples.inputs[rows], samples.targets[rows]


def _squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return ((outputs - targets) ** 2).reshape(len(outputs), -1).mean(1)


def _measure(outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> Mapping[str, Metric]:
    return {"loss": Metric((_squared_error(outputs, targets) * mask).sum(), mask.sum())}


REGRESSION = Task(
    name="regression",
    look_up=_look_up,
    loss=_squared_error,
    teach=_squared_error,
    measure=_measure,
    score=Score("loss", "squared error", "", 1.0, 3, higher_is_better=False),
)
"""Mean squared error of numbers, as an example of a task of one's own."""
