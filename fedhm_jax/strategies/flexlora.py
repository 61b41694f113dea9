"""FlexLoRA: adapters of unequal rank, merged as products and cut from one decomposition.

Bai, Chen, Qian, Yao, Li: "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client
Resources", NeurIPS 2024, arXiv 2402.11505. It is FedHM on the difference from a frozen base: the server averages the
products of the clients' adapters, decomposes the mean once, and sends every tier the leading directions that its rank
allows.
"""

from collections.abc import Sequence

from fedhm_jax.strategies.adapters import plan_adapters
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.fedhm import FedHMState, fedhm
from fedhm_jax.strategies.with_adapters import AdapterState, by_decomposition, with_adapters


def flexlora(
    setting: Setting,
    *,
    adapter_ranks: Sequence[int] | None = None,
    alpha: float = 16.0,
) -> Strategy[AdapterState[FedHMState]]:
    """The FlexLoRA strategy, ``W <- W0 + sum_k w_k (alpha / r_k) v_k u_k``.

    Args:
        setting: what to build for.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2402.11505, section 3.2 and its algorithm.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    method = fedhm(setting, history=False, decomposition="svd", plans=plan.ranks)
    return with_adapters(setting, plan, by_decomposition(method))
