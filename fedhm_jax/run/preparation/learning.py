"""What a run's data are to teach: the task, and what the model is given and has to answer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.config import LocalConfig
from fedhm_jax.data import (
    AnyData,
    ArrayData,
    Client,
    Dataset,
    Examples,
    Text,
    Windows,
    crop_flip,
    images_on_host,
    label_counts,
)
from fedhm_jax.errors import ConfigError
from fedhm_jax.strategies import Setting
from fedhm_jax.tasks import BY_CLASS, CLASSIFICATION, Batch, Metric, Task, next_token

_BATCH = 2


class Learning(NamedTuple):
    """The task of a run, in shapes.

    Attributes:
        task: what there is to learn.
        inputs: shape and dtype of a batch of the module's inputs.
        targets: shape and dtype of what it is to answer.
        outputs: number of outputs that the built-in models need, the last axis of what a module gives; None where the
            task alone can tell.
        classes: of the samples; 1 where they have none.
    """

    task: Task
    inputs: jax.ShapeDtypeStruct
    targets: jax.ShapeDtypeStruct
    outputs: int | None
    classes: int


def learning_of(dataset: AnyData, local: LocalConfig, given: Task | None) -> Learning:
    """What data are to teach.

    Args:
        dataset: the samples.
        local: says how images are changed in training.
        given: a task in place of the data's own.

    Returns:
        The task and its shapes.

    Raises:
        ConfigError: data that need a task of one's own come without, or what is given is none.
    """
    if given is not None and not isinstance(given, Task):
        raise ConfigError.of("task", given, "a fedhm_jax.Task")
    if isinstance(dataset, Dataset):
        task = CLASSIFICATION if given is None else given
        if local.augmentation == "crop_flip":
            task = task._replace(augment=crop_flip)
        shape = (_BATCH, *dataset.train_images.shape[1:])
        inputs, targets = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((_BATCH,), jnp.int32)
        return Learning(task, inputs, targets, dataset.classes, dataset.classes)
    if local.augmentation != "none":
        raise ConfigError.of("local.augmentation", local.augmentation, "'none' for samples that are no images")
    if isinstance(dataset, Text):
        task = next_token(dataset.window, dataset.unit) if given is None else _classless(given)
        tokens = jax.ShapeDtypeStruct((_BATCH, dataset.window), jnp.int32)
        return Learning(task, tokens, tokens, len(dataset.vocabulary), 1)
    if given is None:
        raise ConfigError("task is not given, but must be for data from data_from_arrays: simulate(data=..., task=...)")
    inputs, targets = (
        jax.ShapeDtypeStruct((_BATCH, *array.shape[1:]), array.dtype)
        for array in (dataset.train_inputs, dataset.train_targets)
    )
    return Learning(_classless(given), inputs, targets, None, 1)


def _classless(task: Task) -> Task:
    """Whatever it says, samples that are no images are of no class that a partition or a merge could go by."""
    return task._replace(has_classes=False)


def metrics_of(setting: Setting, learning: Learning, worst_client: bool) -> tuple[str, ...]:
    """A dry run of the task on what the model answers.

    Args:
        setting: the model's.
        learning: what is to be learned.
        worst_client: whether the run asks how well each client is served, which hits by class tell.

    Returns:
        Names of what the task measures, one number each; the one that models are compared by comes first.

    Raises:
        ConfigError: the task cannot be reckoned on such answers, or does not measure what it has to.
    """
    task, batch = learning.task, batch_of(learning, _BATCH)
    key = jax.random.key(0)
    answers = jax.eval_shape(setting.network.train, setting.shapes, batch.inputs, batch.mask, key)
    try:
        if task.augment is not None:
            jax.eval_shape(task.augment, key, batch.inputs)
        loss = jax.eval_shape(task.loss, answers, batch.targets)
        measured = jax.eval_shape(task.measure, answers, batch.targets, batch.mask)
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"task is {task.name!r}, but must be one that takes answers of shape {answers.shape} and targets of "
            f"shape {batch.targets.shape} ({type(error).__name__}: {first_line})"
        ) from error
    if loss.shape != (_BATCH,):
        raise ConfigError(f"task has a loss of shape {loss.shape}, but must have one of shape (batch,), one a sample")
    if not isinstance(measured, Mapping) or not all(isinstance(metric, Metric) for metric in measured.values()):
        raise ConfigError(f"task is {task.name!r}, but must be one whose measure gives a Metric by name")
    if worst_client and not (task.has_classes and BY_CLASS in measured):
        allowed = f"false for {task.name}, which does not measure hits by class"
        raise ConfigError.of("evaluation.worst_client", True, allowed)
    for wanted in ("loss", task.score.metric):
        if wanted not in measured:
            raise ConfigError(f"task measures {', '.join(measured)}, but must measure {wanted} too")
    numbers = [name for name, metric in measured.items() if metric.sum.ndim == 0]
    return tuple(sorted(numbers, key=lambda name: (name != task.score.metric, name == "loss", name)))


def batch_of(learning: Learning, size: int) -> Any:
    """Shapes of a training batch.

    Args:
        learning: what is to be learned.
        size: samples of a step.

    Returns:
        A `Batch` of them.
    """
    inputs, targets = (
        jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype) for array in (learning.inputs, learning.targets)
    )
    dtype = inputs.dtype if jnp.issubdtype(inputs.dtype, jnp.floating) else jnp.float32
    mask: Any = jax.ShapeDtypeStruct((size,), dtype)
    return Batch(inputs, targets, mask)


def client_of(classes: int) -> Client:
    """A client to trace a strategy with, which has one sample and may have it of any class.

    Args:
        classes: how many there are; 1 where samples have none.

    Returns:
        The client.

    Example:
        >>> client_of(3).owned.tolist()
        [True, True, True]
    """
    return Client(jnp.int32(0), jnp.bool_(True), jnp.int32(0), jnp.int32(1), jnp.ones(classes, bool))


def samples_on_host(dataset: AnyData) -> tuple[Any, Any]:
    """Training and test samples as the task looks them up.

    Args:
        dataset: the samples.

    Returns:
        Both, in host memory.
    """
    if isinstance(dataset, Text):
        train_tokens, test_tokens, train_starts, test_starts = dataset[:4]
        return Windows(train_tokens, train_starts), Windows(test_tokens, test_starts)
    if isinstance(dataset, ArrayData):
        return Examples(*dataset[:2]), Examples(*dataset[2:4])
    train = images_on_host(dataset.train_images, dataset.train_labels, dataset.train_images)
    return train, train._replace(images=dataset.test_images, labels=dataset.test_labels.astype(np.int32))


def counts_by_class(dataset: AnyData, dealt: list[np.ndarray]) -> np.ndarray:
    """Training samples of each class at each client.

    Args:
        dataset: the samples.
        dealt: sample indices of each client.

    Returns:
        (clients, classes) int; (clients, 1) where samples have no classes.
    """
    if isinstance(dataset, Dataset):
        return label_counts(dataset.train_labels, dealt, dataset.classes)
    return np.array([[len(part)] for part in dealt])
