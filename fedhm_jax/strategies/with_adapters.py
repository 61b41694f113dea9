"""Methods of adapters: what a method of low-rank models does to the model W, done to the difference ``W - W0``."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.client import Objective
from fedhm_jax.data import Client
from fedhm_jax.lowrank import largest_ranks, recover_tree
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.adapters import (
    AdapterPlan,
    Adapters,
    begun,
    drawn,
    merged,
    of_trained,
    on_base,
    one_sided,
    scaled,
    settled,
    shapes_of,
)
from fedhm_jax.strategies.base import Setting, StateT, Strategy
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.tree import Params, named_leaves


class AdapterState(NamedTuple, Generic[StateT]):
    """Server state.

    Attributes:
        base: the frozen model W0.
        start: where a direction's v begins that the server has nothing in, by path, at the largest rank of the tiers;
            drawn once, from a seed that every device knows.
        method: what the method keeps of the difference ``W - W0``.
    """

    base: Params
    start: dict[str, jax.Array]
    method: StateT


class DifferenceMethod(NamedTuple, Generic[StateT]):
    """What a method does with the difference ``D = W - W0``. Its adapters are as the server deals in them.

    Attributes:
        init: ``init(difference, key) -> state``, from a difference of zero, by path.
        difference: ``difference(state) -> D`` by path.
        adapters: ``adapters(state, tier) -> Adapters``, the part of D that a tier predicts with.
        distribute: ``distribute(state, tier) -> Adapters``, of the same products, as a client of the tier begins.
        contribute: as of a `Strategy`.
        aggregate: as of a `Strategy`.
        replace: ``replace(state, difference) -> state``, or None.
        objective: from the loss of some adapters to what a tier's clients minimise.
    """

    init: Callable[[dict[str, jax.Array], jax.Array], StateT]
    difference: Callable[[StateT], Mapping[str, jax.Array]]
    adapters: Callable[[StateT, int], Adapters]
    distribute: Callable[[StateT, int], Adapters]
    contribute: Callable[[StateT, int, Params, Client], Contribution]
    aggregate: Callable[[StateT, Sequence[Contribution], jax.Array], StateT]
    replace: Callable[[StateT, Params], StateT] | None = None
    objective: Callable[[Objective], Callable[[StateT, int], Objective]] = lambda plain: lambda state, tier: plain


def by_decomposition(strategy: Strategy[FedHMState]) -> DifferenceMethod[FedHMState]:
    """FedHM or one of its kin, D in the place of its model.

    Args:
        strategy: decomposes exactly, since the singular values of D fall fast.

    Returns:
        The method. A client begins with an orthonormal v, and with nothing that the order in which clients were added
        up decides.
    """
    replace = strategy.replace_model
    assert replace is not None

    def settle(state: FedHMState) -> FedHMState:
        return state._replace(factors=settled(state.factors))

    def aggregate(state: FedHMState, contributions: Sequence[Contribution], clients: jax.Array) -> FedHMState:
        return settle(strategy.aggregate(state, contributions, clients))

    return DifferenceMethod(
        init=strategy.init,
        difference=strategy.global_model,
        adapters=strategy.tier_model,
        distribute=lambda state, tier: one_sided(strategy.tier_model(state, tier)),
        contribute=strategy.contribute,
        aggregate=aggregate,
        replace=lambda state, difference: settle(replace(state, difference)),
    )


def with_adapters(
    setting: Setting, plan: AdapterPlan, method: DifferenceMethod[StateT]
) -> Strategy[AdapterState[StateT]]:
    """The strategy of a method.

    Args:
        setting: what to build for.
        plan: the tiers' adapters.
        method: what it does with the difference.

    Returns:
        The strategy. Its models are whole kernels, the adapters merged; a round of nobody leaves its state as it was.
        Its clients contribute products or factors, not models, so there is no robust merge of them, and no privacy.
    """
    largest, alpha = largest_ranks(plan.ranks), plan.alpha

    def init(params: Params, key: jax.Array) -> AdapterState[StateT]:
        kernels = {path: leaf for path, leaf in named_leaves(params).items() if path in largest}
        start_key, method_key = jax.random.split(key)
        start = drawn(start_key, shapes_of(kernels, largest))
        return AdapterState(params, start, method.init(jax.tree.map(jnp.zeros_like, kernels), method_key))

    def tier_model(state: AdapterState[StateT], tier: int) -> Params:
        return merged(state.base, recover_tree(method.adapters(state.method, tier)))

    def distribute(state: AdapterState[StateT], tier: int, client: Client) -> Params:
        return begun(method.distribute(state.method, tier), state.start, alpha)

    def contribute(state: AdapterState[StateT], tier: int, trained: Params, client: Client) -> Contribution:
        return method.contribute(state.method, tier, scaled(trained, alpha), client)

    def aggregate(
        state: AdapterState[StateT], contributions: Sequence[Contribution], clients: jax.Array
    ) -> AdapterState[StateT]:
        after = method.aggregate(state.method, contributions, clients)
        # Decomposed once more, a difference is itself to rounding only.
        is_trained = clients.sum() > 0
        return state._replace(method=jax.tree.map(partial(jnp.where, is_trained), after, state.method))

    def objective(state: AdapterState[StateT], tier: int) -> Objective:
        return of_trained(method.objective(on_base(setting, state.base))(state.method, tier), alpha)

    def replace_model(state: AdapterState[StateT], params: Params) -> AdapterState[StateT]:
        assert method.replace is not None
        kernels, base = named_leaves(params), named_leaves(state.base)
        difference = {path: kernels[path] - base[path] for path in largest}
        return state._replace(method=method.replace(state.method, difference))

    return Strategy(
        init=init,
        global_model=lambda state: merged(state.base, method.difference(state.method)),
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=setting.network,
        networks=(setting.network,) * len(plan.ranks),
        objective=objective,
        sizes=plan.sizes,
        replace_model=None if method.replace is None else replace_model,
    )
