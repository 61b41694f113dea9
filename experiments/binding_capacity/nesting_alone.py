"""FedHM's own merge with nested training: what nesting does without the merge by segments."""

from fedhm_jax.strategies import Setting, Strategy, fedhm, nested_objective, rank_plans
from fedhm_jax.strategies.fedhm import FedHMState


def nesting_alone(setting: Setting) -> Strategy[FedHMState]:
    """`fedhm` whose clients train the weaker tiers' models inside of their own."""
    return fedhm(setting)._replace(objective=nested_objective(setting, rank_plans(setting)))
