"""DepthFL against its slow NumPy twin in float64, how deep its tiers are, and what that costs by hand count."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support import strategy_twin, twin
from support.round_twin import to_numpy

from fedhm_jax import (
    ConfigError,
    DataConfig,
    LowRankDense,
    ModelConfig,
    PartitionConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
)
from fedhm_jax.data.client_data import Client
from fedhm_jax.models.build import build_model
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.strategies import Setting, depthfl, fedavg
from fedhm_jax.tasks import Batch
from fedhm_jax.testing import MODELS, setting_for

CLASSES = 4
FACTORS = (1.0, 2.0, 4.0)
OWNED = np.array([True, True, False, True])
KEY = jax.random.key(0)


class Model(NamedTuple):
    """A model in both worlds: the twin's stages and heads, and the layers that each stage adds, by hand."""

    module: nn.Module
    image: tuple[int, int, int]
    stages: list[strategy_twin.Chain]
    heads: list[strategy_twin.Chain]
    layers: list[set[str]]


MLP = Model(
    build_model("mlp", CLASSES, hidden=(7, 5)),
    (3, 2, 1),
    [[twin.Flatten(), twin.Dense("dense_0"), twin.ReLU()], [twin.Dense("dense_1"), twin.ReLU()]],
    [[twin.Dense("head_0/classifier")], [twin.Dense("classifier")]],
    # Without a norm there is nothing between.
    [{"dense_0", "head_0"}, {"dense_1", "classifier"}],
)
CNN = Model(
    build_model("cnn", CLASSES, norm="batch_static"),
    (8, 7, 2),
    [
        [twin.Conv("stem"), twin.BatchNorm("norm_0"), twin.MaxPool(), twin.ReLU()],
        [twin.Conv("conv"), twin.BatchNorm("norm_1"), twin.MaxPool(), twin.ReLU()],
        [twin.Flatten(), twin.Dense("dense"), twin.ReLU()],
    ],
    [
        [
            strategy_twin.Depthwise("head_0/depthwise_0_0", 2),
            strategy_twin.Pointwise("head_0/pointwise_0_0"),
            twin.BatchNorm("head_0/norm_0_0"),
            twin.ReLU(),
            strategy_twin.Depthwise("head_0/depthwise_0_1", 1),
            strategy_twin.Pointwise("head_0/pointwise_0_1"),
            twin.BatchNorm("head_0/norm_0_1"),
            twin.ReLU(),
            strategy_twin.PixelMean(),
            twin.Dense("head_0/classifier"),
        ],
        [strategy_twin.PixelMean(), twin.Dense("head_1/classifier")],
        [twin.Dense("classifier")],
    ],
    [{"stem", "norm_0", "head_0"}, {"conv", "norm_1", "head_1"}, {"dense", "classifier"}],
)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def setting_of(model: Model, **changes: Any) -> Setting:
    images = jax.ShapeDtypeStruct((2, *model.image), jnp.float32)
    shapes = jax.eval_shape(model.module.init, KEY, images)
    setting = Setting(
        model.module,
        images,
        shapes["params"],
        "batch_stats" in shapes,
        FACTORS,
        masked_loss=True,
        classifier="classifier",
    )
    return setting._replace(**changes)


def noisy_state(strategy: Any, model: Model) -> Any:
    """A first state with random biases and norms, whose zeros would hide errors."""
    params = model.module.init(jax.random.key(1), jnp.zeros((2, *model.image), jnp.float32))["params"]
    state = jax.jit(strategy.init)(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params), KEY)
    generator = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape), state)


def assert_close(found: Any, wanted: twin.Params, tolerance: float) -> None:
    found = to_numpy(found)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_allclose(found[path], value, rtol=tolerance, atol=tolerance, err_msg=path)


def prefix(server: twin.Params, model: Model, depth: int) -> twin.Params:
    held = set().union(*model.layers[:depth])
    return {path: value for path, value in server.items() if path.split("/")[0] in held}


# --- a client --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("model", "depths"),
    [(MLP, (2, 2, 1)), pytest.param(CNN, (3, 2, 1), marks=pytest.mark.long)],
    ids=["mlp", "cnn, batch norm"],
)
def test_heads_learn_from_labels_and_from_each_other(model, depths):
    strategy = depthfl(setting_of(model), depths=depths, distillation=0.7)
    state = noisy_state(strategy, model)
    generator = np.random.default_rng(1)
    images, labels = generator.normal(size=(5, *model.image)), np.array([0, 1, 3, 3, 1])
    batch = Batch(jnp.asarray(images), jnp.asarray(labels, jnp.int32), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    for tier, depth in enumerate(depths):
        params, network = strategy.tier_model(state, tier), strategy.networks[tier]
        server = prefix(to_numpy(state), model, depth)
        stages, heads = model.stages[:depth], model.heads[:depth]

        @jax.jit
        def everything(params: Any, strategy: Any = strategy, tier: int = tier, network: Any = network) -> Any:
            found = jax.value_and_grad(strategy.objective(state, tier), has_aux=True)(
                params, batch, jnp.asarray(OWNED), KEY
            )
            four = batch.inputs[:4]
            statistics = network.statistics(params, four)
            return found, network.train(params, four, None, KEY), network.predict(params, statistics, four, None)

        ((value, total), gradient), *logits = everything(params)
        objective, loss, wanted = strategy_twin.mutual_loss_and_gradient(
            stages, heads, server, images[:4], labels[:4], OWNED, 0.7
        )
        np.testing.assert_allclose([value, total], [objective, loss], rtol=1e-9)
        assert_close(gradient, wanted, 1e-9)
        # It predicts with the mean of its heads, and static statistics of one batch are the batch's own.
        mean = np.mean(strategy_twin.of_every_head(stages, heads, server, images[:4]), axis=0)
        for found in logits:
            np.testing.assert_allclose(found, mean, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("float64")
def test_a_single_stage_is_fedavg():
    model = MLP._replace(module=build_model("mlp", CLASSES, hidden=(7,)))
    setting = setting_of(model)
    strategy, plain = depthfl(setting, depths=(1, 1, 1)), fedavg(setting)
    state = noisy_state(strategy, model)
    batch = Batch(jnp.ones((2, *model.image)), jnp.array([0, 1], jnp.int32), jnp.ones(2))
    assert jax.tree.structure(strategy.init(state, KEY)) == jax.tree.structure(plain.init(state, KEY))
    found, wanted = (
        jax.jit(jax.value_and_grad(method.objective(state, 0), has_aux=True))(state, batch, jnp.asarray(OWNED), KEY)
        for method in (strategy, plain)
    )
    assert_close({"all": found}, to_numpy({"all": wanted}), 1e-12)


@pytest.mark.long
def test_the_server_starts_from_the_given_model_and_heads_of_its_own():
    strategy = depthfl(setting_of(CNN), depths=(3, 2, 1))
    params = CNN.module.init(jax.random.key(1), jnp.zeros((2, *CNN.image), jnp.float32))["params"]
    state = jax.jit(strategy.init)(params, KEY)
    assert state.keys() == {*params, "head_0", "head_1"}
    for path, value in to_numpy(params).items():
        np.testing.assert_array_equal(to_numpy(state)[path], value)
    # With all of its own layers in the tree, the module itself computes what the deepest head answers.
    assert CNN.module.apply({"params": state}, jnp.ones((1, *CNN.image)), train=True).shape == (1, CLASSES)


# --- the merge -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("depths", [(3, 2, 1), pytest.param((2, 2, 1), marks=pytest.mark.long)])
def test_a_parameter_is_the_mean_over_those_that_hold_it(depths):
    strategy = depthfl(setting_of(CNN, weighting="samples"), depths=depths)
    state, generator = noisy_state(strategy, CNN), np.random.default_rng(3)
    assert ("dense" in state) == ("classifier" in state) == (max(depths) == 3)
    # tier, samples, classes; class 3 is the weakest tier's alone, and nobody of the strongest comes in the second round
    cohorts = [
        [(0, 5, (0, 1)), (1, 9, (1, 2)), (2, 4, (0, 3)), (2, 7, (0, 1, 2))],
        [(1, 3, (2, 3)), (2, 8, (0, 1, 2, 3))],
    ]
    contribute = jax.jit(strategy.contribute, static_argnums=1)
    for cohort in cohorts:
        server, votes, summed = to_numpy(state), [], []
        for tier in range(3):
            absent = Client(np.int32(0), np.bool_(False), np.int32(0), np.int32(50), np.ones(CLASSES, bool))
            summed.append(contribute(state, tier, strategy.distribute(state, tier, absent), absent))
        for tier, size, classes in cohort:
            owned = np.isin(np.arange(CLASSES), classes)
            client = Client(np.int32(0), np.bool_(True), np.int32(0), np.int32(size), owned)
            received = strategy.distribute(state, tier, client)
            assert_close(received, prefix(server, CNN, depths[tier]), 0)
            trained = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), received)
            summed[tier] = jax.tree.map(jnp.add, summed[tier], contribute(state, tier, trained, client))
            flat = to_numpy(trained)
            places = {path: np.full(value.shape, path in flat) for path, value in server.items()}
            held = {path: flat[path].ravel() if path in flat else np.zeros(0) for path in server}
            votes.append(strategy_twin.Vote(held, places, float(size), owned))
        state = jax.jit(strategy.aggregate)(state, summed, jnp.array([1, 1, 2], jnp.int32))
        wanted = {}
        for group in ("", "head_0/", "head_1/"):
            # Of every head the classifier is averaged by class.
            paths = [path for path in server if path.startswith(group) and (group or not path.startswith("head"))]
            own = {path.removeprefix(group): server[path] for path in paths}
            cut = [
                vote._replace(
                    trained={path.removeprefix(group): vote.trained[path] for path in paths},
                    places={path.removeprefix(group): vote.places[path] for path in paths},
                )
                for vote in votes
            ]
            wanted |= {group + path: value for path, value in strategy_twin.merge(own, cut, "classifier").items()}
        assert_close(state, wanted, 1e-12)
        for path, before in server.items():
            untouched = wanted[path] == before
            np.testing.assert_array_equal(to_numpy(state)[path][untouched], before[untouched])


# --- costs and refusals ----------------------------------------------------------------------------------------------

DIGITS = SimulationConfig(
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=6, min_samples=4),
    strategy=StrategyConfig("depthfl"),
)
# CNN on 8 x 8 images. Head 0: 3 x 3 for each of 16 channels, 16 x 16, the same again with 16 x 32, 32 x 10 and 10.
HEAD_0 = (144 + 256 + 144 + 512 + 330, 4 * (144 + 256 + 144 + 512) + 320)
HEAD_1 = (330, 320)
BY_HAND = {
    1: (160 + HEAD_0[0], 64 * 9 * 16 + HEAD_0[1]),
    2: (160 + 4640 + HEAD_0[0] + HEAD_1[0], 64 * 9 * 16 + 16 * 9 * 16 * 32 + HEAD_0[1] + HEAD_1[1]),
    3: (13706 + HEAD_0[0] + HEAD_1[0], 91776 + HEAD_0[1] + HEAD_1[1]),
}


@pytest.mark.parametrize(("budget", "depths"), [("bytes", (3, 2, 1, 1)), ("macs", (3, 1, 1, 1))])
def test_solved_depths_and_costs_by_hand(budget, depths):
    costs = check_run(replace(DIGITS, strategy=StrategyConfig("depthfl", budget=budget))).plan.costs
    assert [(cost.parameters, cost.macs) for cost in costs] == [BY_HAND[depth] for depth in depths]
    assert all(cost.bytes_down == cost.bytes_up == 4 * cost.parameters for cost in costs)
    assert all(cost.train_macs == cost.macs for cost in costs)
    # The deepest within FedHM's cost; f = 1 is the whole model, whose heads come on top.
    wanted = check_run(replace(DIGITS, strategy=StrategyConfig("fedhm"))).plan.costs
    for cost, target, depth in zip(costs[1:], wanted[1:], depths[1:], strict=True):
        spent, allowed = (cost.bytes_up, target.bytes_up) if budget == "bytes" else (cost.macs, target.macs)
        deeper = BY_HAND[depth + 1]
        assert spent <= allowed < (4 * deeper[0] if budget == "bytes" else deeper[1])
        assert cost.size == f"{depth} of 3 stages"


def test_a_first_stage_that_costs_too_much_says_so():
    # 64 x 20 whole: the first layer of an MLP, where FedHM has factors
    config = replace(DIGITS, model=ModelConfig("mlp", hidden=(20, 10)), tiers=TiersConfig((1, 4)))
    assert [cost.size for cost in check_run(config).plan.costs] == ["2 of 2 stages", "1 of 2 stages, over budget"]


def test_without_a_whole_tier_the_server_ends_at_the_deepest():
    strategy = depthfl(setting_for("cnn", (2.0, 4.0)))
    state = jax.eval_shape(strategy.init, setting_for("cnn", (2.0, 4.0)).shapes, KEY)
    assert state.keys() == {"stem", "conv", "head_0", "head_1"}
    assert strategy.sizes[0] == "2 of 3 stages"


def test_depths_beyond_the_model_are_refused():
    with pytest.raises(
        ConfigError, match=r"strategy\.depths is \(4, 2, 1, 1\), but must be at most 3, the stages of CNN"
    ):
        check_run(replace(DIGITS, strategy=StrategyConfig("depthfl", depths=(4, 2, 1, 1))))


class NoStages(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return nn.Dense(3, name="classifier")(LowRankDense(8)(images.reshape(images.shape[0], -1)))


class OtherStages(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return nn.Dense(3, name="classifier")(images.reshape(images.shape[0], -1))

    def stages(self):
        return (lambda hidden, *, mask, train: LowRankDense(8, name="dense")(hidden.reshape(hidden.shape[0], -1)),)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (NoStages(), "it has no such method"),
        (OtherStages(), "they make a model that has"),
        (build_model("mlp", 3, hidden=()), "it has no stage"),
    ],
)
def test_a_model_without_such_stages_is_refused(module, reason):
    shapes = jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)))["params"]
    setting = setting_for("mlp", (1.0, 2.0))._replace(module=module, shapes=shapes)
    with pytest.raises(ConfigError, match=r"model is '\w+', but must be a model whose stages\(\) lead up") as caught:
        depthfl(setting, depths=(1, 1))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_built_in_model_has_stages():
    for name in MODELS:
        setting = setting_for(name, (1.0, 1.0))
        state = jax.eval_shape(depthfl(setting).init, setting.shapes, KEY)
        assert {layer for layer in state if not layer.startswith("head_")} == setting.shapes.keys()
