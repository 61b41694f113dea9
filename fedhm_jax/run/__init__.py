"""One simulation on the host: from config to parts, rounds, checkpoints and results."""

from fedhm_jax.run.handed_over import HandedOver
from fedhm_jax.run.preparation import check_run
from fedhm_jax.run.resumption import find_start, stored_config
from fedhm_jax.run.simulation import simulate, simulate_seeds, simulate_together
from fedhm_jax.run.strategy_preparation import StrategyBuilder

__all__ = [
    "HandedOver",
    "StrategyBuilder",
    "check_run",
    "find_start",
    "simulate",
    "simulate_seeds",
    "simulate_together",
    "stored_config",
]
