"""The round as a pure function: distribute, train every tier's clients, aggregate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import LocalTraining, TrainMetrics, build_local_update
from fedhm_jax.client_data import ClientData, client_by_id
from fedhm_jax.cohort import Cohort
from fedhm_jax.evaluation import EvaluationData, Metrics, evaluate_model
from fedhm_jax.strategies.base import State, Strategy


class Engine(NamedTuple):
    """The compiled parts of a simulation; pure functions, to be jitted by the caller.

    Attributes:
        round_step: ``round_step(state, data, cohort, learning_rate, key) -> (state, (TrainMetrics, ...))``, one entry a
            tier.
        evaluate: ``evaluate(state, data, test) -> {"global": Metrics, "<tier>": Metrics, ...}``.
    """

    round_step: Callable[[State, ClientData, Cohort, jax.Array, jax.Array], tuple[State, tuple[TrainMetrics, ...]]]
    evaluate: Callable[[State, ClientData, EvaluationData], Mapping[str, Metrics]]


def build_engine(
    strategy: Strategy,
    training: LocalTraining,
    capacity: int,
    tier_names: Sequence[str],
    clients_per_chunk: int,
) -> Engine:
    """Assembles a round from its parts.

    Args:
        strategy: the federated method.
        training: how clients train.
        capacity: samples of the largest client.
        tier_names: from the strongest tier to the weakest.
        clients_per_chunk: clients trained side by side; memory grows with it, not with the cohort.

    Returns:
        The engine.
    """

    tiers = range(len(tier_names))
    local_updates = [build_local_update(objective, training, capacity) for objective in strategy.objectives]

    def train_tier(
        tier: int, state: State, data: ClientData, cohort: Cohort, learning_rate: jax.Array, key: jax.Array
    ) -> Any:
        def train_client(client_id: jax.Array, present: jax.Array) -> Any:
            client = client_by_id(data, client_id, present)
            received = strategy.distribute(state, tier, client)
            client_key = jax.random.fold_in(key, client_id)
            trained, metrics = local_updates[tier](received, client, data, learning_rate, client_key)
            return strategy.contribute(state, tier, trained, client), metrics

        return sum_over_clients(train_client, cohort.clients[tier], cohort.counts[tier], clients_per_chunk)

    def round_step(
        state: State, data: ClientData, cohort: Cohort, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[State, tuple[TrainMetrics, ...]]:
        trained = [train_tier(tier, state, data, cohort, learning_rate, key) for tier in tiers]
        contributions, metrics = zip(*trained, strict=True)
        return strategy.aggregate(state, contributions, cohort.counts), metrics

    def evaluate(state: State, data: ClientData, test: EvaluationData) -> Mapping[str, Metrics]:
        models = {"global": (strategy.network, strategy.global_model(state))} | {
            name: (strategy.networks[tier], strategy.tier_model(state, tier)) for tier, name in enumerate(tier_names)
        }
        # Tiers that predict with one and the same model share its figures.
        metrics: dict[tuple[int, int], Metrics] = {}
        for network, params in models.values():
            if (model := (id(network), id(params))) not in metrics:
                metrics[model] = evaluate_model(network, params, data, test)
        return {name: metrics[id(network), id(params)] for name, (network, params) in models.items()}

    return Engine(round_step, evaluate)


def sum_over_clients(
    function: Callable[[jax.Array, jax.Array], Any], clients: jax.Array, count: jax.Array, chunk: int
) -> Any:
    """Sums a function's results over the clients in use, a chunk at a time; places not in use cost nothing.

    Args:
        function: ``function(client_id, present) -> pytree of arrays``, zero for a client that is not present.
        clients: (capacity,) int32, those in use first.
        count: how many are in use.
        chunk: clients per batched call.

    Returns:
        The summed pytree.

    Example:
        >>> def double(client_id, present):
        ...     return jnp.where(present, 2 * client_id, 0)
        >>> int(sum_over_clients(double, jnp.array([3, 4, 9]), jnp.array(2), chunk=2))
        14
    """
    chunk = max(min(chunk, clients.shape[0]), 1)
    clients = jnp.pad(clients, (0, -clients.shape[0] % chunk))

    def body(index: jax.Array, total: Any) -> Any:
        start = index * chunk
        if chunk == 1:
            return jax.tree.map(jnp.add, total, function(clients[start], start < count))
        ids = lax.dynamic_slice(clients, (start,), (chunk,))
        results = jax.vmap(function)(ids, start + jnp.arange(chunk, dtype=start.dtype) < count)
        return jax.tree.map(lambda sums, values: sums + values.sum(0, dtype=sums.dtype), total, results)

    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((), clients.dtype), jax.ShapeDtypeStruct((), bool))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    if clients.shape[0] == 0:
        return zeros
    return lax.fori_loop(0, -(-count // chunk), body, zeros)
