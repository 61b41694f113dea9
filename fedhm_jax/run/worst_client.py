"""The client that is served worst: accuracy on the test set in the mix of classes that each client holds."""

from collections.abc import Mapping

import numpy as np

from fedhm_jax.data import Dataset
from fedhm_jax.engine import Metrics
from fedhm_jax.results import Record
from fedhm_jax.run.preparation.assembly import RunParts
from fedhm_jax.tasks import BY_CLASS

WORST_CLIENT = "worst_client"
"""Its key in a `Record`."""


def own_accuracies(label_counts: np.ndarray, found: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Each client's expected accuracy on a test sample of a class that is drawn from its own training labels.

        a_k = sum_c p_kc a_c / sum_c p_kc,   p_kc = n_kc / n_k,   a_c = found_c / tested_c

    The sums are over the classes that the test set has.

    Args:
        label_counts: (clients, classes), training samples n_kc.
        found: (classes,), or (clients, classes) for clients with a model each: test samples classified as their label.
        tested: (classes,), test samples.

    Returns:
        (clients,) in [0, 1]; NaN for a client whose classes are not in the test set.

    Example:
        >>> counts, tested = np.array([[9, 1, 0], [0, 5, 5]]), np.array([10, 20, 0])
        >>> own_accuracies(counts, np.array([8, 10, 0]), tested).tolist()  # 0.9 * 0.8 + 0.1 * 0.5, and 0.5
        [0.77, 0.5]
    """
    weights = np.where(tested > 0, label_counts, 0)
    seen = weights.sum(axis=1)
    hits = (weights * (found / np.maximum(tested, 1))).sum(axis=1)
    return np.where(seen > 0, hits / np.maximum(seen, 1), np.nan)


def worst_client_record(parts: RunParts, tested: Mapping[str, Metrics]) -> Record:
    """The smallest of the clients' own accuracies, each judged by the model of its tier.

    A client whose tier is drawn anew every round is judged by all tiers' models, each with the tier's share.

    Args:
        parts: of the run.
        tested: sums over the test set by model; empty if the round was not evaluated.

    Returns:
        A part of the round's `Record`, empty where it is not asked for.
    """
    plan = parts.plan
    if not tested or not plan.config.evaluation.worst_client:
        return {}
    samples = samples_by_class(parts)
    by_tier = [
        own_accuracies(plan.label_counts, np.asarray(tested[name][BY_CLASS].sum), samples) for name in plan.tier_names
    ]
    if plan.tier_of_client is None:
        own = np.average(by_tier, axis=0, weights=parts.sampling.shares)
    else:
        own = np.stack(by_tier)[plan.tier_of_client, np.arange(len(plan.tier_of_client))]
    return worst_of(own)


def worst_of(own: np.ndarray) -> Record:
    """The smallest of some accuracies.

    Args:
        own: (clients,), from `own_accuracies`.

    Returns:
        A part of a `Record`; clients whose classes are not in the test set do not count.
    """
    judged = own[~np.isnan(own)]
    return {WORST_CLIENT: float(judged.min()) if judged.size else float("nan")}


def samples_by_class(parts: RunParts) -> np.ndarray:
    """(classes,) number of test samples of each class."""
    assert isinstance(parts.dataset, Dataset), "only images have classes"
    return np.bincount(parts.dataset.test_labels, minlength=parts.dataset.classes)
