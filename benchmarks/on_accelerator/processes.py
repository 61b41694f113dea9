"""Starts the parts one after another, each in a process and with a time of its own, and gathers what they say.

No part can take another's time, memory or results with it: a process that crashes loses the case it was at, and a new
one goes on with the next.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from benchmarks.on_accelerator.measurement import Measurement, from_line
from benchmarks.on_accelerator.part import Part
from benchmarks.on_accelerator.worker import DONE, READY
from benchmarks.peers.worker import end_family
from benchmarks.report import Machine

ROOT = Path(__file__).parents[2]
_WORKER = (sys.executable, "-m", "benchmarks.on_accelerator.worker")
_PATIENCE = 120
"""Seconds that naming the machine may take."""

Start = Callable[[int], Sequence[str]]
"""Command line of a process that begins with a case of this number."""


class Ending(NamedTuple):
    """How a process ended.

    Attributes:
        ready: whether it came as far as its first case.
        done: cases that it finished.
        reason: why there are no more.
    """

    ready: bool
    done: int
    reason: str


def name_machine() -> Machine:
    """The machine as a process of its own sees it: this one leaves the accelerator to the parts.

    Returns:
        Its name.

    Raises:
        RuntimeError: JAX does not start.
    """
    finished = subprocess.run(
        [*_WORKER, "machine"], capture_output=True, text=True, check=False, cwd=ROOT, timeout=_PATIENCE
    )
    if finished.returncode:
        raise RuntimeError(f"JAX does not start: {_last(finished.stderr)}")
    return Machine(**json.loads(finished.stdout.strip().splitlines()[-1]))


def command_of(part: Part, tiny: bool) -> Start:
    """The worker's command line.

    Args:
        part: what it runs.
        tiny: at sizes that a test can afford.

    Returns:
        The command line, by the number of the first case.
    """
    return lambda first: (*_WORKER, part.name, str(first), "tiny" if tiny else "full")


def measure_part(part: str, cases: Sequence[str], start: Start, limit: float) -> Iterator[Measurement]:
    """Runs a part to its end or to the end of its time.

    Args:
        part: its name.
        cases: names of its cases.
        start: the command line.
        limit: seconds for all of it.

    Yields:
        What was measured; for a case that did not come to its end, one measurement that says why.
    """
    deadline, first = time.monotonic() + limit, 0
    while first < len(cases):
        left = deadline - time.monotonic()
        if left <= 0:
            yield from (_failed(part, case, f"not reached in {limit:.0f} s") for case in cases[first:])
            return
        ending = yield from _one_process(start(first), left)
        first += ending.done
        if not ending.ready:
            yield from (_failed(part, case, ending.reason) for case in cases[first:])
            return
        if first < len(cases):
            yield _failed(part, cases[first], ending.reason)
            first += 1


def _one_process(command: Sequence[str], limit: float) -> Generator[Measurement, None, Ending]:
    ready, done = False, 0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        assert process.stdout is not None
        ended_by: list[str] = []

        def stop() -> None:
            if process.poll() is None:
                ended_by.append(f"not finished when the part's time was over, {limit:.0f} s after its process began")
                end_family(process.pid)

        timer = Timer(limit, stop)
        timer.start()
        try:
            for line in process.stdout:
                ready |= line.strip() == READY
                done += line.strip() == DONE
                measurement = from_line(line)
                if measurement is not None:
                    yield measurement
            process.wait()
        finally:
            timer.cancel()
            # Where nobody wants to hear more, it would keep the device.
            if process.poll() is None:
                end_family(process.pid)
        said.seek(0)
        crash = f"the process ended with exit code {process.returncode}: {_last(said.read())}"
        return Ending(ready, done, ended_by[0] if ended_by else crash)


def _failed(part: str, case: str, reason: str) -> Measurement:
    return Measurement(part, case, "", "seconds", 0, 0.0, failure=reason)


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["it said nothing"])[-1][:200]


def limits(weights: Sequence[float], seconds: float) -> Generator[float, float, None]:
    """How long each part may take: what is left is shared by weight among those that are still to come.

    Args:
        weights: of the parts.
        seconds: for all of them.

    Yields:
        Seconds of the next part; is to be sent how long it took.

    Example:
        >>> shares = limits([1, 1], 100)
        >>> next(shares), shares.send(10)
        (50.0, 90.0)
    """
    for index, weight in enumerate(weights):
        taken = yield max(seconds, 0.0) * weight / sum(weights[index:])
        seconds -= taken
