"""Checks that every strategy passes; ``build(setting) -> Strategy`` is the strategy under test.

for check in CHECKS:
    check(build, model="mlp")
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from support.equality import farthest

from fedhm_jax.client.update import LocalTraining
from fedhm_jax.data.client_data import ClientData, client_by_id, place_clients
from fedhm_jax.engine.round import build_engine
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.models.build import build_model
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.server.cohort import Cohort
from fedhm_jax.strategies import fedavg
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.server_optimizer import with_server_optimizer

Build = Callable[[Setting], Strategy]

CLASSES = 3
SIZES = (7, 4, 9, 5, 12, 6)
IMAGE = (8, 8, 1)
MODELS = {
    "mlp": lambda: build_model("mlp", CLASSES, hidden=(16, 8)),
    "cnn": lambda: build_model("cnn", CLASSES),
    "resnet": lambda: ResNet(CLASSES, blocks=(1, 1), width=4),
}


class Problem(NamedTuple):
    """A strategy on a small problem.

    Attributes:
        strategy: what is tested.
        state: its first state.
        round_step: ``round_step(state, cohort) -> state``, compiled.
        traces: grows by one whenever the round is traced.
    """

    strategy: Strategy
    state: Any
    round_step: Callable[[Any, Cohort], Any]
    traces: list[int]


def setting_for(model: str, rank_factors: tuple[float, ...], **changes: Any) -> Setting:
    """A setting with masked loss and columns of the classifier averaged by owner."""
    module = MODELS[model]()
    images = jax.ShapeDtypeStruct((2, *IMAGE), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    setting = Setting(
        module,
        images,
        shapes["params"],
        has_statistics="batch_stats" in shapes,
        rank_factors=rank_factors,
        masked_loss=True,
        classifier="classifier",
        mean_samples=float(np.mean(SIZES)),
    )
    return setting._replace(**changes)


def first_params(setting: Setting, dtype: Any = jnp.float32) -> Any:
    """A freshly initialised model with random biases, whose zeros would hide errors."""
    params = setting.module.init(jax.random.key(1), jnp.zeros(setting.images.shape, jnp.float32))["params"]
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(2)
    noisy = [jnp.asarray(np.asarray(leaf) + 0.1 * generator.normal(size=leaf.shape), dtype) for leaf in leaves]
    return jax.tree.unflatten(tree, noisy)


def client_data(dtype: Any = np.float32) -> ClientData:
    """Six clients of unequal size and skewed labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (sum(SIZES), *IMAGE)).astype(np.uint8)
    labels = np.sort(generator.integers(0, CLASSES, sum(SIZES)))
    ends = np.cumsum(SIZES)
    parts = [np.arange(end - size, end) for size, end in zip(SIZES, ends, strict=True)]
    return place_clients(images, labels, parts, CLASSES, dtype=dtype)


def cohort(*tiers: tuple[int, ...], capacity: int = 4) -> Cohort:
    """A cohort with the given clients in each tier."""
    ids = tuple(np.array([*tier, *[0] * (capacity - len(tier))], np.int32) for tier in tiers)
    return Cohort(ids, np.array([len(tier) for tier in tiers], np.int32))


FULL_TIERS = cohort((4, 2), (5, 0, 1))


def pose(build: Build, setting: Setting, *, chunk: int = 1, dtype: Any = jnp.float32) -> Problem:
    """Puts a strategy to work."""
    strategy = build(setting)
    training = LocalTraining(
        lambda rate: optax.sgd(rate, momentum=0.9), batch_size=4, weight_decay=1e-3, frobenius_decay=0.0
    )
    names = [f"tier {tier}" for tier in range(len(setting.rank_factors))]
    engine = build_engine(strategy, training, max(SIZES), names, chunk)
    data, traces = client_data(dtype), []

    def step(state: Any, sampled: Cohort) -> Any:
        traces.append(1)
        return engine.round_step(state, data, sampled, jnp.asarray(0.05, dtype), jax.random.key(3))[0]

    state = jax.jit(strategy.init)(first_params(setting, dtype), jax.random.key(5))
    return Problem(strategy, state, jax.jit(step), traces)


@functools.cache
def fedavg_round(model: str) -> Any:
    """The reference: FedAvg's model before and after a round in float64."""
    with jax.enable_x64(True):
        problem = pose(fedavg, setting_for(model, (1.0, 1.0)), dtype=jnp.float64)
        return problem.state, problem.round_step(problem.state, FULL_TIERS)


def check_equals_fedavg_when_all_tiers_are_full(build: Build, model: str) -> None:
    """Two tiers of full rank, a round of each in float64."""
    before, wanted = fedavg_round(model)
    with jax.enable_x64(True):
        problem = pose(build, setting_for(model, (1.0, 1.0)), dtype=jnp.float64)
        found = problem.strategy.global_model(problem.round_step(problem.state, FULL_TIERS))
        assert farthest(found, wanted) < 1e-12
        assert farthest(before, wanted) > 1e-3


def check_rounds(build: Build, model: str) -> None:
    """Order does not matter, what nobody trained keeps its value, shapes survive; all of it in one trace."""
    problem = pose(build, setting_for(model, (1.0, 4.0)))
    one = problem.round_step(problem.state, cohort((4, 2), (5, 3, 1)))
    assert farthest(problem.round_step(problem.state, cohort((2, 4), (1, 5, 3))), one) < 1e-5
    assert farthest(problem.round_step(problem.state, cohort((4, 2), (5, 3))), one) > 1e-4

    after = one
    for _ in range(2):
        after = problem.round_step(after, cohort((), ()))
        assert farthest(problem.strategy.global_model(after), problem.strategy.global_model(one)) == 0

    for sampled in (cohort((4,), ()), cohort((), (1, 2)), cohort((0, 1, 2), (4,))):
        after = problem.round_step(after, sampled)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), problem.state
    )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(problem.strategy.global_model(after)))
    assert len(problem.traces) == 1


def check_batching_does_not_matter(build: Build, model: str) -> None:
    """Three clients side by side against one after another."""
    setting = setting_for(model, (1.0, 4.0))
    rounds = [
        problem.round_step(problem.state, cohort((4, 2), (5, 3, 1)))
        for problem in (pose(build, setting), pose(build, setting, chunk=3))
    ]
    assert farthest(*rounds) < 1e-5


def check_a_server_rate_of_one_is_the_plain_merge(build: Build, model: str) -> None:
    """The merge of two clients' models with a server optimizer, which must find the strategy's ``replace_model``, in
    float64; nothing is trained for it."""
    with jax.enable_x64(True):
        setting = setting_for(model, (1.0, 4.0))
        strategy = build(setting)
        if strategy.replace_model is None:
            return
        optimized = with_server_optimizer(strategy, optax.sgd(1.0))
        data, params = client_data(np.float64), first_params(setting, jnp.float64)

        def merged(method: Strategy) -> tuple[Any, ...]:
            state = method.init(params, jax.random.key(5))
            for _ in range(2):
                contributions = []
                for tier in range(2):
                    client = client_by_id(data, jnp.int32(tier), jnp.bool_(True))
                    trained = jax.tree.map(lambda leaf: 1.1 * leaf + 0.1, method.distribute(state, tier, client))
                    contributions.append(method.contribute(state, tier, trained, client))
                state = method.aggregate(state, contributions, jnp.ones(2, jnp.int32))
            tiers = [recover_tree(method.tier_model(state, tier)) for tier in range(2)]
            return method.global_model(state), *tiers

        plain, with_optimizer = jax.jit(lambda: (merged(strategy), merged(optimized)))()
        assert farthest(with_optimizer, plain) < 1e-10
        assert farthest(with_optimizer[0], strategy.global_model(strategy.init(params, jax.random.key(5)))) > 1e-2


CHECKS = (
    check_equals_fedavg_when_all_tiers_are_full,
    check_rounds,
    check_batching_does_not_matter,
    check_a_server_rate_of_one_is_the_plain_merge,
)
