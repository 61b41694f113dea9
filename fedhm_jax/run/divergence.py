"""Whether a run still trains: judged from its records, one round at a time."""

import math

from fedhm_jax.errors import DivergedError
from fedhm_jax.results import Record

PATIENCE = 3
"""Rounds in a row without an accepted update after which a run counts as diverged."""


def check_divergence(record: Record, patience: int = PATIENCE) -> None:
    """Raises if a round's training loss is not finite, or every update of several rounds in a row was rejected.

    Rejected updates do not change the model: after such rounds it still is the last good one.

    Args:
        record: the last round's.
        patience: number of rounds in a row.

    Raises:
        DivergedError: naming the round, the tiers, and what to change.

    Example:
        >>> check_divergence({"round": 4, "train_loss": {"f1": 0.7, "f4": math.inf}, "failed_rounds": 0})
        Traceback (most recent call last):
        fedhm_jax.errors.DivergedError: diverged in round 4, tier f4: the training loss is inf; a lower \
local.learning_rate may help
    """
    losses = {tier: loss for tier, loss in record["train_loss"].items() if loss is not None and not math.isfinite(loss)}
    if losses:
        values = " and ".join(str(loss) for loss in losses.values())
        raise DivergedError.at(record["round"], tuple(losses), f"the training loss is {values}")
    if record["failed_rounds"] >= patience:
        tiers = tuple(tier for tier, rejected in record["rejected"].items() if rejected)
        what = f"for {record['failed_rounds']} rounds every update was rejected, not finite or above aggregation.reject"
        raise DivergedError.at(record["round"], tiers, what)
