"""Testing models on the whole test set, and measuring batch-norm statistics before."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedhm_jax.engine.share import EVERYTHING, Share
from fedhm_jax.models import Network, Statistics
from fedhm_jax.tasks import Metric, Task
from fedhm_jax.tree import Params, pack, unpack


class EvaluationData(NamedTuple):
    """Test set, its samples in batches, and the training samples that static statistics are measured on.

    Attributes:
        samples: of the test, what the task looks samples up in.
        rows: (batches, batch) int32, the last batch padded with a sample of no weight.
        mask: (batches, batch), 0 for padding.
        statistics_rows: (batches, batch) int32, rows of the training samples; all batches are full.
        statistics_samples: the training samples that ``statistics_rows`` count; None for the clients' own, where every
            device has them all or no model has static norms.
    """

    samples: Any
    rows: Any
    mask: Any
    statistics_rows: Any
    statistics_samples: Any = None


Metrics = Mapping[str, Metric]
"""What a task measures, summed over test samples."""


def deal_batches(
    samples: Any,
    size: int,
    batch_size: int,
    train_samples: int,
    statistics_samples: int,
    seed: int,
    dtype: np.dtype | type = np.float32,
) -> EvaluationData:
    """Deals the test set into batches, and picks the samples for static statistics.

    Args:
        samples: of the test, as they are.
        size: how many there are.
        batch_size: samples per batch.
        train_samples: number of training samples to pick from.
        statistics_samples: number to pick; a remainder that fills no batch is left out.
        seed: of the pick.
        dtype: floating type of the mask.

    Returns:
        The data, what is new of them in host memory.
    """
    batch_size = min(batch_size, size)
    places = np.arange(-(-size // batch_size) * batch_size)
    return EvaluationData(
        samples=samples,
        rows=np.where(places < size, places, 0).reshape(-1, batch_size).astype(np.int32),
        mask=(places < size).reshape(-1, batch_size).astype(dtype),
        statistics_rows=pick_rows(train_samples, statistics_samples, batch_size, seed),
    )


def pick_rows(train_samples: int, statistics_samples: int, batch_size: int, seed: int) -> np.ndarray:
    """Picks the samples for static statistics; arguments as of `deal_batches`.

    Returns:
        (batches, batch) int32, different rows of the training samples.

    Example:
        >>> pick_rows(10, statistics_samples=7, batch_size=3, seed=0).shape
        (2, 3)
    """
    wanted = min(statistics_samples, train_samples)
    batch = min(batch_size, wanted)
    rows = np.random.default_rng(seed).permutation(train_samples)[: wanted // batch * batch]
    return rows.reshape(-1, batch).astype(np.int32)


def static_statistics(
    network: Network, params: Params, task: Task, samples: Any, rows: jax.Array, share: Share = EVERYTHING
) -> Statistics:
    """Batch-norm statistics of one model, measured on training samples: the mean over batches of each layer's batch
    statistics.

    Args:
        network: functions of the model.
        params: parameters of any tier.
        task: looks the samples up.
        samples: of the training set.
        rows: (batches, batch) int32, samples to use.
        share: the device's share of the batches.

    Returns:
        The statistics, empty for a model without static norms.

    Source: HeteroFL (2010.01264), static batch normalisation.
    """

    @_traced_once
    def batch_statistics(batch: jax.Array) -> Statistics:
        return network.statistics(params, task.look_up(samples, batch)[0])

    if not jax.tree.leaves(jax.eval_shape(batch_statistics, rows[0])):
        return {}
    total = _sum_over_batches(batch_statistics, rows, share)
    return jax.tree.map(lambda leaf: leaf / rows.shape[0], total)


def evaluate_model(
    network: Network, params: Params, task: Task, samples: Any, test: EvaluationData, share: Share = EVERYTHING
) -> Metrics:
    """Test-set metrics of a model as one compiled loop; static statistics are measured before.

    Args:
        network: functions of the model.
        params: its parameters.
        task: what to measure.
        samples: of the training set, for the statistics.
        test: the test set.
        share: the device's share of the batches.

    Returns:
        Sums over the test set.
    """
    statistics = static_statistics(network, params, task, samples, test.statistics_rows, share)

    @_traced_once
    def batch_metrics(batch: tuple[jax.Array, jax.Array]) -> Metrics:
        rows, mask = batch
        inputs, targets = task.look_up(test.samples, rows)
        return task.measure(network.predict(params, statistics, inputs, mask), targets, mask)

    return _sum_over_batches(batch_metrics, (test.rows, test.mask), share)


_traced_once = partial(jax.jit, inline=True)
"""What is asked for its shapes before it runs would be traced for each."""


def _sum_over_batches(function: Callable[[Any], Any], batches: Any, share: Share) -> Any:
    """Sum of a function's results over a tree of arrays (batches, ...), on all devices together."""

    def result(index: jax.Array | int) -> Any:
        # A task's measure may give plain numbers.
        return jax.tree.map(jnp.asarray, function(jax.tree.map(lambda array: array[index], batches)))

    def body(own: jax.Array, sums: Any) -> Any:
        return jax.tree.map(lambda rows, row: rows.at[share.part(own)].add(row), sums, pack(result(share.place(own))))

    shapes = jax.eval_shape(result, 0)
    zeros = jax.tree.map(
        lambda vector: jnp.zeros((share.most_parts, *vector.shape), vector.dtype), jax.eval_shape(pack, shapes)
    )
    own_batches = share.count(jax.tree.leaves(batches)[0].shape[0])
    return unpack(share.total(lax.fori_loop(0, own_batches, body, zeros)), shapes)
