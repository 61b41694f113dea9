"""FLoRIST: adapters of unequal rank, merged as products, of which the server keeps a share of the energy.

Ramesh, Dass: "FLoRIST: Singular Value Thresholding for Efficient and Accurate Federated Fine-Tuning of Large Language
Models", MLSys 2026, arXiv 2506.09199. The published server decomposes the stacks of all clients' factors, never their
product, which costs O(R^2 (m + n + R)) for ranks that sum to R. The product of the stacks is the sum of the products,
so the directions are those of the mean product, which is what is decomposed here: clients are summed, not stacked.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from fedhm_jax.lowrank import (
    Factors,
    factorize_tree,
    largest_ranks,
    matrix_shape,
    recover,
    truncate,
)
from fedhm_jax.server import Contribution
from fedhm_jax.strategies.adapters import plan_adapters, squared_lengths
from fedhm_jax.strategies.base import Setting, Strategy
from fedhm_jax.strategies.fedhm import FedHMState, fedhm
from fedhm_jax.strategies.with_adapters import AdapterState, by_decomposition, with_adapters


def florist(
    setting: Setting,
    *,
    adapter_ranks: Sequence[int] | None = None,
    alpha: float = 16.0,
    energy: float = 0.99,
) -> Strategy[AdapterState[FedHMState]]:
    """The FLoRIST strategy, ``W <- W0 + [sum_k w_k (alpha / r_k) v_k u_k]_p``, cut to p directions.

    Of each kernel p is the smallest number with ``sum_{j <= p} s_j^2 >= tau sum_j s_j^2``, s the singular values. A
    tier receives the leading directions that its rank allows, as in `flexlora`, and begins the others anew; the paper
    sends all p to every client.

    Args:
        setting: what to build for.
        adapter_ranks: of each tier; FedHM's ranks at the tiers' rank factors if None.
        alpha: of the scale alpha / r.
        energy: tau, above 0 and at most 1.

    Returns:
        The strategy.

    Raises:
        ConfigError: the model has no factorizable kernel.

    Source: arXiv 2506.09199, equations 1 to 4 and algorithm 1.
    """
    plan = plan_adapters(setting, adapter_ranks, alpha)
    largest = largest_ranks(plan.ranks)
    mean = fedhm(setting, history=False, decomposition="svd", plans=plan.ranks)

    def kept_of(difference: Mapping[str, jax.Array]) -> FedHMState:
        full = {path: min(matrix_shape(kernel.shape)) for path, kernel in difference.items()}
        factors = factorize_tree(difference, full, "svd")
        kept = {path: leading_energy(kernel, energy) for path, kernel in factors.items()}
        return FedHMState(
            {path: recover(kernel) for path, kernel in kept.items()},
            {path: truncate(kernel, largest[path]) for path, kernel in kept.items()},
        )

    def aggregate(state: FedHMState, contributions: Sequence[Contribution], clients: jax.Array) -> FedHMState:
        return kept_of(mean.aggregate(state, contributions, clients).params)

    return with_adapters(setting, plan, by_decomposition(mean._replace(aggregate=aggregate)))


def leading_energy(factors: Factors, energy: float) -> Factors:
    """The fewest leading directions that hold a share of the squared norm; the others become zero.

    Args:
        factors: of a decomposition, of full rank, the singular values s falling.
        energy: the share.

    Returns:
        Factors of the same shapes.

    Example:
        >>> factors = Factors(v=jnp.eye(3), u=jnp.diag(jnp.array([3.0, 1.0, 0.1])))
        >>> jnp.diag(leading_energy(factors, 0.9).u).tolist()  # 9 / 10.01 is less
        [3.0, 1.0, 0.0]

    Source: arXiv 2506.09199, singular value thresholding in algorithm 1.
    """
    v, u = factors
    squares = squared_lengths(v) * squared_lengths(u.mT)
    running = jnp.cumsum(squares, -1)
    before = jnp.concatenate([jnp.zeros_like(squares[..., :1]), running[..., :-1]], -1)
    kept = before < energy * running[..., -1:]
    return Factors(jnp.where(kept, v, 0), jnp.where(kept.mT, u, 0))
