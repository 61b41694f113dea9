"""Stopping a run between two rounds. Standard library only."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_signals(announce: bool) -> Iterator[Callable[[], int | None]]:
    """Notes the first Ctrl-C or SIGTERM in place of what it would do; a second does it.

    The handlers of before are back after the first signal, and when the block ends. Signals that the process ignores
    stay ignored. Outside of the main thread, where Python sets no handlers, nothing is noted.

    Args:
        announce: answer the first signal with a line on standard error.

    Yields:
        A function that tells the number of the signal that came, or None.

    Example:
        >>> with stop_signals(announce=False) as stopping:
        ...     before = stopping()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, stopping() == signal.SIGTERM
        (None, True)
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # None: a handler that is not Python's, which could not be put back
    handlers = {number: old for number, old in handlers.items() if old not in (None, signal.SIG_IGN)}
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        put_back()
        received.append(number)
        if announce:
            # not print: the signal may have come in the middle of one
            os.write(2, b"\nfedhm: stopping after this round, with a checkpoint; once more stops at once\n")

    def put_back() -> None:
        for number, old in handlers.items():
            signal.signal(number, old)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        put_back()


def wait(until: Callable[[], object]) -> None:
    """Waits in another thread: a wait inside a library would hold signals back until it is over.

    Args:
        until: returns, or raises, when the wait is over; what it raises is dropped.
    """
    over = threading.Event()

    def watch() -> None:
        with suppress(Exception):
            until()
        over.set()

    # not a daemon: Python ends such threads at its own end, and aborts when they are inside of C++
    threading.Thread(target=watch).start()
    over.wait()
