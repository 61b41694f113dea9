"""What there is to learn from a sample: how it becomes inputs and targets, its loss, and what a test measures."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from fedhm_jax.score import Score


class Batch(NamedTuple):
    """Samples of one step.

    Attributes:
        inputs: (batch, ...), what the module is called with, such as normalised images or tokens.
        targets: (batch, ...), what it is to answer, such as (batch,) int32 labels.
        mask: (batch,), 1 for a sample and 0 for padding.
    """

    inputs: Any
    targets: Any
    mask: jax.Array


class Metric(NamedTuple):
    """A mean as its parts, which add up over batches.

    Attributes:
        sum: of the values.
        weight: what to divide it by, such as the number of samples.
    """

    sum: jax.Array
    weight: jax.Array


class Task(NamedTuple):
    """Pure functions of samples and of what a model answers.

    Attributes:
        name: in words, such as ``"classification"``.
        look_up: ``look_up(samples, rows) -> (inputs, targets)`` of some of the samples; ``samples`` is what the task's
            data put on the device, ``rows`` (batch,) int32.
        loss: ``loss(outputs, targets) -> (batch,)``, what training minimises the mean of.
        teach: ``teach(outputs, answers) -> (batch,)``, how far outputs are from another model's answers; zero where
            they agree.
        measure: ``measure(outputs, targets, mask) -> {name: Metric}`` of a test batch. Each metric that is one number
            goes into the records under its name; ``loss`` is one of them.
        score: the metric that models are compared by.
        augment: ``augment(key, inputs) -> inputs``, a random change of training inputs; None for none.
        has_classes: whether a sample is of one class, a column of the classifier.

    Example:
        >>> import jax.numpy as jnp
        >>> from fedhm_jax.tasks import CLASSIFICATION
        >>> CLASSIFICATION.loss(jnp.zeros((1, 4)), jnp.array([2])).tolist()  # log 4
        [1.3862943649291992]
    """

    name: str
    look_up: Callable[[Any, jax.Array], tuple[Any, Any]]
    loss: Callable[[Any, Any], jax.Array]
    teach: Callable[[Any, Any], jax.Array]
    measure: Callable[[Any, Any, jax.Array], Mapping[str, Metric]]
    score: Score
    augment: Callable[[jax.Array, Any], Any] | None = None
    has_classes: bool = False
