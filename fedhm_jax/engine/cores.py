"""A CPU's cores as devices, asked for before JAX counts its devices."""

import os
from typing import Any

import jax

_COUNT = "--xla_force_host_platform_device_count"

_PATIENCE = 30 * 24 * 3600
"""Seconds that a device may wait for the others: as long as their clients train."""

_WAITING = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds",
    "--xla_cpu_collective_call_terminate_timeout_seconds",
)
"""XLA's limits, by default 20 and 40 seconds: the process of a device that has waited so long is ended."""


def show_cores(devices: int | None = None, processes: int = 1) -> None:
    """Has JAX see a CPU as one device a core, and lets devices wait for each other as long as clients take.

    Does nothing once JAX has counted its devices, or joined processes that have theirs. How many there are is left to
    the user who has said so, by ``--xla_force_host_platform_device_count`` in ``XLA_FLAGS`` or, unless more are asked
    for, by ``JAX_NUM_CPU_DEVICES``. Patience is two flags of XLA, added to ``XLA_FLAGS``.

    Args:
        devices: that a run asks for, on all processes together; None for a device a core that this process may use.
        processes: how many run together. Each of several shows one device unless more are asked for, since they may
            share their cores.
    """
    if processes == 1 and jax.distributed.is_initialized():
        return
    config: Any = jax.config
    flags, said = os.environ.get("XLA_FLAGS", ""), config.jax_num_cpu_devices
    count = said
    if _COUNT not in flags:
        unasked = said if said > 0 else usable_cores() if processes == 1 else 1
        asked = 1 if devices is None else devices // processes
        count = max(asked, unasked) if devices is None or processes == 1 else max(asked, 1)
    try:
        config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has counted its devices
        return
    missing = [f"{limit}={_PATIENCE}" for limit in _WAITING if limit not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()


def usable_cores() -> int:
    """How many cores this process may run on.

    Returns:
        At least 1.

    Example:
        >>> usable_cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
