"""HeteroFL: narrow clients hold the leading channels of one wide model.

Diao, Ding, Tarokh: "HeteroFL: Computation and Communication Efficient Federated Learning for Heterogeneous Clients",
ICLR 2021, arXiv 2010.01264. A client of width r trains the leading share r of every layer's channels, its activations
scaled by 1 / r so that slices of all widths agree in size. Each element of the global model is the mean over the
clients that hold it. The paper's masked loss and static batch norm are options of local training and of the model, for
all methods.
"""

from collections.abc import Sequence

import jax

from fedhm_jax.client import supervised
from fedhm_jax.data import Client
from fedhm_jax.models import Budget, slice_width
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution
from fedhm_jax.strategies.slices import merge_slices, plan_slices, sliced_networks, widths_in_words
from fedhm_jax.tree import Params


def heterofl(setting: Setting, *, widths: Sequence[float] | None = None, budget: Budget = "bytes") -> Strategy[Params]:
    """The HeteroFL strategy.

    Args:
        setting: what to build for.
        widths: share of the channels of each tier; solved to match FedHM's cost if None.
        budget: unit of that cost.

    Returns:
        The strategy; its state is the full-width model.

    Raises:
        ConfigError: the model cannot be sliced, or no width meets a tier's budget.

    Source: arXiv 2010.01264, algorithm 1.
    """
    slices = plan_slices(setting, widths, budget)
    network = setting.network
    networks = sliced_networks(network, slices)
    objectives = [supervised(tier, setting.masked_loss, setting.task) for tier in networks]

    def tier_model(state: Params, tier: int) -> Params:
        return slice_width(state, slices.plan, slices.widths[tier])

    def distribute(state: Params, tier: int, client: Client) -> Params:
        return tier_model(state, tier)

    def contribute(state: Params, tier: int, trained: Params, client: Client) -> Contribution:
        return client_contribution(setting, tier, trained, client)

    def aggregate(state: Params, contributions: Sequence[Contribution], clients: jax.Array) -> Params:
        return merge_slices(state, contributions, slices.plan)

    return Strategy(
        init=lambda params, key: params,
        global_model=lambda state: state,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=network,
        networks=networks,
        objective=lambda state, tier: objectives[tier],
        sizes=widths_in_words(slices),
        replace_model=lambda state, params: params,
    )
