"""The round as a pure function: distribute, train every tier's clients, aggregate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.aggregation import Contribution
from fedhm_jax.client import TrainMetrics
from fedhm_jax.client_data import ClientData, client_by_id
from fedhm_jax.cohort import Cohort
from fedhm_jax.evaluation import EvaluationData, Metrics
from fedhm_jax.strategies.base import State, Strategy
from fedhm_jax.tree import Params

LocalUpdate = Callable[..., tuple[Params, TrainMetrics]]


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
    local_update: LocalUpdate,
    evaluate_model: Callable[[Params, ClientData, EvaluationData], Metrics],
    tier_names: Sequence[str],
    clients_per_chunk: int,
) -> Engine:
    """Assembles a round from its parts.

    Args:
        strategy: the federated method.
        local_update: one client's training, from `fedhm_jax.client.build_local_update`.
        evaluate_model: one model's test, from `fedhm_jax.evaluation.build_evaluate`.
        tier_names: from the strongest tier to the weakest.
        clients_per_chunk: clients trained side by side; memory grows with it, not with the cohort.

    Returns:
        The engine.
    """

    def round_step(
        state: State, data: ClientData, cohort: Cohort, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[State, tuple[TrainMetrics, ...]]:
        contributions, metrics = [], []
        for tier, received in enumerate(strategy.distribute(state)):

            def train_client(
                client_id: jax.Array, present: jax.Array, tier: int = tier, received: Params = received
            ) -> Any:
                client = client_by_id(data, client_id, present)
                trained, train_metrics = local_update(
                    received, client, data, learning_rate, jax.random.fold_in(key, client_id)
                )
                return strategy.contribute(tier, trained, client), train_metrics

            contribution, train_metrics = sum_over_clients(
                train_client, cohort.clients[tier], cohort.counts[tier], clients_per_chunk
            )
            contributions.append(contribution)
            metrics.append(train_metrics)
        total: Contribution = jax.tree.map(lambda *tiers: sum(tiers[1:], tiers[0]), *contributions)
        return strategy.aggregate(state, total, cohort.counts), tuple(metrics)

    def evaluate(state: State, data: ClientData, test: EvaluationData) -> Mapping[str, Metrics]:
        # A tier that receives the global model itself shares its figures.
        models = dict(
            zip(("global", *tier_names), (strategy.global_model(state), *strategy.distribute(state)), strict=True)
        )
        metrics: dict[int, Metrics] = {}
        for params in models.values():
            if id(params) not in metrics:
                metrics[id(params)] = evaluate_model(params, data, test)
        return {name: metrics[id(params)] for name, params in models.items()}

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
