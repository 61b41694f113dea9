"""Clients that train alone against a loop over one client, in NumPy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from support import twin
from support.round_twin import (
    CLASSES,
    FULL,
    NETWORKS,
    SIZES,
    Case,
    assemble,
    draw_batches,
    draw_samples,
    to_numpy,
    training_of,
)

from fedhm_jax.data.samples import place_images
from fedhm_jax.engine.alone import build_alone
from fedhm_jax.engine.evaluation import EvaluationData, deal_batches
from fedhm_jax.engine.sharding import client_mesh, replicate

RATES = (0.05, 0.02, 0.08)
TIER = 2
CASE = Case("mlp, batch norm", FULL, epochs=2)
CLIENTS = (6, 3, 0, 4)
"""Eleven, seven, three and nine samples."""


def train_alone(clients: Sequence[int], count: int, devices: int = 1) -> tuple[Any, Any]:
    samples, mesh = draw_samples(NETWORKS[CASE.network].image_shape), client_mesh(devices)
    fast = assemble(CASE, samples, np.float64)
    function = jax.jit(build_alone(fast.strategy, training_of(CASE), max(SIZES), TIER, mesh))
    state, data, test, key = replicate((fast.state, fast.data, placed_test(samples), jax.random.key(7)), mesh)
    return function(state, data, test, np.array(clients, np.int32), np.int32(count), np.array(RATES), key)


def placed_test(samples: Any) -> EvaluationData:
    test = place_images(samples.test_images, samples.test_labels, samples.images, np.float64)
    return deal_batches(test, len(samples.test_labels), 5, len(samples.labels), 17, seed=0, dtype=np.float64)


def check(client: int, trained: Any, tested: Any) -> None:
    """One client's results against its twin's."""
    network, samples = NETWORKS[CASE.network], draw_samples(NETWORKS[CASE.network].image_shape)
    images, test_images = (twin.normalise(some, samples.images) for some in (samples.images, samples.test_images))
    part = samples.parts[client]
    server = to_numpy(jax.jit(lambda state: state.params)(assemble(CASE, samples, np.float64).state))
    model = twin.distribute(server, network.plans[TIER])
    for number, rate in enumerate(RATES):
        batches = draw_batches(CASE, part, client, jax.random.fold_in(jax.random.key(7), number))
        owned = np.isin(np.arange(CLASSES), samples.labels[part])
        one = twin.Client(TIER, len(part), owned, batches)
        recipe = replace(CASE.recipe, learning_rate=rate)
        model, loss = twin.train(network.layers, model, images, samples.labels, one, recipe)
    # three batches of five of its own samples, over and over
    rows = part[np.arange(15) % len(part)].reshape(3, 5)
    model |= twin.static_statistics(network.layers, model, [images[batch] for batch in rows])
    logits = twin.predict(network.layers, model, test_images)
    np.testing.assert_allclose(trained.loss, loss, rtol=1e-9)
    assert (trained.samples, trained.clients, trained.rejected) == (2 * len(part), 1, 0)
    np.testing.assert_allclose(tested["loss"].sum, twin.losses(logits, samples.test_labels).sum(), rtol=1e-9)
    assert tested["accuracy"].sum == twin.hits(logits, samples.test_labels, 1)
    assert tested["by_class"].sum.sum() == tested["accuracy"].sum


def row(index: int, results: tuple[Any, Any]) -> tuple[Any, Any]:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], results)


@pytest.mark.parametrize(
    ("clients", "count"),
    [pytest.param(CLIENTS[:1], 1, marks=pytest.mark.long), ((*CLIENTS, 0), 4)],
    ids=["one", "side by side"],
)
def test_every_client_is_trained_as_if_there_were_no_other(clients: Sequence[int], count: int) -> None:
    with jax.enable_x64(True):
        results = train_alone(clients, count)
        for place, client in enumerate(clients[:count]):
            check(client, *row(place, results))


@pytest.mark.long
def test_devices_share_the_clients() -> None:
    with jax.enable_x64(True):
        one, three = (train_alone((*CLIENTS, 0), 4, devices) for devices in (1, 3))
        for place in range(4):
            same = partial(np.testing.assert_allclose, rtol=1e-9)
            jax.tree.map(same, row(place, three), row(place, one))
