"""The clients of a round, sampled on the host from a seed and the round's number."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.server.tiers import Tier, tier_sizes

Array = Any
"""`numpy.ndarray` when sampled, `jax.Array` inside a round."""


class Cohort(NamedTuple):
    """The sampled clients, by tier. Array lengths never change, so a round compiles once.

    Attributes:
        clients: for each tier (capacity,) int32 client indices, those in use first.
        counts: (tiers,) int32, how many places of each tier are in use.
    """

    clients: tuple[Array, ...]
    counts: Array


def cohort_capacities(tiers: Sequence[Tier], clients: int, cohort_size: int, dynamic: bool) -> tuple[int, ...]:
    """Most clients that each tier can have in one cohort.

    Args:
        tiers: from the strongest to the weakest.
        clients: number of registered clients.
        cohort_size: number sampled each round.
        dynamic: tiers are redrawn every round.

    Returns:
        One number per tier.

    Example:
        >>> from fedhm_jax.server import make_tiers
        >>> cohort_capacities(make_tiers((1, 2), None, (2, 18)), clients=20, cohort_size=10, dynamic=False)
        (2, 10)
    """
    if dynamic:
        return (cohort_size,) * len(tiers)
    return tuple(min(int(size), cohort_size) for size in tier_sizes(tiers, clients))


def sample_cohort(
    round_index: int,
    *,
    sizes: np.ndarray,
    tier_of_client: np.ndarray | None,
    shares: Sequence[float],
    capacities: Sequence[int],
    cohort_size: int,
    seed: int,
) -> Cohort:
    """Samples a cohort uniformly without replacement; each tier's clients are ordered from the largest to the smallest.

    Clients of like size train side by side in a chunk, so that none waits long for another.

    Args:
        round_index: number of the round.
        sizes: (clients,) samples of each client.
        tier_of_client: (clients,) fixed tiers, or None to draw each sampled client's tier from ``shares``.
        shares: share of each tier.
        capacities: places per tier, from `cohort_capacities`.
        cohort_size: number of clients to sample.
        seed: of the run.

    Returns:
        The cohort.

    Example:
        >>> cohort = sample_cohort(
        ...     0,
        ...     sizes=np.full(4, 10),
        ...     tier_of_client=np.array([0, 0, 1, 1]),
        ...     shares=(0.5, 0.5),
        ...     capacities=(2, 2),
        ...     cohort_size=4,
        ...     seed=0,
        ... )
        >>> cohort.counts.tolist(), sorted(cohort.clients[1].tolist())
        ([2, 2], [2, 3])
    """
    generator = np.random.default_rng([seed, round_index])
    sampled = generator.choice(len(sizes), cohort_size, replace=False)
    sampled = sampled[np.lexsort((sampled, -sizes[sampled]))]
    tiers = generator.choice(len(shares), cohort_size, p=shares) if tier_of_client is None else tier_of_client[sampled]
    members = [sampled[tiers == tier] for tier in range(len(shares))]
    padded = tuple(
        np.pad(ids, (0, capacity - len(ids))).astype(np.int32)
        for ids, capacity in zip(members, capacities, strict=True)
    )
    return Cohort(padded, np.array([len(ids) for ids in members], np.int32))
