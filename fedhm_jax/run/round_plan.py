"""One run's part of a round, decided on the host: who takes part, who fails, at which learning rate."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedhm_jax.client import learning_rate_schedule
from fedhm_jax.run.preparation.assembly import Run
from fedhm_jax.server import Cohort, drop_out, drop_stragglers, sample_cohort


class RoundPlan(NamedTuple):
    """A round before it is started.

    Attributes:
        cohort: the clients that train.
        learning_rate: of all of them.
        dropouts: (tiers,) clients that were sampled and not heard of again.
        stragglers: (tiers,) clients that were sampled and missed the deadline.
        simulated_seconds: of the round on the clients' devices.
    """

    cohort: Cohort
    learning_rate: float
    dropouts: np.ndarray
    stragglers: np.ndarray
    simulated_seconds: float


def learning_rates(run: Run) -> Callable[[int], float]:
    """A run's learning rate by number of the round, from 0.

    Args:
        run: the run.

    Returns:
        Its schedule.
    """
    config = run.parts.plan.config
    local = config.local
    return learning_rate_schedule(
        local.schedule,
        local.learning_rate,
        rounds=config.server.rounds,
        milestones=local.milestones,
        decay_rate=local.decay_rate,
    )


def plan_round(run: Run, schedule: Callable[[int], float], number: int) -> RoundPlan:
    """Samples a round's cohort and leaves out who fails or comes late.

    Args:
        run: the run.
        schedule: its learning rates.
        number: of the round, from 0.

    Returns:
        The plan.
    """
    parts = run.parts
    devices = parts.plan.config.devices
    sampled = sample_cohort(number, **parts.sampling._asdict())
    remaining, dropouts = drop_out(sampled, devices.dropout, number, parts.sampling.seed)
    cohort, stragglers, seconds = drop_stragglers(remaining, parts.client_seconds, devices.deadline)
    return RoundPlan(cohort, schedule(number), dropouts, stragglers, seconds)
