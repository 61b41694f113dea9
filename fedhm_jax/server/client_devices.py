"""Devices that are slow or fail: what a round takes in simulated time, and who is left in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedhm_jax.server.cohort import Cohort

_FLOPS_PER_MAC = 2
_PASSES = 3
"""A training step costs a forward pass and a backward pass of twice its work."""


class DeviceProfile(NamedTuple):
    """One client device.

    Attributes:
        flops: sustained compute in FLOP/s.
        download: bandwidth from the server in bytes/s.
        upload: bandwidth to the server in bytes/s.
        latency: seconds before a transfer begins, paid once each way.
    """

    flops: float
    download: float
    upload: float
    latency: float


def client_seconds(
    profile: DeviceProfile, *, bytes_down: float, bytes_up: float, train_macs: float, samples: np.ndarray
) -> np.ndarray:
    """Simulated time of one client in one round.

        t = 2 latency + bytes_down / download + 6 train_macs samples / flops + bytes_up / upload

    Two floating point operations a multiply-accumulate, and three passes a sample: one forward, and a backward pass of
    twice its cost.

    Args:
        profile: the device.
        bytes_down: what it receives.
        bytes_up: what it sends.
        train_macs: multiply-accumulates of the forward passes of one training sample.
        samples: number of samples trained on, each pass counted.

    Returns:
        Seconds, in the shape of ``samples``.

    Example:
        >>> phone = DeviceProfile(flops=6e9, download=1e6, upload=5e5, latency=0.1)
        >>> t = client_seconds(phone, bytes_down=2e6, bytes_up=2e6, train_macs=1e6, samples=np.array([1000]))
        >>> t.tolist()  # 0.2 + 2 + 1 + 4
        [7.2]
    """
    compute = _FLOPS_PER_MAC * _PASSES * train_macs * samples / profile.flops
    return 2 * profile.latency + bytes_down / profile.download + compute + bytes_up / profile.upload


def samples_trained(sizes: np.ndarray, batch_size: int, epochs: int, steps: int | None) -> np.ndarray:
    """Number of samples that clients train on in a round, each pass counted.

    Args:
        sizes: (clients,) samples of each client.
        batch_size: samples per step; the last batch of a pass is smaller if they do not divide.
        epochs: passes.
        steps: optimizer steps, in place of epochs, or None.

    Returns:
        (clients,) int.

    Example:
        >>> samples_trained(np.array([10]), batch_size=4, epochs=1, steps=4).tolist()  # 4 + 4 + 2, then 4
        [14]
    """
    if steps is None:
        return epochs * sizes
    passes, rest = np.divmod(steps, np.maximum(-(-sizes // batch_size), 1))
    return passes * sizes + rest * batch_size


def drop_stragglers(cohort: Cohort, seconds: np.ndarray, deadline: float | None) -> tuple[Cohort, np.ndarray, float]:
    """Leaves out the clients that would miss a round's deadline, as if they had not been sampled.

    Args:
        cohort: the sampled clients.
        seconds: (tiers, clients), simulated time of each client in each tier.
        deadline: seconds after which the server waits no longer; None for no end.

    Returns:
        The clients that are in time; how many of each tier are not, (tiers,) int; and the round's simulated seconds:
        its slowest client, or the deadline if somebody missed it.

    Example:
        >>> cohort = Cohort((np.array([0, 1, 2], np.int32),), np.array([3], np.int32))
        >>> kept, missed, took = drop_stragglers(cohort, np.array([[1.0, 9.0, 2.0]]), deadline=5.0)
        >>> kept.clients[0][: kept.counts[0]].tolist(), missed.tolist(), took
        ([0, 2], [1], 5.0)
    """
    limit = np.inf if deadline is None else deadline
    took = [
        seconds[tier, ids[:count]] for tier, (ids, count) in enumerate(zip(cohort.clients, cohort.counts, strict=True))
    ]
    slowest = max(float(np.minimum(times, limit).max(initial=0.0)) for times in took)
    kept = _only(cohort, [times <= limit for times in took])
    return kept, cohort.counts - kept.counts, slowest


def drop_out(cohort: Cohort, probability: float, round_index: int, seed: int) -> tuple[Cohort, np.ndarray]:
    """Leaves out clients that fail, each with the same probability, as if they had not been sampled.

    Args:
        cohort: the sampled clients.
        probability: of one client's failure.
        round_index: number of the round.
        seed: of the run's sampling; round and seed decide who fails.

    Returns:
        The clients that are left, and how many of each tier are not, (tiers,) int.

    Example:
        >>> cohort = Cohort((np.arange(1000, dtype=np.int32),), np.array([1000], np.int32))
        >>> left, failed = drop_out(cohort, 0.25, round_index=0, seed=0)
        >>> bool(200 < failed[0] < 300), int(left.counts[0] + failed[0])
        (True, 1000)
    """
    # The third number keeps the coins apart from the draws of the cohort.
    generator = np.random.default_rng([seed, round_index, 1])
    kept = _only(cohort, [generator.random(count) >= probability for count in cohort.counts])
    return kept, cohort.counts - kept.counts


def _only(cohort: Cohort, keep: Sequence[np.ndarray]) -> Cohort:
    """The cohort with the clients that are kept, in their order; a mask over the places in use for every tier."""
    left = [ids[:count][mask] for ids, count, mask in zip(cohort.clients, cohort.counts, keep, strict=True)]
    padded = [np.pad(some, (0, len(ids) - len(some))) for ids, some in zip(cohort.clients, left, strict=True)]
    return Cohort(tuple(ids.astype(np.int32) for ids in padded), np.array([len(some) for some in left], np.int32))
