"""Clients that train alone: every one goes on from its own model, and nothing is sent or merged."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from fedhm_jax.client import (
    Assignment,
    LocalTraining,
    LocalUpdate,
    Progress,
    TrainMetrics,
    Work,
    build_local_update,
    stack_results,
)
from fedhm_jax.data import Client, ClientData, client_by_id
from fedhm_jax.engine.evaluation import EvaluationData, Metrics, evaluate_model
from fedhm_jax.engine.sharding import spread
from fedhm_jax.engine.share import Share
from fedhm_jax.strategies import StateT, Strategy
from fedhm_jax.tree import Params

TrainAlone = Callable[
    [StateT, ClientData, EvaluationData, jax.Array, jax.Array, jax.Array, jax.Array], tuple[TrainMetrics, Metrics]
]
"""``train_alone(state, data, test, clients, count, learning_rates, key) -> (TrainMetrics, Metrics)``: `build_alone`."""


def build_alone(
    strategy: Strategy[StateT], training: LocalTraining, capacity: int, tier: int, mesh: Mesh | None = None
) -> TrainAlone[StateT]:
    """Assembles the training of some of a tier's clients, each alone from the first round to the last.

    Every client begins with the tier's model in ``state``. In round t it trains like a client of a federation, with
    the t-th learning rate, a fresh optimizer and batches that follow from ``fold_in(fold_in(key, t), client)``, and
    keeps what it has trained. After the last round its model is tested on the whole test set; static norm statistics
    are measured on its own samples, over and over where they are few.

    Args:
        strategy: whose networks, objectives and first models are used; nothing is aggregated.
        training: how clients train in a round.
        capacity: samples of the largest client.
        tier: of the clients.
        mesh: devices that the clients are spread over.

    Returns:
        A pure function of ``clients`` (places,) int32, of which the first ``count`` are in use and train side by side,
        and of ``learning_rates`` (rounds,). Its results have a leading axis of places: sums over each client's last
        round, and over the test set.
    """
    network = strategy.networks[tier]

    def train_alone(
        share: Share,
        state: StateT,
        data: ClientData,
        test: EvaluationData,
        clients: jax.Array,
        count: jax.Array,
        rates: jax.Array,
        key: jax.Array,
    ) -> tuple[TrainMetrics, Metrics]:
        update = build_local_update(strategy.objective(state, tier), training, capacity)
        used, last = share.count(count), len(clients) - 1
        places = share.place(jnp.arange(share.most(len(clients)), dtype=jnp.int32))
        own = clients[jnp.minimum(places, last)]
        first = strategy.tier_model(state, tier)
        models = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(own), *leaf.shape)), first)

        def one_round(number: jax.Array, carry: tuple[Params, TrainMetrics]) -> tuple[Params, TrainMetrics]:
            work = _work_of_round(update, carry[0], data, own, rates[number], jax.random.fold_in(key, number))
            return stack_results(work, len(own), used, len(own))

        shapes = jax.eval_shape(one_round, jnp.int32(0), (models, None))[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        models, trained = lax.fori_loop(0, len(rates), one_round, (models, nothing))

        def tested(model: tuple[Params, jax.Array]) -> Metrics:
            params, client = model
            rows = _own_rows(data, client_by_id(data, client, jnp.bool_(True)), test.statistics_rows.shape)
            return evaluate_model(network, params, training.task, data.samples, test._replace(statistics_rows=rows))

        return share.gather((trained, lax.map(tested, (models, own))), 0, len(clients))

    # Nothing is summed, so the devices take their clients in turn.
    return spread(train_alone, mesh, parts=1)


def _work_of_round(
    update: LocalUpdate, models: Params, data: ClientData, clients: jax.Array, rate: jax.Array, key: jax.Array
) -> Work[Progress, tuple[Params, TrainMetrics]]:
    """From the client in a place to the model that it has trained, and its metrics."""
    last = len(clients) - 1

    def assignment(place: jax.Array) -> Assignment:
        place = jnp.minimum(place, last)  # lanes ask for a client beyond the last when none is left
        client = client_by_id(data, clients[place], jnp.bool_(True))
        own = jax.tree.map(lambda leaf: leaf[place], models)
        return Assignment(own, client, data, rate, jax.random.fold_in(key, client.id))

    def finish(place: jax.Array, progress: Progress, finished: jax.Array) -> tuple[Params, TrainMetrics]:
        one = finished.astype(progress.samples.dtype)
        return progress.params, TrainMetrics(progress.loss, progress.samples, one, jnp.zeros_like(one))

    return Work(
        begin=lambda place: update.begin(assignment(place).received, rate),
        segment=lambda place, done: update.segment(assignment(place).client, done),
        advance=lambda place, done, steps, progress: update.advance(assignment(place), done, steps, progress),
        finish=finish,
    )


def _own_rows(data: ClientData, client: Client, shape: tuple[int, ...]) -> jax.Array:
    """Rows of a client's own training samples in batches of a shape, begun again as often as it takes."""
    batches, batch = shape
    places = jnp.arange(batches * batch, dtype=jnp.int32) % jnp.maximum(client.size, 1)
    return data.indices[client.offset + places].reshape(shape)
