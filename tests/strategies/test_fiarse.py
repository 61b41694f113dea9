"""FIARSE against its slow NumPy twin in float64, what its tiers hold, and what that costs by hand count."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from support import strategy_twin, twin
from support.round_twin import draw_params, to_numpy

from fedhm_jax import (
    ConfigError,
    DataConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
)
from fedhm_jax.client.update import Assignment, LocalTraining, build_local_update, train_client
from fedhm_jax.data.client_data import Client, client_by_id, place_clients
from fedhm_jax.models.build import build_model
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.strategies import Setting, fiarse
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import named_leaves

CLASSES = 4
IMAGE = (3, 2, 1)
FACTORS = (1.0, 2.0, 4.0)
DENSITIES = (1.0, 0.5, 0.1)
# kernels 6 x 7, 7 x 5 and 5 x 4
ENTRIES = 97
HELD = (97, 48, 10)
LAYERS = [
    twin.Flatten(),
    *(layer for index in range(2) for layer in (twin.Dense(f"dense_{index}"), twin.ReLU())),
    twin.Dense("classifier"),
]
OWNED = np.array([True, True, False, True])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def mlp_setting(**changes: Any) -> Setting:
    module = build_model("mlp", CLASSES, hidden=(7, 5))
    images = jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    return Setting(module, images, shapes, False, FACTORS, classifier="classifier")._replace(**changes)


def first_state(strategy: Any) -> Any:
    params = draw_params(build_model("mlp", CLASSES, hidden=(7, 5)), IMAGE, jnp.float64)
    return strategy.init(params, jax.random.key(0))


def client(size: int = 5, owned: tuple[int, ...] = (0, 1, 2, 3), present: bool = True) -> Client:
    held = np.isin(np.arange(CLASSES), owned)
    return Client(np.int32(0), np.bool_(present), np.int32(0), np.int32(size), held)


def assert_equal(found: twin.Params, wanted: twin.Params, tolerance: float = 0) -> None:
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_allclose(found[path], value, rtol=0, atol=tolerance, err_msg=path)


def only(params: twin.Params, places: strategy_twin.Places) -> twin.Params:
    return {path: np.where(places[path], value, 0) for path, value in params.items()}


# --- what a tier holds -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
def test_a_tier_holds_the_entries_of_largest_magnitude_of_all_kernels():
    strategy = fiarse(mlp_setting(), densities=DENSITIES)
    state = first_state(strategy)
    server = to_numpy(state.params)
    for tier, held in enumerate(HELD):
        places = strategy_twin.largest(server, held)
        assert sum(mask.sum() for path, mask in places.items() if path.endswith("kernel")) == held
        assert_equal(to_numpy(strategy.distribute(state, tier, client())), only(server, places))
        assert_equal(to_numpy(strategy.tier_model(state, tier)), only(server, places))
    # not as many of each kernel: largest over the whole net
    shares = [places[f"{name}/kernel"].mean() for name in ("dense_0", "dense_1", "classifier")]
    assert max(shares) > 2 * min(shares)
    assert [size.split()[0] for size in strategy.sizes] == ["full", "density", "density"]


@pytest.mark.usefixtures("float64")
def test_a_tie_of_zeros_is_not_held():
    """A kernel that begins at zero must not swell what a tier holds."""
    strategy = fiarse(mlp_setting(), densities=DENSITIES)
    params = jax.tree.map(lambda leaf: jnp.zeros_like(leaf).at[0].set(1), first_state(strategy).params)
    state = strategy.init(params, jax.random.key(0))
    received = strategy.distribute(state, 1, client())
    kernels = [leaf for path, leaf in to_numpy(received).items() if path.endswith("kernel")]
    assert sum(int((leaf != 0).sum()) for leaf in kernels) == 7 + 5 + 4
    # and nothing of it divides by zero
    batch = Batch(jnp.ones((1, *IMAGE)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    gradient = jax.grad(strategy.objective(state, 1), has_aux=True)(
        received, batch, jnp.asarray(OWNED), jax.random.key(0)
    )[0]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


# --- training --------------------------------------------------------------------------------------------------------


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (count, *IMAGE)).astype(np.uint8), np.arange(count) % 2


@pytest.mark.usefixtures("float64")
def test_the_gradient_goes_through_the_mask():
    strategy = fiarse(mlp_setting(masked_loss=True), densities=DENSITIES)
    state = first_state(strategy)
    pixels, labels = samples(5)
    batch = Batch(jnp.asarray(pixels / 255), jnp.asarray(labels, jnp.int32), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    for tier in (1, 2):
        received = strategy.distribute(state, tier, client())
        # Entries that the tier does not hold have no part in it, whatever stands there.
        received = jax.tree.map(lambda w: jnp.where(w == 0, 1e-9, w), received)
        call = jax.jit(jax.value_and_grad(strategy.objective(state, tier), has_aux=True))
        (mean, total), gradient = call(received, batch, jnp.asarray(OWNED), jax.random.key(0))
        loss, wanted = strategy_twin.through_mask(
            LAYERS,
            to_numpy(received),
            float(state.thresholds[tier]),
            pixels[:4] / 255,
            labels[:4],
            OWNED,
        )
        np.testing.assert_allclose([mean, total], [loss / 4, loss], rtol=1e-10)
        assert_equal(to_numpy(gradient), wanted, 1e-12)
    whole = jax.grad(strategy.objective(state, 0), has_aux=True)(
        state.params, batch, jnp.asarray(OWNED), jax.random.key(0)
    )
    _, plain = twin.loss_and_gradient(LAYERS, to_numpy(state.params), pixels[:4] / 255, labels[:4], OWNED)
    assert_equal(to_numpy(whole[0]), plain, 1e-12)


@pytest.mark.usefixtures("float64")
def test_a_client_trains_against_one_threshold_all_round():
    """Entries may fall below it on the way and are then left out."""
    strategy = fiarse(mlp_setting(), densities=DENSITIES)
    state = first_state(strategy)
    received = strategy.distribute(state, 1, client())
    pixels, labels = samples(6)
    data = place_clients(pixels, labels, [np.arange(6)], CLASSES, np.float64)
    decay, proximal, rate, momentum = 0.3, 0.2, 0.2, 0.5
    training = LocalTraining(
        lambda rate: optax.sgd(rate, momentum=momentum),
        batch_size=6,
        steps=4,
        weight_decay=decay,
        proximal=proximal,
    )

    @jax.jit
    def train(received: Any) -> Any:
        update = build_local_update(strategy.objective(state, 1), training, 6)
        one = client_by_id(data, jnp.int32(0), jnp.bool_(True))
        return train_client(update, Assignment(received, one, data, jnp.asarray(rate), jax.random.key(0))).params

    trained = train(received)
    start, threshold = to_numpy(received), float(state.thresholds[1])
    params, velocity = dict(start), {path: np.zeros_like(value) for path, value in start.items()}
    images = twin.normalise(pixels, pixels)
    for _ in range(4):
        _, gradient = strategy_twin.through_mask(LAYERS, params, threshold, images, labels, np.ones(CLASSES, bool))
        for path, value in params.items():
            pull = gradient[path] + decay * value + proximal * (value - start[path])
            velocity[path] = momentum * velocity[path] + pull
        params = {path: value - rate * velocity[path] for path, value in params.items()}
    assert_equal(to_numpy(trained), params, 1e-11)
    fallen = [(abs(value) < threshold) & (start[path] != 0) for path, value in params.items() if value.ndim > 1]
    assert sum(mask.sum() for mask in fallen) >= 3
    assert all((params[path][value == 0] == 0).all() for path, value in start.items() if value.ndim > 1)


# --- the merge -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("weighting", ["uniform", "samples"])
def test_an_entry_moves_by_the_mean_change_of_those_that_hold_it(weighting):
    strategy = fiarse(mlp_setting(weighting=weighting), densities=DENSITIES)
    generator = np.random.default_rng(1)
    # tier, samples, classes, whether it changes anything; class 3 is nobody's at first
    cohorts = [
        [(0, 5, (0, 1), True), (1, 9, (1, 2), True), (2, 4, (0, 2), False), (2, 7, (0, 1, 2), True)],
        [(1, 3, (2, 3), False), (2, 8, (0, 1, 2, 3), True)],
    ]
    distribute, contribute = (jax.jit(function, static_argnums=1) for function in strategy[3:5])
    state = first_state(strategy)
    for cohort in cohorts:
        server, votes, summed = to_numpy(state.params), [], [None] * 3
        for tier, size, owned, changes in cohort:
            places = strategy_twin.largest(server, HELD[tier])
            received = distribute(state, tier, client(size, owned))
            # What it does to entries that it does not hold is nobody's business.
            trained = jax.tree.map(lambda leaf, c=changes: leaf + c * generator.normal(size=leaf.shape), received)
            given = jax.device_get(contribute(state, tier, trained, client(size, owned)))
            summed[tier] = given if summed[tier] is None else jax.tree.map(np.add, summed[tier], given)
            weight = {"uniform": 1.0, "samples": float(size)}[weighting]
            held = {path: value[places[path]] for path, value in to_numpy(trained).items()}
            votes.append(strategy_twin.Vote(held, places, weight, np.isin(np.arange(CLASSES), owned)))
        for tier in range(3):
            absent = client(50, present=False)
            nothing = jax.device_get(contribute(state, tier, distribute(state, tier, absent), absent))
            summed[tier] = nothing if summed[tier] is None else jax.tree.map(np.add, summed[tier], nothing)
        state = strategy.aggregate(state, summed, jnp.array([1, 1, 2], jnp.int32))
        wanted = strategy_twin.merge(server, votes, "classifier")
        assert_equal(to_numpy(state.params), wanted, 1e-12)
        for path, before in server.items():
            untouched = wanted[path] == before
            np.testing.assert_array_equal(to_numpy(state.params)[path][untouched], before[untouched])
        # The next round's masks are those of the merged model.
        magnitudes = sorted(abs(value) for path in wanted if path.endswith("kernel") for value in wanted[path].ravel())
        np.testing.assert_allclose(state.thresholds, [magnitudes[-held] for held in HELD], atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_holders_that_change_nothing_halve_a_change():
    """Held is not the same as changed: of two that hold an entry, one sends it back as it was."""
    strategy = fiarse(mlp_setting(classifier=None), densities=DENSITIES)
    state = first_state(strategy)
    received = strategy.distribute(state, 1, client())
    moved = jax.tree.map(lambda leaf: leaf + 1, received)
    sums = [strategy.contribute(state, 1, sent, client()) for sent in (received, moved)]
    none = strategy.contribute(state, 0, state.params, client(present=False))
    both = jax.tree.map(jnp.add, *sums)
    after = strategy.aggregate(state, [none, both, jax.tree.map(jnp.zeros_like, both)], jnp.array([0, 2, 0], jnp.int32))
    places, server = strategy_twin.largest(to_numpy(state.params), HELD[1]), to_numpy(state.params)
    wanted = {path: value + 0.5 * places[path] for path, value in server.items()}
    assert_equal(to_numpy(after.params), wanted, 1e-12)


# --- costs and refusals ----------------------------------------------------------------------------------------------

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=6),
    model=ModelConfig(name="mlp", hidden=(20, 10)),
    tiers=TiersConfig(rank_factors=(1, 2, 8)),
)


def costs_of(config: SimulationConfig = SMALL, **options: Any) -> Any:
    return check_run(replace(config, strategy=StrategyConfig("fiarse", **options))).plan.costs


def test_entries_are_sent_as_values_and_where_they_are():
    # 64 x 20 + 20 x 10 + 10 x 10 = 1,580 entries and 40 biases; a bit an entry is 198 bytes
    costs = costs_of(densities=(1.0, 0.5, 0.01))
    assert [cost.parameters for cost in costs] == [1620, 790 + 40, 16 + 40]
    assert [cost.bytes_up for cost in costs] == [4 * 1620, 4 * 830, 4 * 56]
    # 16 positions are shorter than the bitmap
    assert [cost.bytes_down - cost.bytes_up for cost in costs] == [0, 198, 4 * 16]
    assert [cost.macs for cost in costs] == [1580] * 3
    adaptive = replace(SMALL, server=ServerConfig(optimizer="adam"))
    assert costs_of(adaptive, densities=(1.0, 0.5, 0.01)) == costs


@pytest.mark.parametrize(("budget", "slack"), [("bytes", 4 + 4), ("parameters", 1)])
def test_solved_densities_spend_the_budget_and_no_more(budget, slack):
    wanted = check_run(replace(SMALL, strategy=StrategyConfig("fedhm"))).plan.costs
    costs = costs_of(budget=budget)
    assert costs[0] == replace(wanted[0], size="full model", macs=1580)
    for cost, target in zip(costs[1:], wanted[1:], strict=True):
        spent, allowed = {
            "bytes": ((cost.bytes_down + cost.bytes_up) / 2, target.bytes_up),
            "parameters": (cost.parameters, target.parameters),
        }[budget]
        assert allowed - slack < spent <= allowed


def test_the_count_is_that_of_what_is_sent():
    strategy = fiarse(mlp_setting(), densities=DENSITIES)
    state = strategy.init(
        draw_params(build_model("mlp", CLASSES, hidden=(7, 5)), IMAGE, jnp.float32), jax.random.key(0)
    )
    biases = 7 + 5 + CLASSES
    for tier in (1, 2):
        leaves = named_leaves(strategy.distribute(state, tier, client()))
        kernels = [np.asarray(leaf) for path, leaf in leaves.items() if path.endswith("kernel")]
        values = np.concatenate([kernel[kernel != 0] for kernel in kernels])
        bitmap = np.packbits(np.concatenate([kernel.ravel() != 0 for kernel in kernels]))
        assert bitmap.nbytes == 13
        assert strategy.sent[tier].parameters == len(values) + biases
        assert strategy.sent[tier].bytes_up == values.nbytes + 4 * biases
        assert strategy.sent[tier].bytes_down == strategy.sent[tier].bytes_up + 13


def test_a_budget_of_multiply_accumulates_is_refused():
    with pytest.raises(
        ConfigError, match=r"strategy\.budget is 'macs', but must be 'parameters' or 'bytes' for fiarse"
    ):
        costs_of(budget="macs")


def test_the_smallest_budget_has_room_for_an_entry():
    # FedHM's: rank 1 of 64 x 3, 3 x 10 whole, 13 biases
    tiny = replace(SMALL, model=ModelConfig(name="mlp", hidden=(3,)), tiers=TiersConfig(rank_factors=(1, 1e6)))
    wanted = check_run(replace(tiny, strategy=StrategyConfig("fedhm"))).plan.costs[1].parameters
    assert 13 < costs_of(tiny)[1].parameters <= wanted == 64 + 3 + 3 + 3 * 10 + 10


def test_a_model_without_a_kernel_is_refused():
    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, images, *, mask=None, train=False):
            shift = self.param("classifier", nn.initializers.zeros, (10,))
            return images.reshape(images.shape[0], -1).mean(1, keepdims=True) + shift[None]

    module, images = Shifted(), jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    with pytest.raises(ConfigError, match=r"model is 'Shifted', but must be a model that has a kernel"):
        fiarse(Setting(module, images, shapes, False, FACTORS), densities=DENSITIES)
