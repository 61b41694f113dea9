"""FedJAX: its federated averaging with the backend it picks on a CPU, a compiled step for each batch."""

from collections.abc import Callable
from typing import Any

import fedjax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.data import CLASSES, SOURCES, client_inputs, probe_batches
from benchmarks.peers.workload import Task, Workload

HE_NORMAL = hk.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal")
LECUN_NORMAL = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")


def _cnn(images: jax.Array) -> jax.Array:
    for channels in (16, 32):
        images = jax.nn.relu(hk.Conv2D(channels, 3, w_init=HE_NORMAL)(images))
        images = hk.max_pool(images, 2, 2, "VALID")
    hidden = jax.nn.relu(hk.Linear(64, w_init=HE_NORMAL)(hk.Flatten()(images)))
    return hk.Linear(CLASSES, w_init=LECUN_NORMAL)(hidden)


def _norm(images: jax.Array) -> jax.Array:
    """Batch norm with the statistics of its batch, which need no state."""
    return hk.LayerNorm(axis=(0, 1, 2), create_scale=True, create_offset=True, param_axis=-1)(images)


def _conv(images: jax.Array, channels: int, stride: int = 1, size: int = 3) -> jax.Array:
    padding = [(size // 2, size // 2)] * 2
    layer = hk.Conv2D(channels, size, stride, with_bias=False, padding=padding, w_init=HE_NORMAL)
    return _norm(layer(images))


def _resnet8(images: jax.Array) -> jax.Array:
    images = jax.nn.relu(_conv(images, 16))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        hidden = _conv(jax.nn.relu(_conv(images, channels, stride)), channels)
        images = jax.nn.relu(hidden + (_conv(images, channels, stride, size=1) if stride > 1 else images))
    return hk.Linear(CLASSES, w_init=LECUN_NORMAL)(images.mean((1, 2)))


MODELS = {"cnn": _cnn, "resnet8": _resnet8}


def _build_model(workload: Workload) -> Any:
    forward = MODELS[workload.model]
    images = np.zeros((workload.batch_size, *SOURCES[workload.model].shape), np.float32)
    return fedjax.create_model_from_haiku(
        hk.transform(lambda batch: forward(batch["x"])),
        sample_batch={"x": images, "y": np.zeros(workload.batch_size, np.int32)},
        train_loss=lambda batch, logits: fedjax.metrics.unreduced_cross_entropy_loss(batch["y"], logits),
    )


def _examples(workload: Workload, client: int) -> dict[str, np.ndarray]:
    images, labels = client_inputs(workload, client)
    return {"x": images, "y": labels.astype(np.int32)}


def run(task: Task, round_done: Callable[[], None]) -> float:
    """Trains the task; see `benchmarks.peers.worker`."""
    workload = task.workload
    clients = {b"%06d" % client: _examples(workload, client) for client in range(workload.clients)}
    model = _build_model(workload)
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        fedjax.model_grad(model),
        fedjax.optimizers.sgd(workload.learning_rate),
        fedjax.optimizers.sgd(1.0),
        fedjax.ShuffleRepeatBatchHParams(batch_size=workload.batch_size),
    )
    sampler = fedjax.client_samplers.UniformGetClientSampler(
        fedjax.InMemoryFederatedData(clients), workload.cohort, seed=0
    )
    state = algorithm.init(model.init(jax.random.PRNGKey(0)))
    for _ in range(task.total_rounds):
        state, _ = algorithm.apply(state, sampler.sample())
        jax.block_until_ready(state.params)
        round_done()

    def loss(images: np.ndarray, labels: np.ndarray) -> jax.Array:
        batch = {"x": images, "y": labels.astype(np.int32)}
        return model.train_loss(batch, model.apply_for_train(state.params, batch, None)).mean()

    return float(jnp.stack([loss(*batch) for batch in probe_batches(workload)]).mean())
