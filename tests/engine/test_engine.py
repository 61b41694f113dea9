"""Properties of a round that hold for any engine setting."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedhm_jax.client.update import LocalTraining
from fedhm_jax.data.client_data import epoch_order, place_clients
from fedhm_jax.data.samples import normalise
from fedhm_jax.engine.evaluation import deal_batches
from fedhm_jax.engine.round import build_engine
from fedhm_jax.models.build import build_model
from fedhm_jax.strategies import fedhm
from fedhm_jax.strategies.base import Setting
from fedhm_jax.tasks import cross_entropy
from fedhm_jax.testing import cohort, farthest

SIZES = (7, 4, 9, 5, 12, 6)
CLASSES = 3
TRAINING = LocalTraining(
    lambda rate: optax.sgd(rate, momentum=0.9), batch_size=4, epochs=2, weight_decay=1e-3, frobenius_decay=1e-3
)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def images_and_labels():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (sum(SIZES), 8, 8, 1)).astype(np.uint8)
    return images, generator.integers(0, CLASSES, sum(SIZES)).astype(np.int32)


@pytest.fixture(scope="module")
def data(images_and_labels):
    return place_clients(*images_and_labels, parts(), CLASSES)


def parts():
    ends = np.cumsum(SIZES)
    return [np.arange(end - size, end) for size, end in zip(SIZES, ends, strict=True)]


def build(factors=(1.0, 4.0), chunk=1, training=TRAINING, name="mlp"):
    """Engine and first server state of a small model."""
    model = build_model(name, CLASSES, hidden=(16, 8))
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    params = model.init(jax.random.key(1), jnp.zeros(image.shape, image.dtype))["params"]
    setting = Setting(model, image, params, has_statistics=False, rank_factors=factors, classifier="classifier")
    strategy = fedhm(setting)
    names = [f"f{factor:g}" for factor in factors]
    return build_engine(strategy, training, max(SIZES), names, chunk), strategy.init(params, jax.random.key(2))


@cache
def compiled(chunk=1, steps=None, name="mlp"):
    """The jitted round of a small model, its first server state, and a list that grows with every trace."""
    engine, state = build(chunk=chunk, training=TRAINING._replace(steps=steps), name=name)
    traces = []

    def round_step(*args):
        traces.append(1)
        return engine.round_step(*args)

    return jax.jit(round_step), state, traces


RATE = jnp.float32(0.05)


@pytest.mark.parametrize(
    ("name", "chunk"),
    [("mlp", 2), *(pytest.param(*case, marks=pytest.mark.long) for case in (("mlp", 3), ("mlp", 16), ("cnn", 3)))],
)
def test_chunks_of_clients_do_not_change_the_round(data, chunk, name):
    sampled = cohort((4, 2, 0), (5, 3, 1))
    programs = [compiled(chunk=size, name=name) for size in (1, chunk)]
    (one, metrics), (other, other_metrics) = (
        round_step(state, data, sampled, RATE, KEY) for round_step, state, _ in programs
    )
    assert farthest(one.params, other.params) < 1e-6
    assert farthest(metrics, other_metrics) < 1e-3
    assert farthest(one.params, programs[0][1].params) > 1e-2


def test_the_order_of_clients_does_not_change_the_round(data):
    round_step, state, _ = compiled()
    one, _ = round_step(state, data, cohort((4, 2, 0), (5, 3, 1)), RATE, KEY)
    other, _ = round_step(state, data, cohort((0, 4, 2), (1, 3, 5)), RATE, KEY)
    assert farthest(one.params, other.params) < 1e-6


def test_the_same_key_gives_the_same_bits_and_another_key_does_not(data):
    round_step, state, _ = compiled()
    sampled = cohort((4, 2, 0), (5, 3, 1))
    one, again, other = (round_step(state, data, sampled, RATE, key)[0] for key in (KEY, KEY, jax.random.key(4)))
    assert farthest(one.params, again.params) == 0
    assert farthest(one.params, other.params) > 1e-4


def test_one_trace_whatever_the_cohort(data):
    round_step, state, traces = compiled(chunk=2)
    for sampled in (cohort((4, 2, 0), (5, 3, 1)), cohort((), (1,)), cohort((2, 3, 4, 5), ()), cohort((), ())):
        state, _ = round_step(state, data, sampled, RATE, KEY)
    assert len(traces) == 1


def test_a_round_without_clients_keeps_the_model(data):
    round_step, state, _ = compiled()
    after, metrics = round_step(state, data, cohort((), ()), RATE, KEY)
    assert farthest(after.params, state.params) == 0
    assert all(int(tier.clients) == int(tier.samples) == 0 for tier in metrics)


def test_metrics_count_every_pass_over_every_sample(data):
    round_step, state, _ = compiled()
    _, (strong, weak) = round_step(state, data, cohort((4, 2), (1,)), RATE, KEY)
    assert int(strong.samples) == TRAINING.epochs * (SIZES[4] + SIZES[2])
    assert int(weak.samples) == TRAINING.epochs * SIZES[1]
    assert (int(strong.clients), int(weak.clients)) == (2, 1)


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.long), 3])
def test_local_steps_replace_epochs(data, steps):
    round_step, state, _ = compiled(steps=steps)
    _, (strong, _) = round_step(state, data, cohort((1,), ()), RATE, KEY)
    # client 1 has 4 samples: every step is one full batch, a pass of its own
    assert int(strong.samples) == steps * 4


def test_one_full_rank_tier_is_federated_averaging(images_and_labels):
    """Against McMahan et al. (2017), written as loops over clients, epochs and batches."""
    with jax.enable_x64(True):
        data = place_clients(*images_and_labels, parts(), CLASSES, dtype=np.float64)
        engine, state = build(factors=(1.0,), training=TRAINING._replace(weight_decay=0.0))
        start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.params)
        fast, _ = jax.jit(engine.round_step)(
            state._replace(params=start), data, cohort((4, 2, 0)), jnp.float64(0.05), KEY
        )
        model = build_model("mlp", CLASSES, hidden=(16, 8))
        images, labels = images_and_labels
        pixels = normalise(jnp.array(images), *data.samples[2:])

        @jax.jit
        def gradient(params, rows):
            logits = lambda p: model.apply({"params": p}, pixels[rows])  # noqa: E731
            return jax.grad(lambda p: cross_entropy(logits(p), jnp.array(labels)[rows]).mean())(params)

        trained = []
        for client in (4, 2, 0):
            params, velocity = start, jax.tree.map(jnp.zeros_like, start)
            for epoch in range(TRAINING.epochs):
                key = jax.random.fold_in(jax.random.fold_in(KEY, client), epoch)
                order = np.asarray(epoch_order(key, jnp.int32(SIZES[client]), 12))[: SIZES[client]]
                for first in range(0, SIZES[client], TRAINING.batch_size):
                    rows = parts()[client][order[first : first + TRAINING.batch_size]]
                    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient(params, rows))
                    params = jax.tree.map(lambda p, v: p - 0.05 * v, params, velocity)
            trained.append(params)
        mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trained)
        assert farthest(fast.params, mean) < 1e-12
        assert farthest(mean, start) > 1e-2


def test_evaluation_counts_each_test_sample_once(images_and_labels, data):
    images, labels = images_and_labels
    engine, state = build()
    tests = [deal_batches(data.samples, len(labels), size, len(labels), 10, seed=0) for size in (5, 43, 100)]
    results = [jax.jit(engine.evaluate)(state, data, test) for test in tests]
    for metrics in results:
        assert float(metrics["f1"]["loss"].weight) == len(labels)
        assert farthest(metrics, results[0]) < 1e-4
        assert farthest(metrics["global"], metrics["f1"]) == 0
    model = build_model("mlp", CLASSES, hidden=(16, 8))
    logits = np.asarray(model.apply({"params": state.params}, normalise(jnp.array(images), *data.samples[2:])))
    assert float(results[0]["global"]["accuracy"].sum) == (logits.argmax(1) == labels).sum()
    assert float(results[0]["global"]["top5"].sum) == len(labels)  # three classes
