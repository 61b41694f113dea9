"""What a config leaves to the platform: the defaults that differ between CPUs and accelerators."""

import os
from dataclasses import replace

from fedhm_jax.config import ServerConfig, SimulationConfig
from fedhm_jax.layers import ConvMethod
from fedhm_jax.lowrank import fastest_decomposition

SIDE_BY_SIDE = 16
"""Clients side by side on an accelerator, where a config does not say how many."""

_LEVEL = "xla_backend_optimization_level"

RUNS_ONCE = 1
"""First weights are long kernels, one for each leaf, on which LLVM works for seconds at its highest level, to win
milliseconds."""

RUNS_OFTEN = 2
"""Rounds of a ResNet-8 take 3 to 9 % less time than at 3, as XLA has it, and compile sooner; others take as long."""


def clients_side_by_side(server: ServerConfig, platform: str) -> int:
    """How many clients train in one batched program.

    Args:
        server: its ``clients_per_chunk`` is taken where it is set.
        platform: ``cpu``, ``gpu`` or ``tpu``, as `jax.default_backend` names them.

    Returns:
        At least 1.

    Example:
        >>> [clients_side_by_side(ServerConfig(), platform) for platform in ("cpu", "gpu", "tpu")]
        [1, 16, 16]
    """
    return server.clients_per_chunk or (1 if platform == "cpu" else SIDE_BY_SIDE)


def convolution_method(server: ServerConfig, platform: str) -> ConvMethod:
    """How convolutions are computed.

    Args:
        server: its ``convolution`` is taken unless it is ``auto``.
        platform: as `jax.default_backend` names it.

    Returns:
        The method; ``auto`` on a CPU with one client at a time, where it is decided kernel by kernel.

    Example:
        >>> [convolution_method(ServerConfig(clients_per_chunk=2), platform) for platform in ("cpu", "gpu", "tpu")]
        ['gemm', 'lax', 'lax']
    """
    if server.convolution != "auto" or platform != "cpu":
        return "lax" if server.convolution == "auto" else server.convolution
    # Of clients side by side, the library's convolutions become grouped ones, which a CPU computes slowly.
    return "gemm" if clients_side_by_side(server, platform) > 1 else "auto"


def compiler_options(platform: str, level: int) -> dict[str, int] | None:
    """How hard LLVM works on a program for a CPU.

    Args:
        platform: as `jax.default_backend` names it.
        level: of optimization, from 0 to 3: `RUNS_ONCE` or `RUNS_OFTEN`.

    Returns:
        Options for `jax.jit`; None on accelerators, and where ``XLA_FLAGS`` says a level.

    Example:
        >>> compiler_options("gpu", RUNS_OFTEN) is None
        True
    """
    said = _LEVEL in os.environ.get("XLA_FLAGS", "")
    return None if platform != "cpu" or said else {_LEVEL: level}


def with_defaults_of(platform: str, config: SimulationConfig) -> SimulationConfig:
    """The config of the same run with a platform's choices in it, to prepare it where another platform is the default.

    Args:
        platform: as `jax.default_backend` names it.
        config: a run's.

    Returns:
        The config, with clients side by side, convolutions and decomposition said.

    Example:
        >>> server = with_defaults_of("gpu", SimulationConfig()).server
        >>> server.clients_per_chunk, server.convolution
        (16, 'lax')
    """
    server, strategy = config.server, config.strategy
    clients, convolution = clients_side_by_side(server, platform), convolution_method(server, platform)
    if strategy.decomposition == "auto":
        strategy = replace(strategy, decomposition=fastest_decomposition(platform))
    return replace(
        config, strategy=strategy, server=replace(server, clients_per_chunk=clients, convolution=convolution)
    )
