"""The round as a pure function: distribute, train every tier's clients, judge their updates, aggregate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple

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
    result_shapes,
    stack_results,
    sum_results,
)
from fedhm_jax.data import ClientData, client_by_id
from fedhm_jax.engine.evaluation import EvaluationData, Metrics, evaluate_model
from fedhm_jax.engine.sharding import on_one_device, spread
from fedhm_jax.engine.share import PARTS, Own, Share
from fedhm_jax.server import (
    PLAIN_MEAN,
    Cohort,
    Contribution,
    MergeRule,
    accepted_contribution,
    merge_robustly,
    noised,
    private_contribution,
)
from fedhm_jax.strategies import StateT, Strategy, sum_tiers
from fedhm_jax.tree import Params, pack, unpack

RoundStep = Callable[[StateT, ClientData, Cohort, jax.Array, jax.Array], tuple[StateT, tuple[TrainMetrics, ...]]]
"""``round_step(state, data, cohort, learning_rate, key) -> (state, (TrainMetrics, ...))``, one entry a tier."""


class Engine(NamedTuple, Generic[StateT]):
    """The compiled parts of a simulation; pure functions, to be jitted by the caller.

    Attributes:
        round_step: see `RoundStep`.
        evaluate: ``evaluate(state, data, test) -> {"global": Metrics, "<tier>": Metrics, ...}``.
    """

    round_step: RoundStep[StateT]
    evaluate: Callable[[StateT, ClientData, EvaluationData], Mapping[str, Metrics]]


def build_engine(
    strategy: Strategy[StateT],
    training: LocalTraining,
    capacity: int,
    tier_names: Sequence[str],
    clients_per_chunk: int,
    mesh: Mesh | None = None,
    rule: MergeRule = PLAIN_MEAN,
    watch: Callable[[Params], Metrics] = lambda params: {},
) -> Engine[StateT]:
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
        mesh: devices that the clients and the test batches are spread over, from `client_mesh`.
        rule: how updates are judged and merged.
        watch: what to measure of a model's parameters, beside what the task measures.

    Returns:
        The engine.
    """
    tiers = range(len(tier_names))

    def work_of_tier(
        share: Share, tier: int, state: StateT, data: ClientData, cohort: Cohort, rate: jax.Array, key: jax.Array
    ) -> _OwnWork:
        clients, used = cohort.clients[tier], cohort.counts[tier]
        if data.holders is None:
            # The tiers' clients are one list, whose odd end is one, and not one a tier.
            own = share.neighbours(cohort.counts[:tier].sum(dtype=used.dtype), used, len(clients))
        else:
            own = share.held(data.holders[clients], used)
        # Lanes ask for a client beyond the last when none is left.
        padded = jnp.pad(clients, (0, 1))
        update = build_local_update(strategy.objective(state, tier), training, capacity)
        work = _work_of_tier(strategy, tier, update, rule, state, data, lambda slot: padded[own.place(slot)], rate, key)
        return _OwnWork(work, own)

    def train(
        share: Share, state: StateT, data: ClientData, cohort: Cohort, *args: jax.Array
    ) -> tuple[Sequence[Contribution], tuple[TrainMetrics, ...]]:
        if data.holders is not None:
            share = share.undivided()
        works = [work_of_tier(share, tier, state, data, cohort, *args) for tier in tiers]
        if rule.merge == "mean":
            contributions, metrics = zip(*_summed(share, works, clients_per_chunk), strict=True)
            return contributions, metrics
        contributions, metrics = zip(*_stacked(works, clients_per_chunk), strict=True)
        everybody = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *contributions)
        joint = _first_of(tiers, merge_robustly(everybody, rule.merge, rule.trim))
        return joint, jax.tree.map(lambda values: values.sum(0, dtype=values.dtype), metrics)

    # Clients side by side come to an end in an order that depends on who else the device has; and where they could go
    # side by side, but do not, memory is short. So a device then has one sum.
    in_order = clients_per_chunk == 1 and jax.default_backend() == "cpu"
    train_cohort = spread(train, mesh, PARTS if in_order else 1)
    # A CPU's threads would wait for each other if every device decomposed at the same time.
    aggregate = on_one_device(strategy.aggregate, mesh)

    def round_step(
        state: StateT, data: ClientData, cohort: Cohort, learning_rate: jax.Array, key: jax.Array
    ) -> tuple[StateT, tuple[TrainMetrics, ...]]:
        contributions, metrics = train_cohort(state, data, cohort, learning_rate, key)
        if rule.noise is not None:
            joint = noised(strategy.global_model(state), sum_tiers(contributions), rule.noise, key)
            # How many were accepted depends on the clients' data; how many were sampled does not.
            return aggregate(state, _first_of(tiers, joint), cohort.counts), metrics
        accepted = jnp.stack([tier.clients for tier in metrics])
        return aggregate(state, contributions, accepted), metrics

    def evaluate(share: Share, state: StateT, data: ClientData, test: EvaluationData) -> Mapping[str, Metrics]:
        models = {"global": (strategy.network, strategy.global_model(state))} | {
            name: (strategy.networks[tier], strategy.tier_model(state, tier)) for tier, name in enumerate(tier_names)
        }
        samples = data.samples if test.statistics_samples is None else test.statistics_samples
        # Tiers that predict with one and the same model share its figures.
        metrics: dict[tuple[int, int], Metrics] = {}
        for network, params in models.values():
            if (model := (id(network), id(params))) not in metrics:
                tested = evaluate_model(network, params, training.task, samples, test, share)
                metrics[model] = {**tested, **watch(params)}
        return {name: metrics[id(network), id(params)] for name, (network, params) in models.items()}

    return Engine(round_step, spread(evaluate, mesh))


class _OwnWork(NamedTuple):
    """What a device has to do of a tier.

    Attributes:
        work: from the number of one of the device's clients of the tier to what it sends.
        clients: which of the tier's clients these are.
    """

    work: Work[Progress, tuple[Contribution, TrainMetrics]]
    clients: Own


def _summed(share: Share, works: Sequence[_OwnWork], lanes: int) -> list[tuple[Contribution, TrainMetrics]]:
    """The sum of what each tier's clients send, on all devices together."""

    def own_sums(own: _OwnWork) -> dict[str, jax.Array]:
        def finish(*args: Any) -> dict[str, jax.Array]:
            # Else a product in what a client sends and its addition to the sum may become one rounding, or two.
            return lax.optimization_barrier(pack(own.work.finish(*args)))

        work = Work(own.work.begin, own.work.segment, own.work.advance, finish)
        clients = own.clients
        return sum_results(work, clients.most, clients.count, lanes, share.most_parts, clients.part)

    # Devices that met after every tier would wait for each other as often.
    sums = lax.optimization_barrier([own_sums(own) for own in works])
    return [unpack(share.total(of_tier), result_shapes(own.work)) for own, of_tier in zip(works, sums, strict=True)]


def _stacked(works: Sequence[_OwnWork], lanes: int) -> list[tuple[Contribution, TrainMetrics]]:
    """What every client of each tier sends, in the order of the cohort."""
    stacks = lax.optimization_barrier(
        [stack_results(own.work, own.clients.most, own.clients.count, lanes) for own in works]
    )
    return [own.clients.gather(of_tier) for own, of_tier in zip(works, stacks, strict=True)]


def _work_of_tier(
    strategy: Strategy[StateT],
    tier: int,
    update: LocalUpdate,
    rule: MergeRule,
    state: StateT,
    data: ClientData,
    number: Callable[[jax.Array], jax.Array],
    learning_rate: jax.Array,
    key: jax.Array,
) -> Work[Progress, tuple[Contribution, TrainMetrics]]:
    """From a slot, which stands for the client ``number(slot)``, to the client's contribution and its metrics."""

    def assignment(slot: jax.Array) -> Assignment:
        client = client_by_id(data, number(slot), jnp.bool_(True))
        received = strategy.distribute(state, tier, client)
        return Assignment(received, client, data, learning_rate, jax.random.fold_in(key, client.id))

    def begin(slot: jax.Array) -> Progress:
        return update.begin(assignment(slot).received, learning_rate)

    def segment(slot: jax.Array, done: jax.Array) -> jax.Array:
        return update.segment(assignment(slot).client, done)

    def advance(slot: jax.Array, done: jax.Array, steps: jax.Array, progress: Progress) -> Progress:
        return update.advance(assignment(slot), done, steps, progress)

    def finish(slot: jax.Array, progress: Progress, finished: jax.Array) -> tuple[Contribution, TrainMetrics]:
        received, client, *_ = assignment(slot)

        def contribution(params: Params) -> Contribution:
            return strategy.contribute(state, tier, params, client)

        sent, eligible = contribution(progress.params), finished & (client.size > 0)
        if rule.noise is None:
            sent, accepted = accepted_contribution(rule, sent, lambda: contribution(received), eligible)
        else:
            sent, accepted = private_contribution(rule, sent, contribution(received), finished, eligible)
        return sent, _counted(progress, finished, accepted)

    return Work(begin, segment, advance, finish)


def _counted(progress: Progress, finished: jax.Array, accepted: jax.Array) -> TrainMetrics:
    """One client's metrics, zero if it was not accepted, which is then counted."""

    def count(which: jax.Array) -> jax.Array:
        return which.astype(progress.samples.dtype)

    def if_accepted(value: jax.Array) -> jax.Array:
        return jnp.where(accepted, value, jnp.zeros_like(value))

    return TrainMetrics(
        loss=if_accepted(progress.loss),
        samples=if_accepted(progress.samples),
        clients=count(accepted),
        rejected=count(finished & ~accepted),
    )


def _first_of(tiers: Sequence[int], joint: Contribution) -> list[Contribution]:
    """All tiers' contribution as the first tier's, with zeros for the others."""
    return [joint if tier == 0 else jax.tree.map(jnp.zeros_like, joint) for tier in tiers]
