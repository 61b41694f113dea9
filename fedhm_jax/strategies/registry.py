"""Every strategy that a config can name."""

from collections.abc import Callable
from typing import NamedTuple

from fedhm_jax.strategies.base import State, Strategy
from fedhm_jax.strategies.depthfl import depthfl
from fedhm_jax.strategies.fedavg import fedavg, fedavg_low_rank
from fedhm_jax.strategies.fedhm import fedhm
from fedhm_jax.strategies.fedhm_adapters import fedhm_adapters
from fedhm_jax.strategies.fedhm_factors import fedhm_factors
from fedhm_jax.strategies.fedhm_nested import fedhm_nested
from fedhm_jax.strategies.fedhm_segments import fedhm_segments
from fedhm_jax.strategies.fedrolex import fedrolex
from fedhm_jax.strategies.fiarse import fiarse
from fedhm_jax.strategies.fjord import fjord
from fedhm_jax.strategies.flexlora import flexlora
from fedhm_jax.strategies.flora import flora
from fedhm_jax.strategies.florist import florist
from fedhm_jax.strategies.heterofl import heterofl
from fedhm_jax.strategies.hetlora import hetlora
from fedhm_jax.strategies.raflora import raflora
from fedhm_jax.strategies.splitmix import splitmix


class Row(NamedTuple):
    """A strategy and what a config may tell it.

    Attributes:
        build: ``build(setting, **options) -> Strategy``.
        options: fields of `fedhm_jax.config.StrategyConfig` that it takes as keyword arguments.
    """

    build: Callable[..., Strategy[State]]
    options: tuple[str, ...] = ()


STRATEGIES: dict[str, Row] = {
    "fedhm": Row(fedhm, ("history", "decomposition")),
    "fedhm_segments": Row(fedhm_segments, ("decomposition",)),
    "fedhm_nested": Row(fedhm_nested, ("nesting", "decomposition")),
    "fedhm_factors": Row(fedhm_factors, ("nesting", "decomposition")),
    "fedavg": Row(fedavg),
    "fedavg_low_rank": Row(fedavg_low_rank, ("decomposition",)),
    "heterofl": Row(heterofl, ("widths", "budget")),
    "fedrolex": Row(fedrolex, ("widths", "budget")),
    "fjord": Row(fjord, ("widths", "budget", "distillation")),
    "splitmix": Row(splitmix, ("widths", "budget")),
    "fiarse": Row(fiarse, ("densities", "budget")),
    "depthfl": Row(depthfl, ("depths", "budget", "distillation")),
    "flexlora": Row(flexlora, ("adapter_ranks", "alpha")),
    "raflora": Row(raflora, ("adapter_ranks", "alpha")),
    "fedhm_adapters": Row(fedhm_adapters, ("adapter_ranks", "alpha", "nesting")),
    "hetlora": Row(hetlora, ("adapter_ranks", "alpha")),
    "flora": Row(flora, ("adapter_ranks", "alpha")),
    "florist": Row(florist, ("adapter_ranks", "alpha", "energy")),
}
