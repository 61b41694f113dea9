"""Capability tiers, and which client belongs to which."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Tier(NamedTuple):
    """A class of devices.

    Attributes:
        name: ``f`` and the rank factor, such as ``"f4"``.
        rank_factor: f; 1 is the full-rank model.
        share: share of the clients.
    """

    name: str
    rank_factor: float
    share: float


def make_tiers(
    rank_factors: Sequence[float], shares: Sequence[float] | None, counts: Sequence[int] | None
) -> tuple[Tier, ...]:
    """Tiers from the strongest to the weakest.

    Args:
        rank_factors: f of each tier, increasing.
        shares: share of the clients in each tier; equal if neither shares nor counts are given.
        counts: number of clients in each tier, in place of shares.

    Returns:
        One tier per rank factor.

    Example:
        >>> [tier.name for tier in make_tiers((1.0, 2.5), None, None)]
        ['f1', 'f2.5']
    """
    wanted = np.asarray(
        counts if counts is not None else shares if shares is not None else np.ones(len(rank_factors)), float
    )
    return tuple(
        Tier(f"f{factor:g}", factor, float(share))
        for factor, share in zip(rank_factors, wanted / wanted.sum(), strict=True)
    )


def tier_sizes(tiers: Sequence[Tier], clients: int) -> np.ndarray:
    """Whole numbers of clients nearest to the tiers' shares (largest remainder).

    Args:
        tiers: their shares sum to one.
        clients: number of clients.

    Returns:
        (tiers,) int, summing to ``clients``.

    Example:
        >>> tier_sizes(make_tiers((1, 2, 4), None, None), clients=20).tolist()
        [7, 7, 6]
    """
    exact = np.array([tier.share for tier in tiers]) * clients
    # Rounding first, so that a count turned share and back is that count.
    sizes = np.floor(np.round(exact, 6)).astype(int)
    largest_first = np.argsort(-(exact - sizes), kind="stable")
    sizes[largest_first[: clients - sizes.sum()]] += 1
    return sizes


def assign_tiers(tiers: Sequence[Tier], clients: int, seed: int) -> np.ndarray:
    """Fixed tiers: a random but lasting tier for each client.

    Args:
        tiers: from the strongest to the weakest.
        clients: number of clients.
        seed: of the assignment.

    Returns:
        (clients,) int32, the index of each client's tier.

    Example:
        >>> np.bincount(assign_tiers(make_tiers((1, 2), None, (2, 3)), clients=5, seed=0)).tolist()
        [2, 3]
    """
    ordered = np.repeat(np.arange(len(tiers), dtype=np.int32), tier_sizes(tiers, clients))
    return np.random.default_rng(seed).permutation(ordered)
