"""Testing models on the whole test set, and measuring batch-norm statistics before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.client import cross_entropy, in_top
from fedhm_jax.data import ClientData, normalise
from fedhm_jax.engine.share import EVERYTHING, Share
from fedhm_jax.models import Network, Statistics
from fedhm_jax.tree import Params


class EvaluationData(NamedTuple):
    """Test set in batches, and the training samples that static statistics are measured on.

    Attributes:
        images: (batches, batch, height, width, channels) uint8, the last batch padded with zeros.
        labels: (batches, batch) int32.
        mask: (batches, batch), 0 for padding.
        statistics_rows: (batches, batch) int32, rows of the training images; all batches are full.
    """

    images: jax.Array
    labels: jax.Array
    mask: jax.Array
    statistics_rows: jax.Array


class TrainingImages(NamedTuple):
    """All that static statistics need of the training set.

    Attributes:
        images: (samples, height, width, channels) uint8.
        mean: (channels,) of the whole training set, pixels in [0, 1].
        std: (channels,) likewise.
    """

    images: jax.Array
    mean: jax.Array
    std: jax.Array


class Metrics(NamedTuple):
    """Sums over test samples; divide by ``samples`` last.

    Attributes:
        loss: summed cross-entropy in nats.
        accuracy: number of samples whose label has the largest logit.
        by_class: (classes,) the same number for the samples of each class.
        top5: number of samples whose label is among the five largest logits.
        samples: number of samples.
    """

    loss: jax.Array
    accuracy: jax.Array
    by_class: jax.Array
    top5: jax.Array
    samples: jax.Array


def place_evaluation(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    train_samples: int,
    statistics_samples: int,
    seed: int,
    dtype: np.dtype | type = np.float32,
) -> EvaluationData:
    """Puts the test set on the device in batches, and picks the samples for static statistics.

    Args:
        images: (samples, height, width, channels) uint8.
        labels: (samples,) integers.
        batch_size: samples per batch.
        train_samples: number of training samples to pick from.
        statistics_samples: number to pick; a remainder that fills no batch is left out.
        seed: of the pick.
        dtype: floating type of the mask.

    Returns:
        The data, on the default device.
    """
    batch_size = min(batch_size, len(labels))
    batches = -(-len(labels) // batch_size)
    padding = batches * batch_size - len(labels)

    def in_batches(array: np.ndarray) -> np.ndarray:
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(batches, batch_size, *array.shape[1:])

    wanted = min(statistics_samples, train_samples)
    statistics_batch = min(batch_size, wanted)
    rows = np.random.default_rng(seed).permutation(train_samples)[: wanted // statistics_batch * statistics_batch]
    return EvaluationData(
        images=jnp.asarray(in_batches(images)),
        labels=jnp.asarray(in_batches(labels), jnp.int32),
        mask=jnp.asarray(in_batches(np.ones(len(labels))), dtype),
        statistics_rows=jnp.asarray(rows.reshape(-1, statistics_batch), jnp.int32),
    )


def static_statistics(
    network: Network, params: Params, data: ClientData | TrainingImages, rows: jax.Array, share: Share = EVERYTHING
) -> Statistics:
    """Batch-norm statistics of one model, measured on training samples: the mean over batches of each layer's batch
    statistics.

    Args:
        network: functions of the model.
        params: parameters of any tier.
        data: training images, their mean and deviation.
        rows: (batches, batch) int32, samples to use.
        share: the device's share of the batches.

    Returns:
        The statistics, empty for a model without static norms.

    Source: HeteroFL (2010.01264), static batch normalisation.
    """

    def batch_statistics(batch: jax.Array) -> Statistics:
        return network.statistics(params, normalise(data.images[batch], data.mean, data.std))

    if not jax.tree.leaves(jax.eval_shape(batch_statistics, rows[0])):
        return {}
    total = _sum_over_batches(batch_statistics, rows, share)
    return jax.tree.map(lambda leaf: leaf / rows.shape[0], total)


def evaluate_model(
    network: Network, params: Params, data: ClientData, test: EvaluationData, share: Share = EVERYTHING
) -> Metrics:
    """Test-set metrics of a model as one compiled loop; static statistics are measured before.

    Args:
        network: functions of the model.
        params: its parameters.
        data: training images, for the statistics, and their mean and deviation.
        test: the test set.
        share: the device's share of the batches.

    Returns:
        Sums over the test set.
    """
    statistics = static_statistics(network, params, data, test.statistics_rows, share)

    def batch_metrics(batch: tuple[jax.Array, jax.Array, jax.Array]) -> Metrics:
        images, labels, mask = batch
        logits = network.predict(params, statistics, normalise(images, data.mean, data.std), mask)
        found = in_top(logits, labels, 1).astype(mask.dtype) * mask
        return Metrics(
            loss=(cross_entropy(logits, labels) * mask).sum(),
            accuracy=found.sum(),
            by_class=jnp.zeros(logits.shape[-1], mask.dtype).at[labels].add(found),
            top5=(in_top(logits, labels, 5).astype(mask.dtype) * mask).sum(),
            samples=mask.sum(),
        )

    return _sum_over_batches(batch_metrics, (test.images, test.labels, test.mask), share)


def _sum_over_batches(function: Callable[[Any], Any], batches: Any, share: Share) -> Any:
    """Sum of a function's results over a tree of arrays (batches, ...), on all devices together."""

    def result(index: jax.Array | int) -> Any:
        return function(jax.tree.map(lambda array: array[index], batches))

    def body(own: jax.Array, sums: Any) -> Any:
        return jax.tree.map(lambda rows, row: rows.at[share.part(own)].add(row), sums, result(share.place(own)))

    shapes = jax.eval_shape(result, 0)
    zeros = jax.tree.map(lambda leaf: jnp.zeros((share.most_parts, *leaf.shape), leaf.dtype), shapes)
    own_batches = share.count(jax.tree.leaves(batches)[0].shape[0])
    return share.total(lax.fori_loop(0, own_batches, body, zeros))
