"""Tiers, which client is of which, how cohorts are drawn from them, and how long their clients take."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedhm_jax.config import SimulationConfig, TiersConfig
from fedhm_jax.results import TierCost
from fedhm_jax.server import (
    DeviceProfile,
    Tier,
    assign_tiers,
    client_seconds,
    cohort_capacities,
    make_tiers,
    samples_trained,
    tier_sizes,
)


class CohortSampling(NamedTuple):
    """Arguments of `fedhm_jax.server.cohort.sample_cohort` that stay the same all run long; see there."""

    sizes: np.ndarray
    tier_of_client: np.ndarray | None
    shares: tuple[float, ...]
    capacities: tuple[int, ...]
    cohort_size: int
    seed: int


def tiers_of(tiers: TiersConfig) -> tuple[Tier, ...]:
    """The tiers of a config.

    Args:
        tiers: rank factors, and at most one of shares, counts and the tier of each client.

    Returns:
        One tier per rank factor.

    Example:
        >>> [tier.share for tier in tiers_of(TiersConfig((1, 4), of_client=(1, 0, 1, 1)))]
        [0.25, 0.75]
    """
    counts = tiers.counts
    if tiers.of_client is not None:
        counts = tuple(np.bincount(tiers.of_client, minlength=len(tiers.rank_factors)).tolist())
    return make_tiers(tiers.rank_factors, tiers.shares, counts)


def sampling_of(
    config: SimulationConfig, tiers: Sequence[Tier], sizes: np.ndarray, tier_seed: int, cohort_seed: int
) -> CohortSampling:
    """Which client is of which tier, and how cohorts are drawn.

    Args:
        config: the run's.
        tiers: from `tiers_of`.
        sizes: (clients,) samples of each client.
        tier_seed: of the draw of fixed tiers that the config leaves open.
        cohort_seed: of the cohorts.

    Returns:
        What `fedhm_jax.server.cohort.sample_cohort` takes besides the round.
    """
    server, clients = config.server, len(sizes)
    dynamic = config.tiers.assignment == "dynamic"
    drawn = server.cohort_size if server.cohort_size is not None else max(round(server.participation * clients), 1)
    tier_of_client = None if dynamic else assign_tiers(tiers, clients, tier_seed)
    if config.tiers.of_client is not None:
        tier_of_client = np.asarray(config.tiers.of_client, np.int32)
    return CohortSampling(
        sizes=sizes,
        tier_of_client=tier_of_client,
        shares=tuple(tier.share for tier in tiers),
        capacities=cohort_capacities(tiers, clients, drawn, dynamic),
        cohort_size=drawn,
        seed=cohort_seed,
    )


def clients_by_tier(tiers: Sequence[Tier], sampling: CohortSampling) -> list[float]:
    """Number of registered clients of each tier; the expected number where tiers are drawn anew.

    Args:
        tiers: from the strongest to the weakest.
        sampling: of their clients.

    Returns:
        One number a tier.
    """
    clients = len(sampling.sizes)
    if sampling.tier_of_client is None:
        return [tier.share * clients for tier in tiers]
    return tier_sizes(tiers, clients).tolist()


def client_seconds_of(config: SimulationConfig, costs: Sequence[TierCost], sizes: np.ndarray) -> np.ndarray:
    """Simulated seconds of every client's round in every tier.

    Args:
        config: the run's.
        costs: what a client carries, one a tier.
        sizes: (clients,) samples of each client.

    Returns:
        (tiers, clients).
    """
    local, devices = config.local, config.devices
    samples = samples_trained(sizes, local.batch_size, local.epochs, local.steps)
    profile_fields = (devices.flops, devices.download, devices.upload, devices.latency)
    profiles = zip(*(values * (len(costs) // len(values)) for values in profile_fields), strict=True)
    return np.stack(
        [
            client_seconds(
                DeviceProfile(*profile),
                bytes_down=cost.bytes_down,
                bytes_up=cost.bytes_up,
                train_macs=cost.train_macs,
                samples=samples,
            )
            for profile, cost in zip(profiles, costs, strict=True)
        ]
    )
