"""Parts of `fedhm_nested` taken away, and what could be added to it, each as a strategy of its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import Objective, batch_loss
from fedhm_jax.data import Client
from fedhm_jax.lowrank import RankPlan, is_factors, truncate
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies import Setting, Strategy, fedhm, nested_objective, rank_plans
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.strategies.fedhm_nested import fedhm_nested
from fedhm_jax.tasks import Batch, mask_absent_classes
from fedhm_jax.tree import Params, map_named, named_leaves

CLOSED_ROUNDS = 10
"""Rounds in which `opened_late` trains the smallest model alone."""

WEIGHT_OF_WEAKEST = 2.0
"""What the loss of the smallest truncation counts in `weakest_heavier`, each of the others counting one."""


def nesting_alone(setting: Setting) -> Strategy[FedHMState]:
    """FedHM's own merge, and clients that train the weaker tiers' models inside of their own."""
    return fedhm(setting)._replace(objective=nested_objective(setting, rank_plans(setting)))


def weakest_heavier(setting: Setting) -> Strategy[FedHMState]:
    """The smallest truncation's loss counts twice in the mean of the nested losses."""
    return _with_loss(setting, _weighted_mean)


def distilled(setting: Setting) -> Strategy[FedHMState]:
    """Truncations learn from the predictions of the client's whole model as much as from the labels (FjORD)."""
    return _with_loss(setting, _distillation)


class LateState(NamedTuple):
    """Server state.

    Attributes:
        round: number of rounds done.
        model: the state of `fedhm_nested`.
    """

    round: jax.Array
    model: FedHMState


def opened_late(setting: Setting) -> Strategy[LateState]:
    """Everybody trains the smallest model first, and the tiers open after `CLOSED_ROUNDS` (FedLMT's rank growth)."""
    nested: Strategy[Any] = fedhm_nested(setting)
    plans = rank_plans(setting)
    smallest = nested_objective(setting, plans[-1:])

    def objective(state: LateState, tier: int) -> Objective:
        whole = nested.objective(state.model, tier)
        first = smallest(state.model, 0)

        def of_phase(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            return lax.cond(state.round < CLOSED_ROUNDS, first, whole, params, batch, owned, key)

        return of_phase

    def aggregate(state: LateState, contributions: Sequence[Contribution], clients: jax.Array) -> LateState:
        return LateState(state.round + 1, nested.aggregate(state.model, contributions, clients))

    return nested._replace(
        init=lambda params, key: LateState(jnp.int32(0), nested.init(params, key)),
        global_model=lambda state: nested.global_model(state.model),
        tier_model=lambda state, tier: nested.tier_model(state.model, tier),
        distribute=lambda state, tier, client: nested.distribute(state.model, tier, client),
        contribute=lambda state, tier, trained, client: nested.contribute(state.model, tier, trained, client),
        aggregate=aggregate,
        objective=objective,
        replace_model=None,
    )


class OwnState(NamedTuple):
    """Server state.

    Attributes:
        model: the state of `fedhm_nested`.
        own: for each tier, by path, the parameters that are its own.
    """

    model: FedHMState
    own: tuple[dict[str, jax.Array], ...]


def own_classifier(setting: Setting) -> Strategy[OwnState]:
    """Biases, norms and the classifier are averaged within a tier, over no others (NeFL)."""
    nested: Strategy[Any] = fedhm_nested(setting)
    plans = rank_plans(setting)

    def is_own(path: str, leaf: Any) -> bool:
        return path not in plans[0] and (leaf.ndim == 1 or path.split("/")[0] == "classifier")

    def with_own(params: Params, own: dict[str, jax.Array]) -> Params:
        return map_named(lambda path, leaf: own.get(path, leaf), params, is_leaf=is_factors)

    def init(params: Params, key: jax.Array) -> OwnState:
        own = {path: leaf for path, leaf in named_leaves(params).items() if is_own(path, leaf)}
        return OwnState(nested.init(params, key), (own,) * len(plans))

    def contribute(state: OwnState, tier: int, trained: Params, client: Client) -> Contribution:
        shared = named_leaves(state.model.params)

        def moved(path: str, leaf: Any) -> Any:
            own = state.own[tier]
            return shared[path] + leaf - own[path] if path in own else leaf

        return nested.contribute(state.model, tier, map_named(moved, trained, is_leaf=is_factors), client)

    def aggregate(state: OwnState, contributions: Sequence[Contribution], clients: jax.Array) -> OwnState:
        own = []
        for before, contribution in zip(state.own, contributions, strict=True):
            total, weight = named_leaves(contribution.total), named_leaves(contribution.weight)
            own.append(
                {
                    path: leaf + merge(jnp.zeros_like(leaf), Contribution(total[path], weight[path]))
                    for path, leaf in before.items()
                }
            )
        return OwnState(nested.aggregate(state.model, contributions, clients), tuple(own))

    def tier_model(state: OwnState, tier: int) -> Params:
        return with_own(nested.tier_model(state.model, tier), state.own[tier])

    return nested._replace(
        init=init,
        global_model=lambda state: nested.global_model(state.model),
        tier_model=tier_model,
        distribute=lambda state, tier, client: tier_model(state, tier),
        contribute=contribute,
        aggregate=aggregate,
        objective=lambda state, tier: nested.objective(state.model, tier),
        replace_model=None,
    )


LossOfTruncations = Callable[[Sequence[jax.Array], Batch], jax.Array]
"""From the logits of the client's truncations, its own first and the smallest last, and the batch, to the loss."""


def _with_loss(setting: Setting, loss_of: LossOfTruncations) -> Strategy[FedHMState]:
    plans = rank_plans(setting)

    def objective(state: FedHMState, tier: int) -> Objective:
        def loss(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            models = [_truncated(params, plan) for plan in plans[tier:]]
            answers = [setting.network.train(model, batch.inputs, batch.mask, key) for model in models]
            logits = [mask_absent_classes(answer, owned) if setting.masked_loss else answer for answer in answers]
            return loss_of(logits, batch), batch_loss(logits[0], batch)[1]

        return loss

    return fedhm_nested(setting)._replace(objective=objective)


def _truncated(params: Params, plan: RankPlan) -> Params:
    return map_named(
        lambda path, kernel: truncate(kernel, plan[path]) if path in plan else kernel, params, is_leaf=is_factors
    )


def _weighted_mean(logits: Sequence[jax.Array], batch: Batch) -> jax.Array:
    losses = jnp.stack([batch_loss(answer, batch)[0] for answer in logits])
    weights = jnp.ones_like(losses).at[-1].set(WEIGHT_OF_WEAKEST)
    return (weights * losses).sum() / weights.sum()


def _distillation(logits: Sequence[jax.Array], batch: Batch) -> jax.Array:
    taught = jax.nn.softmax(lax.stop_gradient(logits[0]), axis=1)

    def from_whole(answer: jax.Array) -> jax.Array:
        by_sample = -(taught * jax.nn.log_softmax(answer, axis=1)).sum(1)
        return (by_sample * batch.mask).sum() / jnp.maximum(batch.mask.sum(), 1)

    from_labels = [batch_loss(answer, batch)[0] for answer in logits]
    inside = [(label + from_whole(answer)) / 2 for label, answer in zip(from_labels[1:], logits[1:], strict=True)]
    return sum(inside, from_labels[0]) / len(logits)
