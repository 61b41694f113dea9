"""FLoRA: stacked adapters become a part of the base, and adapters begin anew every round.

Wang, Shen, He, Sun, Wang, Lyu, Li: "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
Adaptations", NeurIPS 2024, arXiv 2409.05976. Factors of any rank can be stacked, and the product of the stacks is the
weighted sum of the products, without error; every client downloads the stacks and adds their product to its base. The
sum is what the server adds up here, so no stack is ever made; the bytes are those of the stacks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.client import Objective
from fedhm_jax.data import Client
from fedhm_jax.lowrank import Factors, recover_tree
from fedhm_jax.models import count_bytes, count_parameters
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.adapters import drawn, merged, of_trained, on_base, plan_adapters, scaled, shapes_of
from fedhm_jax.strategies.base import Sent, Setting, Strategy, client_contribution, sum_tiers
from fedhm_jax.tree import Params, named_leaves


class FloraState(NamedTuple):
    """Server state.

    Attributes:
        base: the model, all adapters of earlier rounds merged into it.
        seed: of the adapters' first v, as `jax.random.key_data` has it.
        round: number of rounds so far, int32.
    """

    base: Params
    seed: jax.Array
    round: jax.Array


def flora(setting: Setting, *, adapter_ranks: Sequence[int] | None = None, alpha: float = 16.0) -> Strategy[FloraState]:
    """The FLoRA strategy, ``W <- W + sum_k w_k (alpha / r_k) v_k u_k`` with u zero at the beginning of every round.

    A client's first v is drawn from a seed that it is told. It receives the stacks of all rounds since its last, in
    the mean as many adapters as there are clients, and sends its own.

    Args:
        setting: what to build for; without its ``clients`` one client of each tier is counted.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.

    Returns:
        The strategy. Every tier predicts with the server's model. Its clients contribute products, not models, so
        there is no robust merge of them, and no privacy.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2409.05976, on stacking-based aggregation.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    kernels = named_leaves(setting.shapes)
    adapters = [shapes_of({path: kernels[path] for path in ranks}, ranks) for ranks in plan.ranks]

    def distribute(state: FloraState, tier: int, client: Client) -> Params:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.seed), state.round)
        dtype = jax.tree.leaves(state.base)[0].dtype
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), adapters[tier])
        first = drawn(jax.random.fold_in(key, client.id), shapes)
        return {path: Factors(v, jnp.zeros(shapes[path].u.shape, dtype)) for path, v in first.items()}

    def contribute(state: FloraState, tier: int, trained: Params, client: Client) -> Contribution:
        return client_contribution(setting, tier, recover_tree(scaled(trained, plan.alpha)), client)

    def aggregate(state: FloraState, contributions: Sequence[Contribution], clients: jax.Array) -> FloraState:
        summed = sum_tiers(contributions)
        mean = merge(jax.tree.map(jnp.zeros_like, summed.total), summed)
        return FloraState(merged(state.base, mean), state.seed, state.round + 1)

    def objective(state: FloraState, tier: int) -> Objective:
        return of_trained(on_base(setting, state.base), plan.alpha)

    return Strategy(
        init=lambda params, key: FloraState(params, jax.random.key_data(key), jnp.zeros((), jnp.int32)),
        global_model=lambda state: state.base,
        tier_model=lambda state, tier: state.base,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=setting.network,
        networks=(setting.network,) * len(plan.ranks),
        objective=objective,
        sizes=plan.sizes,
        replace_model=lambda state, params: state._replace(base=params),
        sent=_sent(adapters, setting.clients or (1.0,) * len(adapters)),
    )


def _sent(adapters: Sequence[Params], clients: Sequence[float]) -> tuple[Sent, ...]:
    """Each client's own adapter up, and one of every client down."""
    down = round(sum(count * count_bytes(tier) for count, tier in zip(clients, adapters, strict=True)))
    return tuple(Sent(count_parameters(tier), bytes_down=down, bytes_up=count_bytes(tier)) for tier in adapters)
