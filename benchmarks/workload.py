"""What the benchmarks train: a model, batches of random images, and the engine's own training of a cohort."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from fedhm_jax.client.lanes import Work, sum_results
from fedhm_jax.client.objective import supervised
from fedhm_jax.client.optimizers import optimizer_by_name
from fedhm_jax.client.update import Assignment, LocalTraining, Progress, build_local_update
from fedhm_jax.data.client_data import Client, ClientData, client_by_id, place_clients
from fedhm_jax.layers.convolution import ConvMethod
from fedhm_jax.lowrank.decomposition import RankPlan, factorize_tree, with_factors
from fedhm_jax.models.build import build_model
from fedhm_jax.models.costs import count_macs
from fedhm_jax.models.network import network_of
from fedhm_jax.models.rank_plan import factorizable_kernels, plan_ranks
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.strategies.base import Setting
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params

CLASSES = 10
LEARNING_RATE = 0.02


class Workload(NamedTuple):
    """What one client does in a round: ``steps`` batches of ``batch_size`` different samples.

    Attributes:
        build: the model, given how convolutions are computed.
        image_shape: (height, width, channels).
        batch_size: samples per step.
        steps: steps per client.
    """

    build: Callable[[ConvMethod], nn.Module]
    image_shape: tuple[int, int, int]
    batch_size: int
    steps: int

    @property
    def training(self) -> LocalTraining:
        """One epoch of momentum SGD with the method's two decay terms."""
        return LocalTraining(
            optimizer_by_name("sgd", momentum=0.9), self.batch_size, weight_decay=1e-4, frobenius_decay=1e-4
        )


def built_in(name: str) -> Callable[[ConvMethod], nn.Module]:
    """A model of `fedhm_jax.models` by its name, as `Workload.build` wants it."""
    return lambda method: build_model(name, CLASSES, convolution=method)


def residual_block(width: int) -> Callable[[ConvMethod], nn.Module]:
    """One residual block, two 3x3 convolutions ``width -> width``, between a stem and a classifier."""
    return lambda method: ResNet(CLASSES, blocks=(1,), width=width, convolution=method)


def random_clients(workload: Workload, clients: int) -> ClientData:
    """Random images and labels, ``steps * batch_size`` samples a client, so that every batch is full.

    Args:
        workload: decides sizes.
        clients: number of clients.

    Returns:
        The data, on the device.
    """
    generator = np.random.default_rng(0)
    samples = workload.steps * workload.batch_size
    images = generator.integers(0, 256, (clients * samples, *workload.image_shape), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, clients * samples)
    return place_clients(images, labels, np.split(np.arange(clients * samples), clients), CLASSES)


def initial_params(workload: Workload) -> Params:
    """The full-rank model before any training."""
    images = jnp.zeros((2, *workload.image_shape), jnp.float32)
    return jax.jit(workload.build("auto").init)(jax.random.key(0), images)["params"]


def fedhm_setting(workload: Workload, rank_factors: tuple[float, ...]) -> Setting:
    """What a strategy is built for, with the classifier's columns averaged over the clients that hold the class."""
    images = jax.ShapeDtypeStruct((2, *workload.image_shape), jnp.float32)
    module = workload.build("auto")
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    statistics = "batch_stats" in shapes
    return Setting(module, images, shapes["params"], statistics, rank_factors, classifier="classifier")


def rank_plan(workload: Workload, rank_factor: float) -> RankPlan:
    """Ranks of the tier with a given rank factor."""
    images = jax.ShapeDtypeStruct((2, *workload.image_shape), jnp.float32)
    return plan_ranks(factorizable_kernels(workload.build("auto"), images), rank_factor)


def tier_params(params: Params, plan: RankPlan) -> Params:
    """The model that the tier with a given rank plan receives."""
    return jax.jit(lambda whole: with_factors(whole, factorize_tree(whole, plan), plan))(params)


def build_train_cohort(
    workload: Workload, clients_per_chunk: int, compute_dtype: DTypeLike | None = None, capacity: int | None = None
) -> Callable[..., Any]:
    """The engine's training of one tier's clients, as one function to be compiled.

    Args:
        workload: what each client does.
        clients_per_chunk: clients trained side by side; 1 is a loop over clients.
        compute_dtype: floating type of the clients' passes; None for the parameters' own.
        capacity: samples of the largest client; None for the workload's own.

    Returns:
        ``train_cohort(received, data, clients, count, learning_rate, key) -> (summed params, samples trained on)``, the
        first ``count`` of ``clients`` taking part.
    """
    network = network_of(workload.build("auto"), has_statistics=True, compute_dtype=compute_dtype)
    objective = supervised(network, masked=False)
    capacity = workload.steps * workload.batch_size if capacity is None else capacity
    update = build_local_update(objective, workload.training, capacity)

    def train_cohort(
        received: Params,
        data: ClientData,
        clients: jax.Array,
        count: jax.Array,
        learning_rate: jax.Array,
        key: jax.Array,
    ) -> Any:
        def client_in(slot: jax.Array) -> Client:
            return client_by_id(data, clients[jnp.minimum(slot, len(clients) - 1)], jnp.bool_(True))

        def advance(slot: jax.Array, done: jax.Array, steps: jax.Array, progress: Progress) -> Progress:
            client = client_in(slot)
            assignment = Assignment(received, client, data, learning_rate, jax.random.fold_in(key, client.id))
            return update.advance(assignment, done, steps, progress)

        def finish(slot: jax.Array, progress: Progress, finished: jax.Array) -> Any:
            ended = (progress.params, progress.samples)
            return jax.tree.map(lambda leaf: jnp.where(finished, leaf, jnp.zeros_like(leaf)), ended)

        work = Work(
            begin=lambda slot: update.begin(received, learning_rate),
            segment=lambda slot, done: update.segment(client_in(slot), done),
            advance=advance,
            finish=finish,
        )
        return jax.tree.map(lambda rows: rows[0], sum_results(work, len(clients), count, clients_per_chunk))

    return train_cohort


def train_cohort_arguments(received: Params, data: ClientData, clients: int) -> tuple[Any, ...]:
    """Arguments of the function that `build_train_cohort` returns, for the first ``clients`` clients.

    Args:
        received: the tier's model.
        data: of at least that many clients.
        clients: K.

    Returns:
        (received, data, clients, count, learning rate, key).
    """
    ids = jnp.arange(clients, dtype=jnp.int32)
    return received, data, ids, jnp.int32(clients), jnp.float32(LEARNING_RATE), jax.random.key(1)


def training_macs(workload: Workload, received: Params) -> int:
    """Multiply-accumulates of the forward and backward pass of one local step.

    Args:
        workload: the model and its batch.
        received: parameters of the tier.

    Returns:
        The count, whatever way the convolutions are computed.
    """
    # A strided convolution's gradient, written as a convolution, would count the zeros between the strides.
    objective = supervised(network_of(workload.build("gemm"), has_statistics=True), masked=False)
    batch = Batch(
        jnp.zeros((workload.batch_size, *workload.image_shape), jnp.float32),
        jnp.zeros(workload.batch_size, jnp.int32),
        jnp.ones(workload.batch_size, jnp.float32),
    )
    gradient = jax.grad(objective, has_aux=True)
    return count_macs(gradient, received, batch, jnp.ones(CLASSES, bool), jax.random.key(0))
