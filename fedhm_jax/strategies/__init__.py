"""Federated methods: one paper, one file. A new one is a file and a row in `STRATEGIES`."""

from fedhm_jax.strategies.base import (
    Sent,
    Setting,
    State,
    StateT,
    Strategy,
    client_contribution,
    rank_plans,
    sum_tiers,
    weigh,
)
from fedhm_jax.strategies.depthfl import depthfl
from fedhm_jax.strategies.external import checked_builder, load_builder
from fedhm_jax.strategies.fedavg import fedavg, fedavg_low_rank
from fedhm_jax.strategies.fedhm import fedhm
from fedhm_jax.strategies.fedhm_adapters import fedhm_adapters
from fedhm_jax.strategies.fedhm_factors import fedhm_factors
from fedhm_jax.strategies.fedhm_nested import fedhm_nested, nested_objective
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
from fedhm_jax.strategies.registry import STRATEGIES, Row
from fedhm_jax.strategies.server_optimizer import OptimizedState, with_server_optimizer
from fedhm_jax.strategies.splitmix import splitmix

__all__ = [
    "STRATEGIES",
    "OptimizedState",
    "Row",
    "Sent",
    "Setting",
    "State",
    "StateT",
    "Strategy",
    "checked_builder",
    "client_contribution",
    "depthfl",
    "fedavg",
    "fedavg_low_rank",
    "fedhm",
    "fedhm_adapters",
    "fedhm_factors",
    "fedhm_nested",
    "fedhm_segments",
    "fedrolex",
    "fiarse",
    "fjord",
    "flexlora",
    "flora",
    "florist",
    "heterofl",
    "hetlora",
    "load_builder",
    "nested_objective",
    "raflora",
    "rank_plans",
    "splitmix",
    "sum_tiers",
    "weigh",
    "with_server_optimizer",
]
