"""Holds the compiled round and evaluation against their slow NumPy twin, from the same samples in the same order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from support import twin

from fedhm_jax.client.optimizers import optimizer_by_name
from fedhm_jax.client.update import LocalTraining
from fedhm_jax.data.client_data import ClientData, epoch_order, place_clients
from fedhm_jax.data.samples import place_images
from fedhm_jax.engine.evaluation import deal_batches, static_statistics
from fedhm_jax.engine.round import Engine, build_engine
from fedhm_jax.layers.convolution import ConvMethod
from fedhm_jax.layers.lowrank import Conv, LowRankConv, LowRankDense
from fedhm_jax.layers.norms import NORMS
from fedhm_jax.layers.pooling import max_pool
from fedhm_jax.models.mlp import MLP
from fedhm_jax.server.cohort import Cohort
from fedhm_jax.strategies import fedhm
from fedhm_jax.strategies.base import Setting, Strategy, Weighting
from fedhm_jax.tasks import CLASSIFICATION
from fedhm_jax.tree import map_named, named_leaves

CLASSES, BATCH_SIZE = 7, 4
RANK_FACTORS = (1.0, 2.0, 4.0)
TIER_NAMES = ("f1", "f2", "f4")
# All different, and none a multiple of the batch size.
SIZES = (3, 5, 6, 7, 9, 10, 11)


def make_cohort(clients: Sequence[Sequence[int]], in_use: Sequence[int]) -> Cohort:
    return Cohort(tuple(np.array(ids, np.int32) for ids in clients), np.array(in_use, np.int32))


# Places beyond the count are not in use and hold clients that must not train.
EVERY_TIER = make_cohort(([1, 6], [6, 0, 5], [2, 3]), in_use=[1, 3, 1])
NO_STRONGEST = make_cohort(([4, 1], [5, 3, 1], [2, 6]), in_use=[0, 2, 2])
NO_MIDDLE = make_cohort(([2, 0], [4, 4, 4], [1, 0]), in_use=[2, 0, 1])
NOBODY = make_cohort(([2, 0], [4, 4, 4], [1, 0]), in_use=[0, 0, 0])


class ConvNet(nn.Module):
    """Whole and factorized convolutions with uneven kernels, strides and paddings."""

    norm: str
    convolution: ConvMethod

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        norm, method = NORMS[self.norm], self.convolution
        hidden = Conv(4, method=method, name="stem")(images)
        hidden = nn.relu(max_pool(norm(name="norm_0")(hidden, mask=mask, train=train)))
        hidden = LowRankConv(6, strides=(2, 2), method=method, name="conv_0")(hidden)
        hidden = nn.relu(norm(name="norm_1")(hidden, mask=mask, train=train))
        hidden = LowRankConv(8, (3, 2), (1, 2), padding=((1, 0), (1, 1)), use_bias=False, method=method, name="conv_1")(
            hidden
        )
        hidden = nn.relu(norm(name="norm_2")(hidden, mask=mask, train=train))
        hidden = LowRankDense(10, name="dense")(hidden.reshape(hidden.shape[0], -1))
        return nn.Dense(CLASSES, name="classifier")(nn.relu(hidden))


Plans = tuple[dict[str, int], ...]


class Network(NamedTuple):
    """A model in both worlds, and the ranks of its kernels in each tier."""

    image_shape: tuple[int, int, int]
    layers: tuple[twin.Layer, ...]
    plans: Plans


def mlp_layers(norm: bool) -> tuple[twin.Layer, ...]:
    norms = [(twin.BatchNorm(f"norm_{index}"),) if norm else () for index in range(2)]
    return (
        twin.Flatten(),
        twin.Dense("dense_0"),
        *norms[0],
        twin.ReLU(),
        twin.Dense("dense_1"),
        *norms[1],
        twin.ReLU(),
        twin.Dense("classifier"),
    )


def conv_layers(norm: bool) -> tuple[twin.Layer, ...]:
    norms = [(twin.BatchNorm(f"norm_{index}"),) if norm else () for index in range(3)]
    return (
        twin.Conv("stem"),
        *norms[0],
        twin.MaxPool(),
        twin.ReLU(),
        twin.Conv("conv_0", strides=(2, 2)),
        *norms[1],
        twin.ReLU(),
        twin.Conv("conv_1", kernel_size=(3, 2), strides=(1, 2), padding=((1, 0), (1, 1))),
        *norms[2],
        twin.ReLU(),
        twin.Flatten(),
        twin.Dense("dense"),
        twin.ReLU(),
        twin.Dense("classifier"),
    )


# The middle tier keeps one kernel whole that the weakest factorizes.
MLP_PLANS: Plans = ({}, {"dense_0/kernel": 5}, {"dense_0/kernel": 2, "dense_1/kernel": 3})
CONV_PLANS: Plans = (
    {},
    {"conv_0/kernel": 3, "conv_1/kernel": 4},
    {"conv_0/kernel": 2, "conv_1/kernel": 2, "dense/kernel": 2},
)
NETWORKS = {
    "mlp": Network((3, 4, 2), mlp_layers(norm=False), MLP_PLANS),
    "mlp, batch norm": Network((3, 4, 2), mlp_layers(norm=True), MLP_PLANS),
    "conv": Network((11, 12, 2), conv_layers(norm=False), CONV_PLANS),
    "conv, batch norm": Network((11, 12, 2), conv_layers(norm=True), CONV_PLANS),
}


@dataclass(frozen=True)
class Case:
    """A federated run, in numbers that both sides understand."""

    network: str
    recipe: twin.Recipe
    epochs: int = 1
    steps: int | None = None
    weighting: Weighting = "uniform"
    temperature: float = 1.0
    history_samples: float | None = 6.5
    classifier: str | None = None
    convolution: ConvMethod = "gemm"
    clients_per_chunk: int = 1

    @property
    def batch_norm(self) -> bool:
        return self.network.endswith("batch norm")

    @property
    def method(self) -> twin.Method:
        return twin.Method(
            NETWORKS[self.network].plans,
            RANK_FACTORS,
            self.weighting,
            self.temperature,
            self.history_samples,
            self.classifier,
        )


class Samples(NamedTuple):
    """Random images; every client holds three of the classes, and its samples lie scattered."""

    images: np.ndarray
    labels: np.ndarray
    parts: list[np.ndarray]
    test_images: np.ndarray
    test_labels: np.ndarray


def draw_samples(image_shape: tuple[int, int, int]) -> Samples:
    generator = np.random.default_rng(3)
    order = generator.permutation(sum(SIZES))
    parts = np.split(order, np.cumsum(SIZES)[:-1])
    labels = np.zeros(sum(SIZES), np.int64)
    for client, part in enumerate(parts):
        labels[part] = (client + np.arange(len(part)) % 3) % CLASSES
    # Brightness differs between channels, so that their statistics do.
    span = np.linspace(256, 120, image_shape[-1])
    images, test_images = ((generator.random((count, *image_shape)) * span).astype(np.uint8) for count in (51, 13))
    return Samples(images, labels, parts, test_images, generator.integers(CLASSES, size=13))


class Fast(NamedTuple):
    """The fast path, assembled and compiled."""

    module: nn.Module
    engine: Engine
    strategy: Strategy
    state: Any
    data: ClientData
    dtype: type


def build_module(case: Case) -> nn.Module:
    norm = "batch_static" if case.batch_norm else "none"
    if case.network.startswith("mlp"):
        return MLP(CLASSES, hidden=(12, 9), norm=norm)
    return ConvNet(norm, case.convolution)


def draw_params(module: nn.Module, image_shape: tuple[int, int, int], dtype: type) -> Any:
    """Random biases and scales too: zeros and ones would hide errors in them."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    shapes = jax.eval_shape(lambda key: module.init(key, images, train=True)["params"], jax.random.key(0))
    generator = np.random.default_rng(0)

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        spread = math.sqrt(2 / math.prod(leaf.shape[:-1])) if path.endswith("kernel") else 0.1
        return jnp.asarray(path.endswith("scale") + spread * generator.normal(size=leaf.shape), dtype)

    return map_named(draw, shapes)


def training_of(case: Case) -> LocalTraining:
    recipe = case.recipe
    return LocalTraining(
        optimizer=optimizer_by_name("sgd", recipe.momentum, recipe.clip),
        batch_size=BATCH_SIZE,
        epochs=case.epochs,
        steps=case.steps,
        weight_decay=recipe.weight_decay,
        frobenius_decay=recipe.frobenius_decay,
        proximal=recipe.proximal,
    )


def assemble(case: Case, samples: Samples, dtype: type, build: Callable[..., Strategy] = fedhm) -> Fast:
    network, recipe = NETWORKS[case.network], case.recipe
    module = build_module(case)
    params = draw_params(module, network.image_shape, dtype)
    setting = Setting(
        module,
        jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32),
        params,
        has_statistics=case.batch_norm,
        rank_factors=RANK_FACTORS,
        masked_loss=recipe.masked_loss,
        weighting=case.weighting,
        temperature=case.temperature,
        classifier=case.classifier,
        mean_samples=1.0 if case.history_samples is None else case.history_samples,
    )
    strategy = build(setting, history=case.history_samples is not None, plans=network.plans)
    engine = build_engine(strategy, training_of(case), max(SIZES), TIER_NAMES, case.clients_per_chunk)
    return Fast(
        module,
        Engine(*(jax.jit(function) for function in engine)),
        strategy,
        jax.jit(strategy.init)(params, jax.random.key(0)),
        place_clients(samples.images, samples.labels, samples.parts, CLASSES, dtype),
        dtype,
    )


def draw_batches(case: Case, part: np.ndarray, client_id: int, round_key: jax.Array) -> list[np.ndarray]:
    """The samples of every step, in the order that the fast path's keys give."""
    per_epoch = math.ceil(len(part) / BATCH_SIZE)
    steps = case.epochs * per_epoch if case.steps is None else case.steps
    capacity = math.ceil(max(SIZES) / BATCH_SIZE) * BATCH_SIZE
    batches: list[np.ndarray] = []
    for epoch in range(math.ceil(steps / per_epoch)):
        key = jax.random.fold_in(jax.random.fold_in(round_key, client_id), epoch)
        order = np.asarray(epoch_order(key, jnp.int32(len(part)), capacity))[: len(part)]
        batches += [part[order[start : start + BATCH_SIZE]] for start in range(0, len(part), BATCH_SIZE)]
    return batches[:steps]


def twin_clients(case: Case, samples: Samples, cohort: Cohort, round_key: jax.Array) -> list[twin.Client]:
    return [
        twin.Client(
            tier=tier,
            samples=len(samples.parts[client]),
            owned=np.isin(np.arange(CLASSES), samples.labels[samples.parts[client]]),
            batches=draw_batches(case, samples.parts[client], client, round_key),
        )
        for tier, (clients, count) in enumerate(zip(cohort.clients, cohort.counts, strict=True))
        for client in clients[:count].tolist()
    ]


def to_numpy(params: Any) -> twin.Params:
    return {path: np.asarray(leaf, np.float64) for path, leaf in named_leaves(params).items()}


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def check_rounds(
    case: Case, cohorts: Sequence[Cohort], dtype: type, tolerance: float, build: Callable[..., Strategy] = fedhm
) -> None:
    """Holds server parameters and training sums against the twin after every one of several rounds in a row."""
    samples = draw_samples(NETWORKS[case.network].image_shape)
    fast = assemble(case, samples, dtype, build)
    images = twin.normalise(samples.images, samples.images)
    state = fast.state
    server = to_numpy(fast.strategy.global_model(state))
    for number, cohort in enumerate(cohorts):
        key = jax.random.fold_in(jax.random.key(7), number)
        state, metrics = fast.engine.round_step(
            state, fast.data, cohort, jnp.asarray(case.recipe.learning_rate, dtype), key
        )
        clients = twin_clients(case, samples, cohort, key)
        before = server
        server, sums = twin.fedhm_round(
            server, NETWORKS[case.network].layers, images, samples.labels, clients, case.recipe, case.method
        )
        found = to_numpy(fast.strategy.global_model(state))
        assert found.keys() == server.keys()
        for path, wanted in server.items():
            assert distance(found[path], wanted) < tolerance, (number, path)
            assert not clients or distance(before[path], wanted) > 1e-3, f"{path} hardly moved: nothing is tested"
        for tier, (got, want) in enumerate(zip(metrics, sums, strict=True)):
            np.testing.assert_allclose(got.loss, want.loss, rtol=tolerance, err_msg=f"round {number}, tier {tier}")
            assert (got.samples, got.clients) == (want.samples, want.clients), (number, tier)


def check_evaluation(case: Case, dtype: type, tolerance: float) -> None:
    """Holds logits and test sums of the global model and of every tier's against the twin."""
    network = NETWORKS[case.network]
    samples = draw_samples(network.image_shape)
    fast = assemble(case, samples, dtype)
    # Three test batches, the last with two places of padding; three batches for the statistics.
    placed = place_images(samples.test_images, samples.test_labels, samples.images, dtype)
    dealt = deal_batches(placed, len(samples.test_labels), 5, len(samples.labels), 17, seed=0, dtype=dtype)
    test = jax.tree.map(jnp.asarray, dealt)
    assert test.mask.sum() == 13
    assert test.statistics_rows.shape == (3, 5)
    images, test_images = (twin.normalise(some, samples.images) for some in (samples.images, samples.test_images))
    batches = [images[rows] for rows in np.asarray(test.statistics_rows)]

    @jax.jit
    def predict(params: Any) -> Any:
        functions = fast.strategy.network
        statistics = static_statistics(functions, params, CLASSIFICATION, fast.data.samples, test.statistics_rows)
        return functions.predict(params, statistics, jnp.asarray(test_images, dtype), None)

    found = fast.engine.evaluate(fast.state, fast.data, test)
    received = (
        fast.strategy.global_model(fast.state),
        *(fast.strategy.tier_model(fast.state, tier) for tier in range(len(TIER_NAMES))),
    )
    server = to_numpy(received[0])
    names = ("global", *TIER_NAMES)
    assert set(found) == set(names)
    of_class = [samples.test_labels == label for label in range(CLASSES)]
    for name, params, plan in zip(names, received, ({}, *network.plans), strict=True):
        metrics, model = found[name], twin.distribute(server, plan)
        model |= twin.static_statistics(network.layers, model, batches)
        logits = twin.predict(network.layers, model, test_images)
        assert distance(np.asarray(predict(params)), logits) < tolerance, name
        np.testing.assert_allclose(metrics["loss"].sum, twin.losses(logits, samples.test_labels).sum(), rtol=tolerance)
        assert metrics["accuracy"].sum == twin.hits(logits, samples.test_labels, 1), name
        by_class = [twin.hits(logits[rows], samples.test_labels[rows], 1) for rows in of_class]
        assert metrics["by_class"].sum.tolist() == by_class, name
        assert metrics["top5"].sum == twin.hits(logits, samples.test_labels, 5), name
        assert metrics["loss"].weight == len(samples.test_labels), name


FULL = twin.Recipe(
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.03,
    frobenius_decay=0.05,
    proximal=0.2,
    clip=1.5,  # longer than about every third gradient
    masked_loss=True,
)
PLAIN = twin.Recipe(learning_rate=0.1)
IN_A_ROW = (EVERY_TIER, NO_STRONGEST, NO_MIDDLE, NOBODY)

CASES = {
    "plain": Case("mlp", PLAIN),
    "everything": Case("mlp", FULL, epochs=2, weighting="samples", classifier="classifier"),
    "batch norm": Case("mlp, batch norm", FULL, epochs=2, weighting="rank_softmax", temperature=3.0),
    "steps": Case("mlp", FULL, steps=5, weighting="rank_softmax", classifier="classifier", clients_per_chunk=2),
    "no history": Case("mlp", replace(FULL, masked_loss=False), history_samples=None, classifier="classifier"),
    "conv": Case("conv", FULL, epochs=2, weighting="samples"),
    "conv, gemm, chunks": Case("conv", PLAIN, convolution="gemm", clients_per_chunk=3),
    "conv, canonical": Case("conv", PLAIN, convolution="canonical"),
    "conv, batch norm": Case(
        "conv, batch norm", FULL, classifier="classifier", convolution="canonical", clients_per_chunk=2
    ),
    "conv, lax": Case("conv", FULL, steps=4, history_samples=None, convolution="lax", clients_per_chunk=3),
}
