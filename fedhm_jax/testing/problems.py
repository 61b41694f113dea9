"""Small problems to put a strategy to: six clients of unequal size and skewed labels, four models, rounds at will."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.typing import DTypeLike

from fedhm_jax.client import LocalTraining
from fedhm_jax.data import ClientData, place_clients
from fedhm_jax.engine import build_engine
from fedhm_jax.models import ResNet, build_model
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tree import Params

Build = Callable[[Setting], Strategy[State]]
"""``build(setting) -> Strategy``, what is tested."""

CLASSES = 3
SIZES = (7, 4, 9, 5, 12, 6)
"""Samples of each client."""

IMAGE = (8, 8, 1)
MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "mlp": lambda: build_model("mlp", CLASSES, hidden=(16, 8)),
    "cnn": lambda: build_model("cnn", CLASSES),
    "resnet": lambda: ResNet(CLASSES, blocks=(1, 1), width=4),
    "vit": lambda: build_model("vit", CLASSES, width=8, depth=1, heads=2),
}
"""By name; the CNN adds convolutions and a flattening to the MLP, the ResNet shortcuts and norms, the ViT heads."""


class Problem(NamedTuple):
    """A strategy on a small problem.

    Attributes:
        strategy: what is tested.
        state: its first state.
        round_step: ``round_step(state, cohort) -> state``, compiled.
        traces: grows by one whenever the round is traced.
    """

    strategy: Strategy[State]
    state: State
    round_step: Callable[[State, Cohort], State]
    traces: list[int]


def setting_for(model: str, rank_factors: tuple[float, ...], **changes: Any) -> Setting:
    """A setting with masked loss and columns of the classifier averaged by owner.

    Args:
        model: one of `MODELS`.
        rank_factors: f of each tier.
        **changes: other fields of `fedhm_jax.strategies.Setting`.

    Returns:
        The setting.
    """
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


def first_params(setting: Setting, dtype: DTypeLike = jnp.float32) -> Params:
    """A freshly initialised model with random biases, whose zeros would hide errors.

    Args:
        setting: of the model.
        dtype: floating type of the parameters.

    Returns:
        Parameters of full rank and width.
    """
    params = setting.module.init(jax.random.key(1), jnp.zeros(setting.inputs.shape, jnp.float32))["params"]
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(2)
    noisy = [jnp.asarray(np.asarray(leaf) + 0.1 * generator.normal(size=leaf.shape), dtype) for leaf in leaves]
    return jax.tree.unflatten(tree, noisy)


def client_data(dtype: Any = np.float32) -> ClientData:
    """Six clients of unequal size and skewed labels.

    Args:
        dtype: floating type of the images in training.

    Returns:
        Their samples, on the device.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (sum(SIZES), *IMAGE)).astype(np.uint8)
    labels = np.sort(generator.integers(0, CLASSES, sum(SIZES)))
    ends = np.cumsum(SIZES)
    parts = [np.arange(end - size, end) for size, end in zip(SIZES, ends, strict=True)]
    return place_clients(images, labels, parts, CLASSES, dtype=dtype)


def cohort(*tiers: tuple[int, ...], capacity: int = 4) -> Cohort:
    """A cohort with the given clients in each tier.

    Args:
        *tiers: numbers of the clients, 0 to 5.
        capacity: places of each tier.

    Returns:
        The cohort.

    Example:
        >>> cohort((4,), (5, 3)).counts.tolist()
        [1, 2]
    """
    ids = tuple(np.array([*tier, *[0] * (capacity - len(tier))], np.int32) for tier in tiers)
    return Cohort(ids, np.array([len(tier) for tier in tiers], np.int32))


FULL_TIERS = cohort((4, 2), (5, 0, 1))
"""Two clients of the first tier, three of the second."""


def pose(build: Build, setting: Setting, *, chunk: int = 1, dtype: Any = jnp.float32) -> Problem:
    """Puts a strategy to work.

    Args:
        build: the strategy.
        setting: what to build for.
        chunk: clients side by side.
        dtype: floating type of everything.

    Returns:
        The problem.
    """
    strategy = build(setting)
    training = LocalTraining(
        lambda rate: optax.sgd(rate, momentum=0.9), batch_size=4, weight_decay=1e-3, frobenius_decay=0.0
    )
    names = [f"tier {tier}" for tier in range(len(setting.rank_factors))]
    engine = build_engine(strategy, training, max(SIZES), names, chunk)
    data = client_data(dtype)
    traces: list[int] = []

    def step(state: State, sampled: Cohort) -> State:
        traces.append(1)
        return engine.round_step(state, data, sampled, jnp.asarray(0.05, dtype), jax.random.key(3))[0]

    state = jax.jit(strategy.init)(first_params(setting, dtype), jax.random.key(5))
    return Problem(strategy, state, jax.jit(step), traces)


def farthest(one: Any, other: Any) -> float:
    """Largest difference between the leaves of two trees; an ensemble of one counts as its member.

    Args:
        one: a tree.
        other: a tree with as many leaves, of as many numbers.

    Returns:
        The difference.

    Example:
        >>> farthest({"a": np.array([1.0, 2.0])}, {"a": np.array([1.0, 5.0])})
        3.0
    """
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(np.asarray(a).reshape(np.shape(b)) - np.asarray(b)).max()) for a, b in pairs)
