"""The round as a pure function: distribute, train every tier's clients, judge their updates, aggregate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from fedhm_jax.acceptance import PLAIN_MEAN, MergeRule, accepted_contribution, private_contribution
from fedhm_jax.aggregation import Contribution
from fedhm_jax.client import LocalTraining, TrainMetrics, build_local_update
from fedhm_jax.client_data import ClientData, client_by_id
from fedhm_jax.cohort import Cohort
from fedhm_jax.evaluation import EvaluationData, Metrics, evaluate_model
from fedhm_jax.privacy import noised
from fedhm_jax.robust import merge_robustly
from fedhm_jax.sharding import Share, on_one_device, spread
from fedhm_jax.strategies.base import State, Strategy, sum_tiers
from fedhm_jax.tree import Params


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
    mesh: Mesh | None = None,
    rule: MergeRule = PLAIN_MEAN,
) -> Engine:
    """Assembles a round from its parts.

    A client that is not accepted, because it has no samples, or its update is not finite or too long, enters the merge
    with weight zero, as if it had not been sampled. A robust or private merge reaches the strategy as the contribution
    of the first tier, the others' being zero.

    Args:
        strategy: the federated method.
        training: how clients train.
        capacity: samples of the largest client.
        tier_names: from the strongest tier to the weakest.
        clients_per_chunk: clients trained side by side; memory grows with it, not with the cohort.
        mesh: devices that the clients and the test batches are spread over, from `fedhm_jax.sharding.client_mesh`.
        rule: how updates are judged and merged.

    Returns:
        The engine.
    """
    tiers = range(len(tier_names))
    local_updates = [build_local_update(objective, training, capacity) for objective in strategy.objectives]

    def train_tier(
        share: Share, tier: int, state: State, data: ClientData, cohort: Cohort, rate: jax.Array, key: jax.Array
    ) -> Any:
        def train_client(client_id: jax.Array, present: jax.Array) -> tuple[Contribution, TrainMetrics]:
            client = client_by_id(data, client_id, present)
            received = strategy.distribute(state, tier, client)
            client_key = jax.random.fold_in(key, client_id)
            trained, metrics = local_updates[tier](received, client, data, rate, client_key)

            def contribution(params: Params) -> Contribution:
                return strategy.contribute(state, tier, params, client)

            sent, eligible = contribution(trained), present & (client.size > 0)
            if rule.noise is None:
                sent, accepted = accepted_contribution(rule, sent, lambda: contribution(received), eligible)
            else:
                sent, accepted = private_contribution(rule, sent, contribution(received), present, eligible)
            return sent, _counted(metrics, present, accepted)

        clients, count = share.of(cohort.clients[tier]), share.count(cohort.counts[tier])
        collect = sum_over_clients if rule.merge == "mean" else stack_over_clients
        return collect(train_client, clients, count, clients_per_chunk)

    def train(
        share: Share, state: State, data: ClientData, cohort: Cohort, *args: jax.Array
    ) -> tuple[Sequence[Contribution], tuple[TrainMetrics, ...]]:
        before = [cohort.counts[:tier].sum(dtype=cohort.counts.dtype) for tier in tiers]
        trained = [train_tier(share.after(before[tier]), tier, state, data, cohort, *args) for tier in tiers]
        contributions, metrics = zip(*trained, strict=True)
        if rule.merge == "mean":
            return share.sum((contributions, metrics))
        everybody = share.gather(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *contributions))
        joint = _first_of(tiers, merge_robustly(everybody, rule.merge, rule.trim))
        return joint, share.sum(jax.tree.map(lambda values: values.sum(0, dtype=values.dtype), metrics))

    train_cohort = spread(train, mesh)
    # A CPU's threads would wait for each other if every device decomposed at the same time.
    aggregate = on_one_device(strategy.aggregate, mesh)

    def round_step(
        state: State, data: ClientData, cohort: Cohort, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[State, tuple[TrainMetrics, ...]]:
        contributions, metrics = train_cohort(state, data, cohort, learning_rate, key)
        if rule.noise is not None:
            joint = noised(strategy.global_model(state), sum_tiers(contributions), rule.noise, key)
            # How many were accepted depends on the clients' data; how many were sampled does not.
            return aggregate(state, _first_of(tiers, joint), cohort.counts), metrics
        accepted = jnp.stack([tier.clients for tier in metrics])
        return aggregate(state, contributions, accepted), metrics

    def evaluate(share: Share, state: State, data: ClientData, test: EvaluationData) -> Mapping[str, Metrics]:
        models = {"global": (strategy.network, strategy.global_model(state))} | {
            name: (strategy.networks[tier], strategy.tier_model(state, tier)) for tier, name in enumerate(tier_names)
        }
        # Tiers that predict with one and the same model share its figures.
        metrics: dict[tuple[int, int], Metrics] = {}
        for network, params in models.values():
            if (model := (id(network), id(params))) not in metrics:
                metrics[model] = evaluate_model(network, params, data, test, share)
        return {name: metrics[id(network), id(params)] for name, (network, params) in models.items()}

    return Engine(round_step, spread(evaluate, mesh))


def _counted(metrics: TrainMetrics, present: jax.Array, accepted: jax.Array) -> TrainMetrics:
    """One client's metrics, zero if it was not accepted, which is then counted."""
    merged = jax.tree.map(lambda value: jnp.where(accepted, value, jnp.zeros_like(value)), metrics)
    return merged._replace(rejected=(present & ~accepted).astype(metrics.rejected.dtype))


def _first_of(tiers: Sequence[int], joint: Contribution) -> list[Contribution]:
    """All tiers' contribution as the first tier's, with zeros for the others."""
    return [joint if tier == 0 else jax.tree.map(jnp.zeros_like, joint) for tier in tiers]


def sum_over_clients(
    function: Callable[[jax.Array, jax.Array], Any], clients: jax.Array, count: jax.Array | int, chunk: int
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

    def add(start: jax.Array, total: Any, results: Any) -> Any:
        return jax.tree.map(lambda sums, values: sums + values.sum(0, dtype=sums.dtype), total, results)

    return _chunk_by_chunk(function, clients, count, chunk, (), add)


def stack_over_clients(
    function: Callable[[jax.Array, jax.Array], Any], clients: jax.Array, count: jax.Array | int, chunk: int
) -> Any:
    """A function's results for each of the clients in use, computed a chunk at a time; memory grows with the clients.

    Args:
        function: as in `sum_over_clients`.
        clients: (capacity,) int32, those in use first.
        count: how many are in use.
        chunk: clients per batched call.

    Returns:
        The pytree, every leaf with a leading axis of at least ``capacity``, zero for places not in use.

    Example:
        >>> def double(client_id, present):
        ...     return jnp.where(present, 2 * client_id, 0)
        >>> stack_over_clients(double, jnp.array([3, 4, 9]), jnp.array(2), chunk=2).tolist()
        [6, 8, 0, 0]
    """

    def put(start: jax.Array, all: Any, results: Any) -> Any:
        return jax.tree.map(lambda rows, some: lax.dynamic_update_slice_in_dim(rows, some, start, 0), all, results)

    places = clients.shape[0]
    return _chunk_by_chunk(function, clients, count, chunk, (places + -places % even_chunk(places, chunk),), put)


def _chunk_by_chunk(
    function: Callable[[jax.Array, jax.Array], Any],
    clients: jax.Array,
    count: jax.Array | int,
    chunk: int,
    leading: tuple[int, ...],
    take_in: Callable[[jax.Array, Any, Any], Any],
) -> Any:
    """Folds ``take_in(first place, collected, results of the chunk)`` over the chunks that are in use, from zeros with
    leading axes."""
    chunk = even_chunk(clients.shape[0], chunk)
    clients = jnp.pad(clients, (0, -clients.shape[0] % chunk))

    def body(index: jax.Array, collected: Any) -> Any:
        start = index * chunk
        if chunk == 1:
            results = jax.tree.map(lambda leaf: leaf[None], function(clients[start], start < count))
        else:
            ids = lax.dynamic_slice(clients, (start,), (chunk,))
            results = jax.vmap(function)(ids, start + jnp.arange(chunk, dtype=start.dtype) < count)
        return take_in(start, collected, results)

    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((), clients.dtype), jax.ShapeDtypeStruct((), bool))
    zeros = jax.tree.map(lambda leaf: jnp.zeros((*leading, *leaf.shape), leaf.dtype), shapes)
    return zeros if clients.shape[0] == 0 else lax.fori_loop(0, -(-count // chunk), body, zeros)


def even_chunk(places: int, most: int) -> int:
    """Clients side by side, such that no fewer chunks would do and the last is as full as the others.

    Args:
        places: most clients that there can be.
        most: that may train side by side.

    Returns:
        At least 1 and at most ``most``.

    Example:
        >>> even_chunk(10, 16), even_chunk(30, 16), even_chunk(33, 16)
        (10, 15, 11)
    """
    return -(-places // -(-places // most)) if places else 1
