"""Adapters of unequal rank against slow NumPy twins, in float64: what is merged, what is sent, what is trained."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support import adapter_twin
from support.traced import equations

from fedhm_jax import (
    AggregationConfig,
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    load_dataset,
    simulate,
)
from fedhm_jax.client import supervised
from fedhm_jax.data import Client
from fedhm_jax.layers import LowRankConv, LowRankDense
from fedhm_jax.lowrank import Factors, recover
from fedhm_jax.run.preparation.assembly import check_run, prepare
from fedhm_jax.strategies import STRATEGIES, Setting, Strategy, fedhm
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import map_named, named_leaves

ADAPTERS = tuple(adapter_twin.MERGES)
CLASSES, IMAGE, ALPHA = 3, (4, 5, 3), 6.0
RANKS = (5, 3, 2)
MATRICES = {"conv/kernel": (2 * 3, 3 * 4), "dense/kernel": (2 * 5 * 4, 6)}
TIERS = (0, 1, 1, 2)
# Who of them comes. Somebody is missing in every tier; last, nobody comes.
ROUNDS = ((0, 1, 2, 3), (2, 3), (0, 3), (3,), ())
TOLERANCE = 1e-10


class Small(nn.Module):
    """A convolution and a dense layer with adapters, a classifier without."""

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        hidden = nn.relu(LowRankConv(4, (3, 2), (2, 1), method="lax", name="conv")(images))
        hidden = nn.relu(LowRankDense(6, name="dense")(hidden.reshape(hidden.shape[0], -1)))
        return nn.Dense(CLASSES, name="classifier")(hidden)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@cache
def problem() -> Setting:
    drawn = jax.eval_shape(Small().init, jax.random.key(0), jnp.zeros((1, *IMAGE), jnp.float32))["params"]
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape)), drawn)
    images = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    return Setting(Small(), images, params, has_statistics=False, rank_factors=(1.0, 2.0, 4.0), weighting="samples")


def built(setting: Setting, name: str, **options: Any) -> Strategy[Any]:
    if name == "florist":
        options = {"energy": 0.9} | options
    return STRATEGIES[name].build(setting, adapter_ranks=RANKS, alpha=ALPHA, **options)


def client(number: int) -> Client:
    return Client(jnp.int32(number), jnp.bool_(True), jnp.int32(0), jnp.int32(1), jnp.ones(CLASSES, bool))


def in_matrices(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """v as (kw * i, r), u as (r, kh * o)."""
    v, u = (np.asarray(side) for side in factors)
    if v.ndim == 4:
        u = np.concatenate(list(u[:, 0]), axis=1)
    return v.reshape(-1, v.shape[-1]), u


def in_matrix(kernel: Any) -> np.ndarray:
    """(kw * i, kh * o)."""
    whole = np.asarray(kernel)
    if whole.ndim == 2:
        return whole
    return np.concatenate([row.reshape(-1, row.shape[-1]) for row in whole], axis=1)


def differences(model: Any) -> dict[str, np.ndarray]:
    """By kernel, what a model is beside the base; all else must be as in the base."""
    held, base = named_leaves(model), named_leaves(problem().shapes)
    assert all((held[path] == base[path]).all() for path in base if path not in MATRICES)
    return {path: in_matrix(held[path] - base[path]) for path in MATRICES}


class Round(NamedTuple):
    """What came of a round: what each client received and trained, the state, and the models by name."""

    received: list[dict[str, Factors]]
    trained: list[dict[str, Factors]]
    state: Any
    models: dict[str, Any]


@cache
def play(name: str) -> Callable[..., Round]:
    """A round of clients of the tiers 0, 1, 1 and 2 as one program, for those of them that are present."""
    strategy = built(problem(), name)

    def round_of(state: Any, noise: Any, present: jax.Array, sizes: jax.Array) -> Round:
        received, trained = [], []
        sums: list[Any] = [None, None, None]
        for slot, tier in enumerate(TIERS):
            who = client(slot)._replace(present=present[slot], size=sizes[slot])
            received.append(strategy.distribute(state, tier, who))
            trained.append(jax.tree.map(jnp.add, received[-1], noise[slot]))
            sent = strategy.contribute(state, tier, trained[-1], who)
            sums[tier] = sent if sums[tier] is None else jax.tree.map(jnp.add, sums[tier], sent)
        counts = jnp.stack([present[:1].sum(), present[1:3].sum(), present[3:].sum()])
        after = strategy.aggregate(state, sums, counts)
        models = {str(tier): strategy.tier_model(after, tier) for tier in range(3)}
        return Round(received, trained, after, models | {"global": strategy.global_model(after)})

    return jax.jit(round_of)


@cache
def first_state(name: str) -> Any:
    return jax.jit(built(problem(), name).init)(problem().shapes, jax.random.key(0))


def noise_of(name: str, generator: np.random.Generator) -> list[Any]:
    strategy, state = built(problem(), name), first_state(name)
    shapes = [jax.eval_shape(lambda s, t=tier: strategy.distribute(s, t, client(0)), state) for tier in TIERS]
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * generator.normal(size=leaf.shape)), shapes)


@pytest.mark.parametrize("name", ADAPTERS)
def test_rounds_equal_the_twins(name):
    state, generator = first_state(name), np.random.default_rng(1)
    servers = {path: adapter_twin.nothing(*shape, max(RANKS)) for path, shape in MATRICES.items()}
    for slots in ROUNDS:
        sizes = generator.integers(1, 9, 4)
        present = np.isin(np.arange(4), slots)
        played = play(name)(state, noise_of(name, generator), jnp.asarray(present), jnp.asarray(sizes, jnp.int32))
        state = played.state
        for path, before in servers.items():
            clients = []
            for slot in slots:
                rank = RANKS[TIERS[slot]]
                v, u = in_matrices(played.received[slot][path])
                assert v.shape[1] == rank
                assert (np.linalg.norm(v, axis=0) > 0.1).all()  # else no gradient would ever come
                sent = adapter_twin.sent(name, before, rank)
                np.testing.assert_allclose(ALPHA / rank * v @ u, sent, atol=TOLERANCE)
                clients.append(adapter_twin.Trained(*in_matrices(played.trained[slot][path]), float(sizes[slot])))
            if slots:
                servers[path] = adapter_twin.MERGES[name](before, clients, RANKS, ALPHA)
                assert np.abs(servers[path].difference - before.difference).max() > 1e-2
            found = differences(played.models["global"])[path]
            np.testing.assert_allclose(found, servers[path].difference, atol=TOLERANCE)
            for tier, rank in enumerate(RANKS):
                wanted = found if name == "flora" else adapter_twin.sent(name, servers[path], rank)
                np.testing.assert_allclose(differences(played.models[str(tier)])[path], wanted, atol=TOLERANCE)


def test_florist_keeps_fewer_directions_than_flexlora():
    ranks = {}
    for name in ("flexlora", "florist"):
        noise = noise_of(name, np.random.default_rng(3))
        played = play(name)(first_state(name), noise, jnp.ones(4, bool), jnp.ones(4, jnp.int32))
        ranks[name] = [np.linalg.matrix_rank(found) for found in differences(played.models["global"]).values()]
    assert ranks["flexlora"] == [6, 6]
    assert max(ranks["florist"]) < 6


@pytest.mark.parametrize("name", sorted({*ADAPTERS} - {"florist"}))
def test_one_client_alone_gets_back_what_it_trained(name):
    noise = noise_of(name, np.random.default_rng(2))
    played = play(name)(first_state(name), noise, jnp.arange(4) == 1, jnp.ones(4, jnp.int32))
    for model in ("global", "0", "1"):  # the strongest tier's rank is larger, so it holds all of it as well
        for path, found in differences(played.models[model]).items():
            v, u = in_matrices(played.trained[1][path])
            np.testing.assert_allclose(found, ALPHA / RANKS[1] * v @ u, atol=TOLERANCE)


def test_flora_draws_anew_for_every_client_and_every_round():
    noise = noise_of("flora", np.random.default_rng(9))
    arguments = noise, jnp.ones(4, bool), jnp.ones(4, jnp.int32)
    first = play("flora")(first_state("flora"), *arguments)
    second = play("flora")(first.state, *arguments)
    begun = [np.asarray(tree["dense/kernel"].v) for tree in (*first.received[1:3], second.received[1])]
    assert all(np.abs(one - other).max() > 0.1 for one, other in combinations(begun, 2))
    assert abs(np.concatenate(begun).std() * np.sqrt(40) - 1) < 0.3  # columns of length 1 in the mean square


def test_flexlora_on_a_base_of_zero_merges_as_fedhm_does():
    setting = problem()
    plans = tuple(dict.fromkeys(MATRICES, rank) for rank in RANKS)
    models = fedhm(setting, history=False, decomposition="svd", plans=plans)
    strategy, noise = built(setting, "flexlora"), noise_of("flexlora", np.random.default_rng(4))

    @jax.jit
    def kernels() -> tuple[dict[str, Any], dict[str, Any]]:
        zero = jax.tree.map(jnp.zeros_like, setting.shapes)
        assert strategy.replace_model is not None
        state = strategy.replace_model(strategy.init(zero, jax.random.key(0)), setting.shapes)
        server = models.init(setting.shapes, jax.random.key(0))
        contributions, sums = [], []
        for tier, slot in enumerate((0, 1, 3)):
            mine = jax.tree.map(jnp.add, strategy.distribute(state, tier, client(0)), noise[slot])
            contributions.append(strategy.contribute(state, tier, mine, client(0)))
            in_place = map_named(
                lambda path, leaf, mine=mine: (
                    Factors(mine[path].v, ALPHA / mine[path].rank * mine[path].u) if path in mine else leaf
                ),
                setting.shapes,
            )
            sums.append(models.contribute(server, tier, in_place, client(0)))
        counts = jnp.ones(3, jnp.int32)
        merged = strategy.aggregate(state, contributions, counts), models.aggregate(server, sums, counts)
        found, wanted = strategy.global_model(merged[0]), models.global_model(merged[1])
        return tuple({path: named_leaves(tree)[path] for path in MATRICES} for tree in (found, wanted))

    found, wanted = kernels()
    for path, kernel in wanted.items():
        np.testing.assert_allclose(found[path], kernel, atol=TOLERANCE)
        assert np.abs(kernel - named_leaves(setting.shapes)[path]).max() > 0.1


@pytest.fixture(scope="module")
def batch() -> Batch:
    generator = np.random.default_rng(5)
    with jax.enable_x64(True):
        images, labels = generator.normal(size=(4, *IMAGE)), jnp.asarray(generator.integers(CLASSES, size=4))
        return Batch(jnp.asarray(images), labels, jnp.ones(4))


def test_gradients_go_into_the_adapters_by_the_chain_rule(batch):
    """With G that of the whole kernel, ``(alpha / r) G u^T`` is that of v, and ``(alpha / r) v^T G`` that of u."""
    setting, tier = problem(), 1
    strategy, state = built(setting, "flexlora"), first_state("flexlora")
    mine = jax.tree.map(
        jnp.add, strategy.distribute(state, tier, client(0)), noise_of("flexlora", np.random.default_rng(6))[tier]
    )
    whole = map_named(
        lambda path, leaf: leaf + ALPHA / RANKS[tier] * recover(mine[path]) if path in mine else leaf, setting.shapes
    )
    plain, arguments = supervised(setting.network, masked=False), (batch, jnp.ones(CLASSES, bool), jax.random.key(0))

    @jax.jit
    def both() -> Any:
        objective = strategy.objective(state, tier)
        return (
            jax.value_and_grad(objective, has_aux=True)(mine, *arguments),
            jax.value_and_grad(plain, has_aux=True)(whole, *arguments),
        )

    ((loss, _), found), ((wanted, _), by_kernel) = both()
    np.testing.assert_allclose(loss, wanted, rtol=TOLERANCE)
    assert set(found) == set(MATRICES)
    for path, gradient in found.items():
        by_v, by_u = in_matrices(gradient)
        v, u = in_matrices(mine[path])
        slope = in_matrix(named_leaves(by_kernel)[path]) * ALPHA / RANKS[tier]
        np.testing.assert_allclose(by_v, slope @ u.T, atol=TOLERANCE)
        np.testing.assert_allclose(by_u, v.T @ slope, atol=TOLERANCE)


def test_side_by_side_clients_share_the_base_and_no_product_of_factors_is_made(batch):
    """Of seven clients no value in the traced step has a whole kernel's shape for each."""
    strategy, state, clients = built(problem(), "fedhm_adapters"), first_state("fedhm_adapters"), 7

    def step(mine: Any, batches: Batch) -> Any:
        objective = strategy.objective(state, 0)
        key, owned = jax.random.key(0), jnp.ones(CLASSES, bool)
        return jax.vmap(lambda own, one: jax.grad(objective, has_aux=True)(own, one, owned, key)[0])(mine, batches)

    trained = jax.eval_shape(lambda state: strategy.distribute(state, 0, client(0)), state)
    many = jax.tree.map(lambda leaf: jnp.zeros((clients, *leaf.shape), leaf.dtype), (trained, batch))
    values = [value for done in equations(step, *many) for value in (*done.invars, *done.outvars)]
    seen = {getattr(value.aval, "shape", ()) for value in values}
    kernels = [named_leaves(problem().shapes)[path].shape for path in MATRICES]
    assert all(kernel in seen for kernel in kernels)
    assert not any((clients, *kernel) in seen for kernel in kernels)


@pytest.mark.parametrize("nesting", ["all", "drawn", "none"])
def test_nested_losses_are_those_of_the_truncated_products(batch, nesting):
    setting = problem()
    strategy, state = built(setting, "fedhm_adapters", nesting=nesting), first_state("fedhm_adapters")
    mine = jax.tree.map(
        jnp.add, strategy.distribute(state, 0, client(0)), noise_of("fedhm_adapters", np.random.default_rng(7))[0]
    )
    plain, arguments = supervised(setting.network, masked=False), (batch, jnp.ones(CLASSES, bool))

    def cut(rank: int) -> Any:
        """A weaker tier's model inside, with the client's own scale."""

        def kernel(path: str, leaf: jax.Array) -> jax.Array:
            if path not in mine:
                return leaf
            v, u = mine[path]
            return leaf + ALPHA / RANKS[0] * recover(Factors(v[..., :rank], u[..., :rank, :]))

        return map_named(kernel, setting.shapes)

    wanted = [float(plain(cut(rank), *arguments, jax.random.key(0))[0]) for rank in RANKS]
    objective = jax.jit(strategy.objective(state, 0))
    found = {round(float(objective(mine, *arguments, jax.random.key(seed))[0]), 10) for seed in range(12)}
    expected = {"all": [float(np.mean(wanted))], "drawn": wanted, "none": wanted[:1]}[nesting]
    assert found == {round(loss, 10) for loss in expected}


SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=64, test_samples=20),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8, 6)),
    tiers=TiersConfig(rank_factors=(1, 2)),
    local=LocalConfig(steps=2, batch_size=8),
    server=ServerConfig(rounds=1),
)


def config_of(name: str, **changes: Any) -> SimulationConfig:
    return replace(SMALL, strategy=StrategyConfig(name=name, adapter_ranks=(4, 2), classifier_rows="all"), **changes)


def test_adapters_are_counted_and_the_base_is_named():
    base = 64 * 8 + 8 + 8 * 6 + 6 + 6 * 10 + 10
    for cost, rank in zip(check_run(config_of("flexlora")).plan.costs, (4, 2), strict=True):
        assert cost.size == f"adapters of rank {rank} on a base of {base}"
        assert cost.parameters == rank * (64 + 8) + rank * (8 + 6)
        assert cost.bytes_down == cost.bytes_up == 4 * cost.parameters


def test_flora_sends_everybodys_adapters_to_everybody():
    tiers = TiersConfig(rank_factors=(1, 2), counts=(1, 3))
    costs = check_run(config_of("flora", tiers=tiers)).plan.costs
    one, other = 4 * 4 * (72 + 14), 4 * 2 * (72 + 14)
    assert [(cost.bytes_up, cost.bytes_down) for cost in costs] == [(one, one + 3 * other), (other, one + 3 * other)]


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_does_not_hold_is_refused(name):
    with pytest.raises(ConfigError, match=r"^aggregation\.merge is 'median', but must be 'mean' for a strategy whose"):
        check_run(config_of(name, aggregation=AggregationConfig(merge="median")))
    private = {"aggregation": AggregationConfig(clip=1.0), "privacy": PrivacyConfig(noise_multiplier=1.0)}
    with pytest.raises(
        ConfigError, match=r"^privacy\.noise_multiplier is 1\.0, but must be unset for a strategy whose"
    ):
        check_run(config_of(name, **private))


def test_factors_averaged_apart_have_no_server_optimizer():
    with pytest.raises(ConfigError, match=r"^strategy has no replace_model"):
        check_run(config_of("hetlora", server=ServerConfig(optimizer="adam")))


def test_a_model_without_a_low_rank_layer_is_refused():
    plain = ModelConfig(name="mlp", hidden=())
    with pytest.raises(ConfigError, match=r"^model is 'MLP', but must be a model with a low-rank layer, beside whose"):
        check_run(config_of("flexlora", model=plain))


@pytest.mark.long
def test_a_tiers_model_predicts_and_is_a_base_for_the_next(tmp_path):
    with jax.enable_x64(False):
        first = simulate(config_of("flexlora"))
        model, test = first.models["f2"], load_dataset("digits", train_samples=64, test_samples=20)
        hits = (model.predict(test.test_images).argmax(1) == test.test_labels).mean()
        assert hits == pytest.approx(first.final["accuracy"]["f2"])
        assert model.ranks == {}  # merged into whole kernels
        model.save(tmp_path / "f2.safetensors")
        config = config_of("fedhm_adapters", model=replace(SMALL.model, init=tmp_path / "f2.safetensors"))
        run = prepare(config)
        begun = named_leaves(run.parts.strategy.tier_model(run.state, 1))
        assert all((np.asarray(begun[path]) == leaf).all() for path, leaf in named_leaves(model.params).items())
