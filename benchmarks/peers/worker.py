"""Runs one peer on one task and prints one line of JSON: ``python -m benchmarks.peers.worker PEER TASK``.

A peer is a module of this folder with ``run(task, round_done) -> loss``: it trains ``task.total_rounds`` rounds, calls
``round_done()`` after each, and returns the loss of the final model on `workload.probe_batches`. Standard library only,
Linux only: CPU time and memory are read from /proc for the process and all its descendants.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.peers.workload import Task

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measurement:
    """What one worker found.

    Attributes:
        start_up_seconds: from the start of the process to the end of the warm-up rounds.
        rounds: that were timed.
        steps: optimizer steps of all timed rounds.
        wall_seconds: of all timed rounds.
        cpu_seconds: of the process and its descendants, over all timed rounds.
        peak_mib: largest resident memory of each process alive at the end, summed.
        loss: of the final model, in nats.
    """

    start_up_seconds: float
    rounds: int
    steps: int
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    loss: float


class Meter:
    """Reads the clock and /proc after the warm-up rounds and after the last timed one, and does nothing in between.

    Attributes:
        finished: rounds so far.
        start_up_seconds, wall_seconds, cpu_seconds, peak_mib: as in `Measurement`, once all rounds are finished.
    """

    def __init__(self, warm_up: int, rounds: int) -> None:
        self._warm_up, self._total = warm_up, warm_up + rounds
        self.finished = 0
        self.start_up_seconds = self.wall_seconds = self.cpu_seconds = self.peak_mib = 0.0

    def round_done(self) -> None:
        """Tells that a round has ended."""
        self.finished += 1
        if self.finished == self._warm_up:
            self.start_up_seconds = _age(os.getpid())
            self.cpu_seconds = -sum(map(_cpu_seconds, family_of(os.getpid())))
            self.wall_seconds = -time.perf_counter()
        if self.finished == self._total:
            self.wall_seconds += time.perf_counter()
            family = family_of(os.getpid())
            self.cpu_seconds += sum(map(_cpu_seconds, family))
            self.peak_mib = sum(map(_peak_mib, family))


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def family_of(root: int) -> list[int]:
    """A process and all its living descendants.

    Args:
        root: its id.

    Returns:
        Their ids.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family


def end_family(root: int) -> None:
    """Kills a process and all its living descendants.

    Args:
        root: its id.
    """
    for pid in family_of(root):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children it has waited for."""
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _age(pid: int) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat(pid)[19]) / _TICKS


def measure(peer: str, task: Task) -> Measurement:
    """Runs a peer in this process.

    Args:
        peer: name of its module.
        task: what to run.

    Returns:
        The measurement.

    Raises:
        RuntimeError: the peer told of more or fewer rounds than it was asked for.
    """
    meter = Meter(task.warm_up, task.rounds)
    loss = import_module(f"benchmarks.peers.{peer}").run(task, meter.round_done)
    if meter.finished != task.total_rounds:
        raise RuntimeError(f"{peer} told of {meter.finished} rounds, but must tell of {task.total_rounds}")
    return Measurement(
        start_up_seconds=meter.start_up_seconds,
        rounds=task.rounds,
        steps=task.rounds * task.workload.steps_per_round,
        wall_seconds=meter.wall_seconds,
        cpu_seconds=meter.cpu_seconds,
        peak_mib=meter.peak_mib,
        loss=loss,
    )


def main() -> None:
    """Runs the peer and the task of the command line."""
    peer, text = sys.argv[1:]
    task = Task.from_json(text)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.cores])
    print(json.dumps(asdict(measure(peer, task))))


if __name__ == "__main__":
    main()
