"""FedAvg: every client trains the same model, and the server averages what comes back.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, arXiv 1602.05629. With tiers of unequal strength there are two ways to serve all of them with one
model: everyone trains the full model (an upper bound, for no weak device could), or everyone trains the model of the
weakest tier, here FedHM's smallest factorized network, its factors averaged as parameters of their own. The latter is
FedLMT: Liu, Zhou, Wu, Hu, Guizani, Sheng: "FedLMT: Tackling System Heterogeneity of Federated Learning via Low-Rank
Model Training with Theoretical Guarantees", ICML 2024.
"""

from collections.abc import Callable, Sequence

import jax

from fedhm_jax.client import supervised
from fedhm_jax.data import Client
from fedhm_jax.lowrank import DecompositionMethod, factorize_tree, with_factors
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution, rank_plans, sum_tiers
from fedhm_jax.tree import Params


def fedavg(setting: Setting) -> Strategy:
    """Every client of every tier trains the full-rank model, ``W <- sum_k w_k W_k``.

    Args:
        setting: what to build for.

    Returns:
        The strategy; its state is the model.

    Source: arXiv 1602.05629, algorithm 1.
    """
    return _one_model_for_all(setting, init=lambda params, key: params, size="full model")


def fedavg_low_rank(setting: Setting, *, decomposition: DecompositionMethod = "auto") -> Strategy:
    """Every client of every tier trains the weakest tier's factorized network; factors are averaged as they are.

    This is FedLMT (ICML 2024): one low-rank model for all, so that nothing of unequal shape has to be merged.

    Args:
        setting: what to build for; its largest rank factor decides.
        decomposition: how the first model is factorized, as in `fedhm_jax.lowrank.truncation.truncated`.

    Returns:
        The strategy; its state is the factorized model, which is the global model too.

    Source: the homogeneous baseline of FedHM (arXiv 2111.14655), section on experiments.
    """
    plan = rank_plans(setting)[-1]

    def init(params: Params, key: jax.Array) -> Params:
        return with_factors(params, factorize_tree(params, plan, decomposition), plan)

    return _one_model_for_all(setting, init, f"ranks / {setting.rank_factors[-1]:g}")


def _one_model_for_all(setting: Setting, init: Callable[[Params, jax.Array], Params], size: str) -> Strategy:
    network, tiers = setting.network, len(setting.rank_factors)
    objective = supervised(network, setting.masked_loss, setting.task)

    def tier_model(state: Params, tier: int) -> Params:
        return state

    def distribute(state: Params, tier: int, client: Client) -> Params:
        return state

    def contribute(state: Params, tier: int, trained: Params, client: Client) -> Contribution:
        return client_contribution(setting, tier, trained, client)

    def aggregate(state: Params, contributions: Sequence[Contribution], clients: jax.Array) -> Params:
        return merge(state, sum_tiers(contributions))

    return Strategy(
        init=init,
        global_model=lambda state: state,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=network,
        networks=(network,) * tiers,
        objective=lambda state, tier: objective,
        sizes=(size,) * tiers,
        replace_model=lambda state, params: params,
    )
