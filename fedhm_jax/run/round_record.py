"""What a round leaves behind, ready for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedhm_jax.client import TrainMetrics
from fedhm_jax.engine import Metrics
from fedhm_jax.results import Record, TierCost
from fedhm_jax.run.preparation.assembly import Run
from fedhm_jax.run.program import Evaluation, RoundMetrics
from fedhm_jax.run.round_plan import RoundPlan
from fedhm_jax.run.spectral_norms import spectral_norm_record
from fedhm_jax.run.worst_client import worst_client_record
from fedhm_jax.server import PrivacyAccount


def round_record(
    number: int,
    run: Run,
    plan: RoundPlan,
    trained: RoundMetrics,
    tested: Evaluation,
    previous: Record,
    seconds: float,
) -> Record:
    """Everything that one run reports of one round.

    Args:
        number: of the round, from 1.
        run: the run.
        plan: what the host had decided.
        trained: sums over the clients of each tier.
        tested: sums over the test set by model; empty if the round was not evaluated.
        previous: the last round's record, empty before the first.
        seconds: wall time of the round.

    Returns:
        The record.
    """
    simulated, names = plan.simulated_seconds, ("global", *run.parts.plan.tier_names)
    return {
        "round": number,
        "learning_rate": plan.learning_rate,
        "clients_per_chunk": run.clients_per_chunk,
        **training_record(trained, plan.stragglers, plan.dropouts, run.parts.plan.costs, previous),
        **privacy_record(run.parts.account, number),
        "simulated_seconds": simulated,
        "total_simulated_seconds": previous.get("total_simulated_seconds", 0.0) + simulated,
        **test_record(tested, names, run.parts.plan.metrics),
        **worst_client_record(run.parts, tested),
        **spectral_norm_record(tested, names),
        "seconds": seconds,
    }


def training_record(
    trained: Sequence[TrainMetrics],
    stragglers: np.ndarray,
    dropouts: np.ndarray,
    costs: Sequence[TierCost],
    previous: Record,
) -> Record:
    """Counts of one round by tier, and running totals.

    Args:
        trained: sums over the clients of each tier.
        stragglers: (tiers,) clients that were sampled and missed the deadline.
        dropouts: (tiers,) clients that were sampled and not heard of again.
        costs: what a client of each tier carries.
        previous: the last round's record, empty before the first.

    Returns:
        A part of the round's `Record`.
    """
    counts = ("clients", "stragglers", "dropouts", "rejected")
    by_tier: dict[str, dict[str, Any]] = {
        name: {} for name in (*counts, "train_loss", "bytes_down", "bytes_up", "macs")
    }
    for cost, metrics, late, failed in zip(costs, trained, stragglers.tolist(), dropouts.tolist(), strict=True):
        clients, rejected, samples = int(metrics.clients), int(metrics.rejected), int(metrics.samples)
        for name, count in zip(counts, (clients, late, failed, rejected), strict=True):
            by_tier[name][cost.tier] = count
        by_tier["train_loss"][cost.tier] = float(metrics.loss) / samples if samples else None
        by_tier["bytes_down"][cost.tier] = (clients + late + failed + rejected) * cost.bytes_down
        by_tier["bytes_up"][cost.tier] = (clients + rejected) * cost.bytes_up
        by_tier["macs"][cost.tier] = samples * cost.train_macs
    totals = {
        f"total_{name}": previous.get(f"total_{name}", 0) + sum(by_tier[name].values())
        for name in ("bytes_down", "bytes_up", "macs")
    }
    all_failed = any(by_tier["rejected"].values()) and not any(by_tier["clients"].values())
    return {**by_tier, **totals, "failed_rounds": previous.get("failed_rounds", 0) + 1 if all_failed else 0}


def privacy_record(account: PrivacyAccount | None, rounds: int) -> Record:
    """What a number of rounds has cost in privacy.

    Args:
        account: the run's, or None without privacy.
        rounds: so many.

    Returns:
        A part of the round's `Record`, empty without privacy.
    """
    return {} if account is None else {"epsilon": account.epsilon(rounds), "delta": account.delta}


def test_record(tested: Mapping[str, Metrics], models: Sequence[str], metrics: Sequence[str]) -> Record:
    """Mean test metrics by model.

    Args:
        tested: sums over the test set by model; empty if the round was not evaluated.
        models: ``"global"`` and the names of the tiers.
        metrics: names of what is measured.

    Returns:
        A part of the round's `Record`, empty if the round was not evaluated.
    """
    if not tested:
        return {}
    return {
        name: {model: float(tested[model][name].sum) / float(tested[model][name].weight) for model in models}
        for name in metrics
    }
