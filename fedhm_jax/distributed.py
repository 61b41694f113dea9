"""Several processes, on one host or many, that run one simulation together with JAX's own runtime."""

import jax

from fedhm_jax.errors import ConfigError


def join(coordinator: str, processes: int, process: int) -> None:
    """Joins this process to the others; to be called once, before anything else asks JAX for devices.

    Each process then runs the same simulation with the same config. The clients of a round are spread over all devices
    of all processes, and only the first process reports and writes files.

    Args:
        coordinator: ``HOST:PORT`` of the first process.
        processes: how many there are.
        process: number of this one, from 0.

    Raises:
        ConfigError: the numbers do not fit together, or the others cannot be reached.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError.of("coordinator", coordinator, "HOST:PORT of the first process, such as 10.0.0.1:9911")
    if not 0 <= process < processes:
        raise ConfigError.of("process", process, f"from 0 to {processes - 1}, one less than processes")
    try:
        jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError.of("coordinator", coordinator, f"an address where all processes meet ({reason})") from error


def is_first() -> bool:
    """Whether this process reports and writes files.

    Returns:
        True in a run of a single process.

    Example:
        >>> is_first()
        True
    """
    return jax.process_index() == 0
