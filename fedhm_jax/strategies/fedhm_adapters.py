"""FedHM's cures on adapters: changes merged by rank segments, the weaker tiers' adapters trained inside of a client's.

The segments are raFLoRA's (Wu, Hu, Min, Wang, arXiv 2602.13486), which averages models; here changes are averaged, so
that a segment which nobody held in a round stays as it is. The nested losses are those of `fedhm_nested` (FjORD,
arXiv 2102.13451; Maestro, arXiv 2308.14929). FedHM itself is arXiv 2111.14655.
"""

from collections.abc import Sequence
from functools import partial

from fedhm_jax.strategies.adapters import plan_adapters
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.fedhm import FedHMState
from fedhm_jax.strategies.fedhm_nested import Nesting, nested_objective
from fedhm_jax.strategies.fedhm_segments import fedhm_segments
from fedhm_jax.strategies.with_adapters import AdapterState, by_decomposition, with_adapters


def fedhm_adapters(
    setting: Setting,
    *,
    adapter_ranks: Sequence[int] | None = None,
    alpha: float = 16.0,
    nesting: Nesting = "all",
) -> Strategy[AdapterState[FedHMState]]:
    """`fedhm_nested` on the difference D from the base, ``D <- D + sum_s (sum_k w_k d_ks) / (sum_k w_k)``.

    The sums over k go over the clients that hold segment s. The change of segment s is ``d_ks = (alpha / r_k) (v_ks
    u_ks - v_s u_s)``, v and u being those that client k received. A truncation inside of a client's adapter keeps the
    client's own scale, since it is the product that is cut.

    Args:
        setting: what to build for.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.
        nesting: as in `fedhm_nested`.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2602.13486, section 5; arXiv 2308.14929; arXiv 2111.14655.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    method = by_decomposition(fedhm_segments(setting, decomposition="svd", plans=plan.ranks))
    nested = partial(nested_objective, setting, plan.ranks, nesting)
    return with_adapters(setting, plan, method._replace(objective=nested))
