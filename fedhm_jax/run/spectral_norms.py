"""The largest singular value among a model's factorized kernels, which grows before low-rank training goes astray."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from fedhm_jax.engine import Metrics
from fedhm_jax.lowrank import is_factors, spectral_norm
from fedhm_jax.results import Record
from fedhm_jax.tasks import Metric
from fedhm_jax.tree import Params

SPECTRAL_NORM = "spectral_norm"
"""Its key in a `Record`."""


def largest_spectral_norm(params: Params) -> Mapping[str, Metric]:
    """Spectral norm of the product of the factors, the largest of a model's kernels.

    Args:
        params: of any model.

    Returns:
        The norm under its key; nothing for a model without factors.

    Example:
        >>> from fedhm_jax.lowrank import Factors
        >>> kernel = Factors(v=jnp.ones((3, 1)), u=jnp.ones((1, 12)))
        >>> round(float(largest_spectral_norm({"kernel": kernel, "bias": jnp.ones(12)})["spectral_norm"].sum), 4)
        6.0

    Source: Spectron (arXiv 2602.12429): the product's norm, not the factors', tells.
    """
    kernels = [leaf for leaf in jax.tree.leaves(params, is_leaf=is_factors) if is_factors(leaf)]
    if not kernels:
        return {}
    largest = jnp.stack([spectral_norm(kernel) for kernel in kernels]).max()
    return {SPECTRAL_NORM: Metric(largest, jnp.ones_like(largest))}


def spectral_norm_record(tested: Mapping[str, Metrics], models: Sequence[str]) -> Record:
    """The norms of the models that have factors.

    Args:
        tested: by model; empty if the round was not evaluated.
        models: ``"global"`` and the names of the tiers.

    Returns:
        A part of the round's `Record`, empty where they were not asked for.
    """
    watched = [name for name in models if SPECTRAL_NORM in tested.get(name, {})]
    norms = {name: float(tested[name][SPECTRAL_NORM].sum) for name in watched}
    return {SPECTRAL_NORM: norms} if norms else {}
