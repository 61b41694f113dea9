"""The merges by segments and of factors, and nested training, against their slow NumPy twins, in float64."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import segment_twin, twin
from support.round_twin import CLASSES, NETWORKS, RANK_FACTORS, Case, build_module, distance, draw_params, to_numpy

from fedhm_jax.data.client_data import Client
from fedhm_jax.lowrank import is_factors
from fedhm_jax.server import Contribution
from fedhm_jax.strategies import fedhm_factors, fedhm_nested, fedhm_segments
from fedhm_jax.strategies.base import Setting
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import named_leaves

RECIPE = twin.Recipe(learning_rate=0.1)
TOLERANCE = 1e-10
# Tiers of each round's clients. Somebody is missing in every tier but one; last, nobody comes.
ROUNDS = ((0, 1, 1, 2), (1, 2), (0, 2, 2), (2,), ())
_RANKS_OF_CLASSIFIER: tuple[dict[str, int], ...] = ({}, {"classifier/kernel": 4}, {"classifier/kernel": 2})
CLASSIFIER_TOO = tuple({**plan, **rank} for plan, rank in zip(NETWORKS["mlp"].plans, _RANKS_OF_CLASSIFIER, strict=True))
WITHOUT_A_WHOLE_TIER = {"mlp": NETWORKS["mlp"].plans[2:] * 2, "conv": NETWORKS["conv"].plans[1:]}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def setting_of(network: str, plans: Sequence[Any]) -> Setting:
    case = Case(network, RECIPE)
    module, shape = build_module(case), NETWORKS[network].image_shape
    params = draw_params(module, shape, np.float64)
    factors, images = RANK_FACTORS[: len(plans)], jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return Setting(
        module, images, params, has_statistics=False, rank_factors=factors, weighting="samples", classifier="classifier"
    )


def in_matrices(params: Any) -> twin.Params:
    """A tree as the twin has it, factors as matrices."""
    flat: twin.Params = {}
    for path, node in named_leaves(params, is_leaf=is_factors).items():
        if not is_factors(node):
            flat[path] = np.asarray(node)
            continue
        v, u = np.asarray(node.v), np.asarray(node.u)
        if v.ndim == 4:
            u = u[:, 0].transpose(1, 2, 0).reshape(node.rank, -1)
            v = v[0].transpose(1, 0, 2).reshape(-1, node.rank)
        flat |= {f"{path}/u": u.T, f"{path}/v": v.T}
    return flat


def stirred(tree: Any, generator: np.random.Generator) -> Any:
    return jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape), tree)


@pytest.mark.parametrize(
    ("network", "plans"),
    [
        ("mlp", NETWORKS["mlp"].plans),
        ("mlp", CLASSIFIER_TOO),
        pytest.param("conv", NETWORKS["conv"].plans, marks=pytest.mark.long),
        ("mlp", WITHOUT_A_WHOLE_TIER["mlp"]),
        pytest.param("conv", WITHOUT_A_WHOLE_TIER["conv"], marks=pytest.mark.long),
    ],
    ids=["mlp", "mlp, classifier too", "conv", "mlp, low rank", "conv, low rank"],
)
def test_rounds_equal_the_twins(network: str, plans: Sequence[Any]) -> None:
    setting = setting_of(network, plans)
    strategy = fedhm_segments(setting, plans=plans, decomposition="svd")
    state, generator = strategy.init(setting.shapes, jax.random.key(0)), np.random.default_rng(1)
    server = segment_twin.at_largest_rank(to_numpy(setting.shapes), plans)
    contribute = jax.jit(strategy.contribute, static_argnums=1)
    for tiers in ROUNDS:
        sums: list[Contribution | None] = [None] * len(plans)
        clients = []
        for tier in (tier for tier in tiers if tier < len(plans)):
            owned, size = generator.random(CLASSES) < 0.6, int(generator.integers(1, 9))
            client = Client(jnp.int32(0), jnp.bool_(True), jnp.int32(0), jnp.int32(size), jnp.asarray(owned))
            trained = stirred(strategy.distribute(state, tier, client), generator)
            sent, before = contribute(state, tier, trained, client), sums[tier]
            sums[tier] = sent if before is None else jax.tree.map(jnp.add, before, sent)
            clients.append(segment_twin.Trained(in_matrices(trained), plans[tier], size, owned))
        for tier, summed in enumerate(sums):
            nobody = Client(jnp.int32(0), jnp.bool_(False), jnp.int32(0), jnp.int32(1), jnp.ones(CLASSES, bool))
            if summed is None:
                received = strategy.distribute(state, tier, nobody)
                sums[tier] = contribute(state, tier, received, nobody)
        counts = jnp.asarray([tiers.count(tier) for tier in range(len(plans))], jnp.int32)
        before = server
        state = strategy.aggregate(state, sums, counts)
        server = segment_twin.merge(server, plans, clients, "classifier")
        found = to_numpy(strategy.global_model(state))
        for path, wanted in server.items():
            assert distance(found[path], wanted) < TOLERANCE, (tiers, path)
        moved = max(distance(before[path], wanted) for path, wanted in server.items())
        assert moved > 1e-2 if clients else moved < TOLERANCE


FACTORS = {
    "mlp": (
        {"dense_0/kernel": 5, "dense_1/kernel": 4, "classifier/kernel": 3},
        {"dense_0/kernel": 3, "dense_1/kernel": 4, "classifier/kernel": 2},
        {"dense_0/kernel": 2, "dense_1/kernel": 1, "classifier/kernel": 2},
    ),
    "conv": (
        {"conv_0/kernel": 5, "conv_1/kernel": 4, "dense/kernel": 3},
        {"conv_0/kernel": 3, "conv_1/kernel": 2, "dense/kernel": 3},
        {"conv_0/kernel": 1, "conv_1/kernel": 1, "dense/kernel": 2},
    ),
}


@pytest.mark.parametrize("network", ["mlp", pytest.param("conv", marks=pytest.mark.long)])
def test_rounds_of_factors_equal_the_twins(network: str) -> None:
    plans = FACTORS[network]
    setting = setting_of(network, plans)
    strategy = fedhm_factors(setting, plans=plans, decomposition="svd")
    state, generator = strategy.init(setting.shapes, jax.random.key(0)), np.random.default_rng(1)
    contribute = jax.jit(strategy.contribute, static_argnums=1)
    for tiers in ROUNDS:
        before, clients = in_matrices(state), []
        sums: list[Contribution] = []
        for tier, plan in enumerate(plans):
            absent = Client(jnp.int32(0), jnp.bool_(False), jnp.int32(0), jnp.int32(1), jnp.ones(CLASSES, bool))
            sums.append(contribute(state, tier, strategy.distribute(state, tier, absent), absent))
            for _ in range(tiers.count(tier)):
                owned, size = generator.random(CLASSES) < 0.6, int(generator.integers(1, 9))
                client = Client(jnp.int32(0), jnp.bool_(True), jnp.int32(0), jnp.int32(size), jnp.asarray(owned))
                trained = stirred(strategy.distribute(state, tier, client), generator)
                sums[tier] = jax.tree.map(jnp.add, sums[tier], contribute(state, tier, trained, client))
                clients.append(segment_twin.Trained(in_matrices(trained), plan, size, owned))
        counts = jnp.asarray([tiers.count(tier) for tier in range(len(plans))], jnp.int32)
        state = strategy.aggregate(state, sums, counts)
        wanted = segment_twin.merge_factors(before, clients, "classifier")
        found = in_matrices(state)
        assert found.keys() == wanted.keys()
        for path, leaf in wanted.items():
            assert distance(found[path], leaf) < TOLERANCE, (tiers, path)
        moved = max(distance(before[path], leaf) for path, leaf in wanted.items())
        assert moved > 1e-2 if clients else moved < TOLERANCE


@pytest.mark.parametrize(
    ("network", "tier"),
    [("mlp", 0), ("mlp", 1), ("conv", 1), *(pytest.param("conv", tier, marks=pytest.mark.long) for tier in (0, 2))],
)
@pytest.mark.parametrize("nesting", ["all", "drawn", "none"])
def test_nested_losses_and_gradients_equal_the_twins(network: str, tier: int, nesting: Any) -> None:
    plans, shape = NETWORKS[network].plans, NETWORKS[network].image_shape
    setting = setting_of(network, plans)
    strategy = fedhm_nested(setting, nesting=nesting, plans=plans, decomposition="svd")
    state, generator = strategy.init(setting.shapes, jax.random.key(0)), np.random.default_rng(2)
    nobody = Client(jnp.int32(0), jnp.bool_(True), jnp.int32(0), jnp.int32(1), jnp.ones(CLASSES, bool))
    params = stirred(strategy.distribute(state, tier, nobody), generator)
    images, labels = generator.normal(size=(4, *shape)), generator.integers(CLASSES, size=4)
    batch = Batch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(4))

    flat, server = in_matrices(params), to_numpy(setting.shapes)
    wanted = []
    for plan in plans[tier:]:
        inside = segment_twin.truncation(flat, server, plan)
        loss, found = twin.loss_and_gradient(NETWORKS[network].layers, inside, images, labels, np.ones(CLASSES, bool))
        wanted.append((loss, segment_twin.gradient_back(found, flat, inside)))
    if nesting == "none":
        wanted = wanted[:1]
    if nesting == "all":
        mean = {path: np.mean([gradient[path] for _, gradient in wanted], axis=0) for path in flat}
        wanted = [(np.mean([loss for loss, _ in wanted]), mean)]

    call = jax.jit(jax.value_and_grad(strategy.objective(state, tier), has_aux=True))
    seen = set()
    for seed in range(12 if nesting == "drawn" else 1):
        (value, _), gradient = call(params, batch, jnp.ones(CLASSES, bool), jax.random.key(seed))
        nearest = int(np.abs([float(value) - loss / 4 for loss, _ in wanted]).argmin())
        np.testing.assert_allclose(value, wanted[nearest][0] / 4, rtol=TOLERANCE)
        for path, found in in_matrices(gradient).items():
            np.testing.assert_allclose(found, wanted[nearest][1][path], atol=TOLERANCE)
        seen.add(nearest)
    assert seen == set(range(len(wanted)))
