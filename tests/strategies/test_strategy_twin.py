"""Width-slicing strategies against their slow NumPy twins, in float64."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from support import strategy_twin, twin
from support.round_twin import draw_params, to_numpy
from support.strategy_twin import Hidden

from fedhm_jax.client.objective import supervised
from fedhm_jax.client.update import Assignment, LocalTraining, build_local_update, train_client
from fedhm_jax.data.client_data import Client, client_by_id, place_clients
from fedhm_jax.layers import Conv, LowRankConv, LowRankDense, max_pool
from fedhm_jax.models.build import build_model
from fedhm_jax.strategies import fedrolex, fjord, heterofl, splitmix
from fedhm_jax.strategies.base import Setting, Strategy, Weighting
from fedhm_jax.tasks import Batch

CLASSES = 7
RANK_FACTORS, WIDTHS = (1.0, 2.0, 4.0), (1.0, 0.6, 0.3)
TOLERANCE = 1e-12
KEY = jax.random.key(5)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Model(NamedTuple):
    """A model in both worlds.

    Attributes:
        module: the fast one.
        image: height, width, channels.
        layers: the twin.
        axes: hidden channels of every parameter.
        bases: how many base networks of width 0.3 come nearest to the cost of widths 1, 0.6 and 0.3.
    """

    module: nn.Module
    image: tuple[int, int, int]
    layers: Sequence[twin.Layer]
    axes: strategy_twin.Axes
    bases: tuple[int, int, int]


def mlp_axes(norms: bool) -> strategy_twin.Axes:
    first, second = Hidden(7), Hidden(5)
    axes = {
        "dense_0/kernel": (None, first),
        "dense_0/bias": (first,),
        "dense_1/kernel": (first, second),
        "dense_1/bias": (second,),
        "classifier/kernel": (second, None),
        "classifier/bias": (None,),
    }
    if norms:
        axes |= {f"norm_{index}/{name}": (axis,) for index, axis in enumerate((first, second)) for name in NORM}
    return axes


def mlp_layers(norms: bool) -> list[twin.Layer]:
    layers: list[twin.Layer] = [twin.Flatten()]
    for index in range(2):
        layers += [twin.Dense(f"dense_{index}"), *([twin.BatchNorm(f"norm_{index}")] if norms else []), twin.ReLU()]
    return [*layers, twin.Dense("classifier")]


class FlattenedCNN(nn.Module):
    """A network whose dense layer reads the pixels of a map one by one."""

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        hidden = nn.relu(max_pool(Conv(16, name="stem")(images)))
        hidden = nn.relu(max_pool(LowRankConv(32, name="conv")(hidden)))
        hidden = nn.relu(LowRankDense(64, name="dense")(hidden.reshape(hidden.shape[0], -1)))
        return nn.Dense(CLASSES, name="classifier")(hidden)


NORM = ("scale", "bias")
CNN_AXES = {
    "stem/kernel": (None, None, None, Hidden(16)),
    "stem/bias": (Hidden(16),),
    "conv/kernel": (None, None, Hidden(16), Hidden(32)),
    "conv/bias": (Hidden(32),),
    # Two pooling steps leave 2 x 1 pixels of an image of 8 x 7.
    "dense/kernel": (Hidden(32, pixels=2), Hidden(64)),
    "dense/bias": (Hidden(64),),
    "classifier/kernel": (Hidden(64), None),
    "classifier/bias": (None,),
}
CNN_LAYERS = [
    *(layer for name in ("stem", "conv") for layer in (twin.Conv(name), twin.MaxPool(), twin.ReLU())),
    twin.Flatten(),
    twin.Dense("dense"),
    twin.ReLU(),
    twin.Dense("classifier"),
]
MODELS = {
    # Parameters at the three widths: 257, 143 (4 and 3 channels) and 77 (2 and 2).
    "mlp": Model(
        build_model("mlp", CLASSES, hidden=(7, 5)), (3, 4, 2), mlp_layers(False), mlp_axes(False), bases=(3, 2, 1)
    ),
    # 24 more, 14 more and 8 more.
    "mlp, batch norm": Model(
        build_model("mlp", CLASSES, hidden=(7, 5), norm="batch_static"),
        (3, 4, 2),
        mlp_layers(True),
        mlp_axes(True),
        bases=(3, 2, 1),
    ),
    # 9,559 = 304 + 4,640 + 4,160 + 455 at full width; 3,736 with 10, 19 and 38 channels; 1,094 with 5, 10 and 19.
    "cnn": Model(FlattenedCNN(), (8, 7, 2), CNN_LAYERS, CNN_AXES, bases=(9, 3, 1)),
}


def setting_for(model: Model, **changes: Any) -> Setting:
    images = jax.ShapeDtypeStruct((2, *model.image), jnp.float32)
    shapes = jax.eval_shape(model.module.init, jax.random.key(0), images)
    setting = Setting(
        model.module, images, shapes["params"], "batch_stats" in shapes, RANK_FACTORS, classifier="classifier"
    )
    return setting._replace(**changes)


def first_params(model: Model) -> Any:
    return draw_params(model.module, model.image, jnp.float64)


def assert_close(found: Any, wanted: twin.Params, message: object = "") -> None:
    found = to_numpy(found)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].shape == value.shape, (message, path)
        np.testing.assert_allclose(found[path], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{message} {path}")


# --- the merge -------------------------------------------------------------------------------------------------------


class Sampled(NamedTuple):
    """A sampled client."""

    id: int
    tier: int
    size: int
    owned: tuple[int, ...]

    def placed(self, present: bool = True) -> Client:
        owned = np.isin(np.arange(CLASSES), self.owned)
        return Client(np.int32(self.id), np.bool_(present), np.int32(0), np.int32(self.size), owned)


# Class 6 is nobody's; round 1 has no client of the strongest tier, round 2 has no client of the middle one.
COHORTS = (
    (Sampled(3, 0, 5, (0, 1, 2)), Sampled(8, 1, 9, (2, 3)), Sampled(4, 2, 4, (0, 5)), Sampled(1, 2, 6, (3, 4))),
    (Sampled(7, 1, 3, (4, 5)), Sampled(2, 1, 8, (0, 4)), Sampled(5, 2, 2, (1,))),
    (Sampled(0, 0, 7, (0, 3, 5)), Sampled(6, 2, 6, (1, 2, 3))),
)
WEIGHTS: dict[Weighting, Callable[[Sampled], float]] = {
    "uniform": lambda client: 1.0,
    "samples": lambda client: float(client.size),
    "rank_softmax": lambda client: float(np.exp(-RANK_FACTORS[client.tier] / 3)),
}


class Method(NamedTuple):
    """A strategy and where a client's elements lie: ``places(model, server, round, tier, client id)``."""

    build: Callable[..., Strategy]
    places: Callable[[Model, twin.Params, int, int, int], strategy_twin.Places]


def leading(model: Model, server: twin.Params, done: int, tier: int, client: int) -> strategy_twin.Places:
    return strategy_twin.window(server, model.axes, WIDTHS[tier])


def rolling(model: Model, server: twin.Params, done: int, tier: int, client: int) -> strategy_twin.Places:
    return strategy_twin.window(server, model.axes, WIDTHS[tier], first=done)


def rotating(model: Model, server: twin.Params, done: int, tier: int, client: int) -> strategy_twin.Places:
    chosen = [(done + client + step) % max(model.bases) for step in range(model.bases[tier])]
    return strategy_twin.members(server, chosen)


METHODS = {
    "heterofl": Method(heterofl, leading),
    "fjord": Method(fjord, leading),
    "fedrolex": Method(fedrolex, rolling),
    "splitmix": Method(splitmix, rotating),
}


def check_merge(name: str, model: Model, rounds: int, weighting: Weighting, classifier: str | None) -> None:
    """Clients hand back random models; what they received and what the server makes of it are the twin's."""
    method = METHODS[name]
    setting = setting_for(model, weighting=weighting, temperature=3.0, classifier=classifier)
    strategy = method.build(setting, widths=WIDTHS, budget="parameters")
    distribute = jax.jit(strategy.distribute, static_argnums=1)
    contribute = jax.jit(strategy.contribute, static_argnums=1)
    aggregate = jax.jit(strategy.aggregate)
    generator = np.random.default_rng(0)
    global_model = jax.jit(strategy.global_model)
    state = jax.jit(strategy.init)(first_params(model), KEY)
    server = to_numpy(global_model(state))
    for done in range(rounds):
        cohort, votes = COHORTS[done % len(COHORTS)], []
        summed: list[Any] = [None] * len(WIDTHS)
        # A client that is not present comes first in every tier and must leave no trace.
        absent = [(Sampled(1, tier, 50, tuple(range(CLASSES))), False) for tier in range(len(WIDTHS))]
        for client, present in [*absent, *((client, True) for client in cohort)]:
            places = method.places(model, server, done, client.tier, client.id)
            received = distribute(state, client.tier, client.placed(present))
            assert_close(received, strategy_twin.taken(server, places), (done, client))
            trained = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), received)
            given = jax.device_get(contribute(state, client.tier, trained, client.placed(present)))
            before = summed[client.tier]
            summed[client.tier] = given if before is None else jax.tree.map(np.add, before, given)
            if present:
                owned = np.isin(np.arange(CLASSES), client.owned)
                votes.append(strategy_twin.Vote(to_numpy(trained), places, WEIGHTS[weighting](client), owned))
        counts = np.bincount([client.tier for client in cohort], minlength=len(WIDTHS))
        state = aggregate(state, summed, jnp.asarray(counts, jnp.int32))
        wanted, found = strategy_twin.merge(server, votes, classifier), to_numpy(global_model(state))
        assert_close(found, wanted, done)
        for path, before in server.items():
            untrained = wanted[path] == before
            np.testing.assert_array_equal(found[path][untrained], before[untrained], err_msg=f"{done} {path}")
        server = found


@pytest.mark.parametrize(
    ("name", "weighting", "classifier"),
    [
        *((name, "samples", "classifier") for name in METHODS),
        ("splitmix", "rank_softmax", "classifier"),
        ("heterofl", "rank_softmax", None),
        ("fedrolex", "uniform", None),
    ],
)
def test_merge_of_an_mlp(name: str, weighting: Weighting, classifier: str | None) -> None:
    # Axes of 7 and 5 channels: by round 9 a rolling window has passed both ends.
    check_merge(name, MODELS["mlp"], 9 if name == "fedrolex" else 3, weighting, classifier)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "heterofl" else pytest.mark.long) for name in METHODS]
)
def test_merge_of_a_flattened_cnn(name: str) -> None:
    check_merge(name, MODELS["cnn"], 3, "samples", "classifier")


def test_no_tier_at_full_width() -> None:
    """What lies outside the widest slice keeps its value, to the bit."""
    model = MODELS["mlp"]
    strategy = heterofl(setting_for(model), widths=(0.8, 0.6, 0.3))
    state = first_params(model)
    server = to_numpy(state)
    client = COHORTS[0][0].placed()._replace(owned=np.ones(CLASSES, bool))

    @jax.jit
    def all_ones(state: Any) -> Any:
        trained = [jax.tree.map(jnp.ones_like, strategy.distribute(state, tier, client)) for tier in range(3)]
        given = [strategy.contribute(state, tier, params, client) for tier, params in enumerate(trained)]
        return strategy.aggregate(state, given, np.array([1, 1, 1], np.int32))

    found = to_numpy(all_ones(state))
    places = strategy_twin.window(server, model.axes, 0.8)
    for path, value in server.items():
        wanted = value.copy()
        wanted[places[path]] = 1
        np.testing.assert_array_equal(found[path], wanted, err_msg=path)


@pytest.mark.parametrize("name", ["heterofl", "fedrolex", "splitmix"])
def test_a_tier_predicts_with_its_own_part(name: str) -> None:
    model = MODELS["mlp"]
    strategy = METHODS[name].build(setting_for(model), widths=WIDTHS, budget="parameters")
    state = jax.jit(strategy.init)(first_params(model), KEY)
    absent = COHORTS[0][0].placed(present=False)

    @jax.jit
    def round_of_nobody(state: Any) -> Any:
        received = [strategy.distribute(state, tier, absent) for tier in range(3)]
        given = [strategy.contribute(state, tier, params, absent) for tier, params in enumerate(received)]
        return strategy.aggregate(state, given, np.zeros(3, np.int32))

    models = jax.jit(lambda state: (strategy.global_model(state), [strategy.tier_model(state, t) for t in range(3)]))
    for done in range(3):
        whole, by_tier = models(state)
        server = to_numpy(whole)
        for tier in range(3):
            places = (
                strategy_twin.members(server, range(model.bases[tier]))
                if name == "splitmix"
                else METHODS[name].places(model, server, done, tier, 0)
            )
            assert_close(by_tier[tier], strategy_twin.taken(server, places), (done, tier))
        state = round_of_nobody(state)


# --- objectives ------------------------------------------------------------------------------------------------------

OWNED = np.array([True, True, False, True, False, True, True])


class Samples(NamedTuple):
    """A batch with a place of padding, and the same without it."""

    batch: Batch
    images: np.ndarray
    labels: np.ndarray


def draw_batch(model: Model) -> Samples:
    generator = np.random.default_rng(1)
    images = generator.normal(size=(5, *model.image))
    labels = np.array([0, 1, 6, 3, 5])
    mask = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    batch = Batch(jnp.asarray(images), jnp.asarray(labels, jnp.int32), jnp.asarray(mask))
    return Samples(batch, images[:4], labels[:4])


def value_and_gradient(objective: Any, params: Any, samples: Samples, key: jax.Array) -> Any:
    """``(objective, loss), gradient``."""
    call = jax.jit(jax.value_and_grad(objective, has_aux=True))
    return call(params, samples.batch, jnp.asarray(OWNED), key)


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("mlp", 1),
        ("mlp, batch norm", 1),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("mlp", 2), ("cnn", 2))),
    ],
)
def test_heterofl_divides_hidden_outputs_by_the_width(name: str, tier: int) -> None:
    model, samples = MODELS[name], draw_batch(MODELS[name])
    strategy = heterofl(setting_for(model, masked_loss=True), widths=WIDTHS)
    params, network = strategy.tier_model(first_params(model), tier), strategy.networks[tier]
    layers, own = strategy_twin.scaled(model.layers, 1 / WIDTHS[tier]), to_numpy(params)
    wanted_logits = twin.predict(layers, own, samples.images)
    loss, wanted = twin.loss_and_gradient(layers, own, samples.images, samples.labels, OWNED)

    @jax.jit
    def logits(params: Any, images: jax.Array) -> Any:
        # A tier is tested as it was trained: with the scaler.
        return network.train(params, images, None, KEY), network.predict(
            params, network.statistics(params, images), images, None
        )

    for found in logits(params, jnp.asarray(samples.images)):
        np.testing.assert_allclose(found, wanted_logits, rtol=1e-9, atol=1e-11)
    (mean, total), gradient = value_and_gradient(strategy.objective(None, tier), params, samples, KEY)
    np.testing.assert_allclose([mean, total], [loss / 4, loss], rtol=1e-10)
    assert_close(gradient, wanted)


def test_heterofl_leaves_the_full_model_as_it_is() -> None:
    strategy = heterofl(setting_for(MODELS["mlp"]), widths=WIDTHS)
    assert strategy.networks[0] is strategy.network


def fjord_twin(
    model: Model, server: twin.Params, tier: int, drawn: float, distillation: float, samples: Samples
) -> tuple[float, float, twin.Params]:
    """Objective, summed loss and gradient of a step that drew a width."""
    own = strategy_twin.taken(server, strategy_twin.window(server, model.axes, WIDTHS[tier]))
    loss, gradient = twin.loss_and_gradient(model.layers, own, samples.images, samples.labels, OWNED)
    if drawn == WIDTHS[tier]:
        return loss / 4, loss, gradient
    taught = strategy_twin.softmax(twin.predict(model.layers, own, samples.images))
    # The widths are shares of the full model, so a leading slice of the server's is a leading slice of the client's.
    places = strategy_twin.window(server, model.axes, drawn)
    narrow = strategy_twin.taken(server, places)
    lesson, narrow_gradient = strategy_twin.taught_loss_and_gradient(model.layers, narrow, samples.images, taught)
    spread = {path: np.zeros_like(value) for path, value in server.items()}
    for path, value in narrow_gradient.items():
        spread[path][places[path]] = value
    spread = strategy_twin.taken(spread, strategy_twin.window(server, model.axes, WIDTHS[tier]))
    total_gradient = {path: gradient[path] + distillation * spread[path] for path in gradient}
    entropy = -(taught * np.log(taught)).sum(1).mean()  # of the teacher: what the slice cannot get below
    return loss / 4 + distillation * (lesson - entropy), loss, total_gradient


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("mlp", 0),
        ("mlp, batch norm", 1),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("mlp", 1), ("mlp", 2), ("cnn", 0))),
    ],
)
def test_fjord_trains_the_whole_model_and_teaches_a_slice(name: str, tier: int) -> None:
    model, samples = MODELS[name], draw_batch(MODELS[name])
    strategy = fjord(setting_for(model, masked_loss=True), widths=WIDTHS, distillation=0.7)
    state = first_params(model)
    server, params = to_numpy(state), strategy.tier_model(state, tier)
    wanted = [fjord_twin(model, server, tier, drawn, 0.7, samples) for drawn in WIDTHS[tier:]]
    values = np.array([value for value, _, _ in wanted])
    call = jax.jit(jax.value_and_grad(strategy.objective(None, tier), has_aux=True))
    seen = set()
    for seed in range(12):
        (value, total), gradient = call(params, samples.batch, jnp.asarray(OWNED), jax.random.key(seed))
        nearest = int(np.abs(values - float(value)).argmin())
        np.testing.assert_allclose([value, total], wanted[nearest][:2], rtol=1e-10)
        assert_close(gradient, wanted[nearest][2], nearest)
        seen.add(nearest)
    assert seen == set(range(len(WIDTHS) - tier)), "some width was never drawn"
    assert len(np.unique(values.round(6))) == len(values)


@pytest.mark.parametrize("tier", [0, 1])
def test_fjord_draws_every_width_up_to_its_own_alike(tier: int) -> None:
    model, samples = MODELS["mlp"], draw_batch(MODELS["mlp"])
    strategy = fjord(setting_for(model, masked_loss=True), widths=WIDTHS)
    params = strategy.tier_model(first_params(model), tier)
    keys = jax.random.split(jax.random.key(2), 900)
    objective = strategy.objective(None, tier)
    found = jax.jit(
        lambda keys: jax.lax.map(lambda key: objective(params, samples.batch, jnp.asarray(OWNED), key)[0], keys)
    )(keys)
    _, counts = np.unique(np.asarray(found).round(9), return_counts=True)
    widths = len(WIDTHS) - tier
    assert len(counts) == widths
    # five standard deviations of a binomial count
    spread = np.sqrt(900 * (1 / widths) * (1 - 1 / widths))
    assert np.abs(counts - 900 / widths).max() < 5 * spread


def test_fjords_slices_run_without_a_scaler() -> None:
    strategy = fjord(setting_for(MODELS["mlp"]), widths=WIDTHS)
    assert all(network is strategy.network for network in strategy.networks)


# --- Split-Mix -------------------------------------------------------------------------------------------------------


def members_of(stack: Any) -> list[twin.Params]:
    flat = to_numpy(stack)
    count = len(next(iter(flat.values())))
    return [{path: value[member] for path, value in flat.items()} for member in range(count)]


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("mlp", 1),
        ("cnn", 1),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("mlp", 2), ("mlp, batch norm", 0))),
    ],
)
def test_split_mix_predicts_with_the_mean_of_its_members(name: str, tier: int) -> None:
    model, samples = MODELS[name], draw_batch(MODELS[name])
    strategy = splitmix(setting_for(model, masked_loss=True), widths=WIDTHS, budget="parameters")
    params = strategy.tier_model(jax.jit(strategy.init)(first_params(model), KEY), tier)
    members, network = members_of(params), strategy.networks[tier]
    assert len(members) == model.bases[tier]

    @jax.jit
    def logits(params: Any, images: jax.Array) -> Any:
        return network.train(params, images, None, KEY), network.predict(
            params, network.statistics(params, images), images, None
        )

    wanted = np.mean([twin.predict(model.layers, member, samples.images) for member in members], axis=0)
    for found in logits(params, jnp.asarray(samples.images)):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)


def test_split_mix_trains_every_member_as_if_it_were_alone() -> None:
    model = MODELS["mlp"]
    setting = setting_for(model, masked_loss=True)
    strategy = splitmix(setting, widths=WIDTHS, budget="parameters")
    stack = strategy.tier_model(jax.jit(strategy.init)(first_params(model), KEY), 0)
    samples = draw_batch(model)
    (_, total), gradient = value_and_gradient(strategy.objective(None, 0), stack, samples, KEY)
    alone = [
        twin.loss_and_gradient(model.layers, member, samples.images, samples.labels, OWNED)
        for member in members_of(stack)
    ]
    np.testing.assert_allclose(total, np.mean([loss for loss, _ in alone]), rtol=1e-10)
    for found, (_, wanted) in zip(members_of(gradient), alone, strict=True):
        for path, value in wanted.items():
            np.testing.assert_allclose(found[path], value, rtol=1e-9, atol=TOLERANCE)

    generator = np.random.default_rng(4)
    pixels = generator.integers(0, 256, (10, *model.image)).astype(np.uint8)
    data = place_clients(pixels, np.arange(10) % 4, [np.arange(10)], CLASSES, np.float64)
    client = client_by_id(data, jnp.int32(0), jnp.bool_(True))
    training = LocalTraining(
        lambda rate: optax.sgd(rate, momentum=0.9), batch_size=4, epochs=2, weight_decay=0.03, proximal=0.1
    )

    @jax.jit
    def together(stack: Any) -> Any:
        update = build_local_update(strategy.objective(None, 0), training, 10)
        return train_client(update, Assignment(stack, client, data, jnp.asarray(0.1), KEY))

    @jax.jit
    def by_itself(member: Any) -> Any:
        update = build_local_update(supervised(setting.network, True), training, 10)
        return train_client(update, Assignment(member, client, data, jnp.asarray(0.1), KEY))

    ended = together(stack)
    separate = [by_itself(jax.tree.map(lambda leaf, m=m: leaf[m], stack)) for m in range(len(alone))]
    for member, (found, wanted) in enumerate(zip(members_of(ended.params), separate, strict=True)):
        for path, value in to_numpy(wanted.params).items():
            np.testing.assert_allclose(found[path], value, rtol=1e-9, atol=TOLERANCE, err_msg=f"{member} {path}")
        assert np.abs(found["dense_0/kernel"] - members_of(stack)[member]["dense_0/kernel"]).max() > 1e-3
    np.testing.assert_allclose(ended.loss, np.mean([one.loss for one in separate]), rtol=1e-9)
    assert ended.samples == 20, "a sample counts once, however many members it trains"


def test_split_mix_starts_from_slices_with_the_spread_of_their_own_inputs() -> None:
    model = MODELS["cnn"]
    params = first_params(model)
    strategy = splitmix(setting_for(model), widths=WIDTHS, budget="parameters")
    stack = members_of(jax.jit(strategy.init)(params, KEY).bases)
    server = to_numpy(params)
    wanted = strategy_twin.taken(server, strategy_twin.window(server, model.axes, 0.3))
    # inputs at full width and at 0.3: 9 x 2, 9 x 16 and 9 x 5, 2 x 32 and 2 x 10, 64 and 19
    for name, whole, narrow in [("stem", 18, 18), ("conv", 144, 45), ("dense", 64, 20), ("classifier", 64, 19)]:
        wanted[f"{name}/kernel"] *= np.sqrt(whole / narrow)
    for path, value in wanted.items():
        np.testing.assert_allclose(stack[0][path], value, rtol=TOLERANCE, err_msg=path)
    # Each of the others is drawn afresh, with He's spread behind the convolution.
    kernels = np.array([member["dense/kernel"] for member in stack])
    assert len(kernels) == 9
    differences = [np.abs(one - other).max() for i, one in enumerate(kernels) for other in kernels[:i]]
    assert min(differences) > 0.1
    for kernel in kernels[1:]:
        assert kernel.std() == pytest.approx(np.sqrt(2 / 20), rel=0.15)
