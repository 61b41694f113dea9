"""Several processes, on one host or many, that run one simulation together with JAX's own runtime."""

import atexit
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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


_GOODBYE = b"."
_SECONDS_TO_MEET = 300.0
_SECONDS_TO_HEAR = 10.0


def keep_watch(coordinator: str, processes: int, process: int) -> None:
    """Ends this process with one sentence on standard error, and exit code 1, as soon as another one is lost.

    A sum over devices would wait for the lost process for ever. Every process holds a connection to the first, one port
    above the coordinator's; the operating system closes it when a process ends, however it ends, and a process that has
    finished says so before.

    Args:
        coordinator: as in `join`, which comes before.
        processes: as in `join`.
        process: as in `join`.

    Raises:
        ConfigError: the port cannot be used.
    """
    host, _, port = coordinator.rpartition(":")
    try:
        lines = _accept(int(port) + 1, processes - 1) if process == 0 else [_connect(host, int(port) + 1)]
    except OSError as error:
        allowed = f"an address whose next port, {int(port) + 1}, is free and reachable as well ({error})"
        raise ConfigError.of("coordinator", coordinator, allowed) from error
    for line in lines:
        threading.Thread(target=_listen, args=(line,), daemon=True).start()
        atexit.register(_say_goodbye, line)


@contextmanager
def watch_first() -> Iterator[None]:
    """Lets the watch of `keep_watch` speak before an error of JAX does.

    Where a process is lost in the middle of a sum, JAX may notice before the connection of the watch is read.

    Yields:
        Nothing.

    Raises:
        JaxRuntimeError: as raised inside; of several processes, after seconds in which the watch told of no loss.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError:
        if jax.process_count() > 1:
            time.sleep(_SECONDS_TO_HEAR)
        raise


def _accept(port: int, others: int) -> list[socket.socket]:
    with socket.create_server(("", port)) as server:
        server.settimeout(_SECONDS_TO_MEET)
        lines = [server.accept()[0] for _ in range(others)]
    for line in lines:
        line.settimeout(None)
    return lines


def _connect(host: str, port: int) -> socket.socket:
    until = time.monotonic() + _SECONDS_TO_MEET
    while True:
        try:
            line = socket.create_connection((host, port), timeout=_SECONDS_TO_MEET)
        except ConnectionRefusedError:
            # The first process may not listen yet.
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            line.settimeout(None)
            return line


def _listen(line: socket.socket) -> None:
    try:
        heard = line.recv(1)
    except OSError:
        heard = b""
    if heard != _GOODBYE:
        sentence = (
            "another process of this run was lost; to go on, start all of them again with --resume and its folder"
        )
        os.write(2, f"\nfedhm: error: {sentence}\n".encode())
        os._exit(1)


def _say_goodbye(line: socket.socket) -> None:
    # The other may have ended before, and said so.
    with suppress(OSError):
        line.sendall(_GOODBYE)
