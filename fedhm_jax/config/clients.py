"""How many clients there are, and what must fit their number. Standard library only, as `validation`."""

from fedhm_jax.config.schema import PartitionConfig, SimulationConfig
from fedhm_jax.errors import ConfigError

_CLIENTS = 20
"""Registered clients where nothing says how many."""


def number_of_clients(partition: PartitionConfig) -> int | None:
    """How many clients are registered, as far as the config tells.

    Args:
        partition: how samples are dealt out.

    Returns:
        The number; None if only the data tell.

    Example:
        >>> number_of_clients(PartitionConfig()), number_of_clients(PartitionConfig(method="natural"))
        (20, None)
    """
    if partition.clients is not None:
        return partition.clients
    return None if partition.method in ("natural", "given") else _CLIENTS


def check_clients(config: SimulationConfig, clients: int) -> None:
    """Raises one sentence about the first value that does not fit the number of clients.

    Args:
        config: its types and ranges are checked.
        clients: number of registered clients.

    Raises:
        ConfigError: naming the field, its value and what is allowed.

    Example:
        >>> from fedhm_jax.config import ServerConfig
        >>> check_clients(SimulationConfig(server=ServerConfig(cohort_size=9)), clients=8)
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: server.cohort_size is 9, but must be at most the number of clients (8)
    """
    privacy, tiers, cohort_size = config.privacy, config.tiers, config.server.cohort_size
    if privacy.noise_multiplier is not None and privacy.delta is not None and not 0 < privacy.delta < 1 / clients:
        allowed = f"above 0 and below 1 / the number of clients ({clients}) when privacy.noise_multiplier is set"
        raise ConfigError.of("privacy.delta", privacy.delta, allowed)
    if tiers.counts is not None and sum(tiers.counts) != clients:
        raise ConfigError.of("tiers.counts", tiers.counts, f"integers that sum to the number of clients ({clients})")
    if tiers.of_client is not None and len(tiers.of_client) != clients:
        allowed = f"one tier for each client ({clients}), not {len(tiers.of_client)} of them"
        raise ConfigError.of("tiers.of_client", tiers.of_client, allowed)
    if cohort_size is not None and cohort_size > clients:
        raise ConfigError.of("server.cohort_size", cohort_size, f"at most the number of clients ({clients})")
