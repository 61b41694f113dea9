"""What a round leaves behind, ready for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedhm_jax.client import TrainMetrics
from fedhm_jax.evaluation import Metrics
from fedhm_jax.results import Record, TierCost

METRICS = ("accuracy", "top5", "loss")


def training_record(
    trained: Sequence[TrainMetrics], stragglers: np.ndarray, costs: Sequence[TierCost], previous: Record
) -> Record:
    """Counts of one round by tier, and running totals.

    Args:
        trained: sums over the clients of each tier.
        stragglers: (tiers,) clients that were sampled and missed the deadline.
        costs: what a client of each tier carries.
        previous: the last round's record, empty before the first.

    Returns:
        A part of the round's `Record`.
    """
    by_tier: dict[str, dict[str, Any]] = {
        name: {} for name in ("clients", "stragglers", "train_loss", "bytes_down", "bytes_up", "macs")
    }
    for cost, metrics, late in zip(costs, trained, stragglers.tolist(), strict=True):
        clients, samples = int(metrics.clients), int(metrics.samples)
        by_tier["clients"][cost.tier] = clients
        by_tier["stragglers"][cost.tier] = late
        by_tier["train_loss"][cost.tier] = float(metrics.loss) / samples if samples else None
        by_tier["bytes_down"][cost.tier] = (clients + late) * cost.bytes_down
        by_tier["bytes_up"][cost.tier] = clients * cost.bytes_up
        by_tier["macs"][cost.tier] = samples * cost.train_macs
    totals = {
        f"total_{name}": previous.get(f"total_{name}", 0) + sum(by_tier[name].values())
        for name in ("bytes_down", "bytes_up", "macs")
    }
    return {**by_tier, **totals}


def test_record(tested: Mapping[str, Metrics], models: Sequence[str]) -> Record:
    """Mean test metrics by model.

    Args:
        tested: sums over the test set by model; empty if the round was not evaluated.
        models: ``"global"`` and the names of the tiers.

    Returns:
        A part of the round's `Record`, empty if the round was not evaluated.
    """
    if not tested:
        return {}
    return {
        name: {model: float(getattr(tested[model], name)) / float(tested[model].samples) for model in models}
        for name in METRICS
    }
