"""How long until a new user sees something?

``python -m benchmarks.first_answer``. Each command in a process of its own, in turns: the import, help, a mistyped
value, and the default run with an empty and with a filled cache of compiled programs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write

CLI = str(Path(sys.executable).with_name("fedhm"))
DEFAULT_RUN = (CLI, "simulate", "--output.no-progress", "--output.folder")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import fedhm_jax": (sys.executable, "-c", "import fedhm_jax"),
    "fedhm --help": (CLI, "--help"),
    "fedhm simulate --help": (CLI, "simulate", "--help"),
    "fedhm simulate --local.epochs 0": (CLI, "simulate", "--local.epochs", "0"),
}
EMPTY, FILLED = "fedhm simulate, empty cache", "fedhm simulate, filled cache"


class Answer(NamedTuple):
    """One command.

    Attributes:
        command: what was run.
        turn: number of the turn.
        seconds: from the start of its process to its end.
    """

    command: str
    turn: int
    seconds: float


def measure(turns: int) -> list[Answer]:
    """Runs every command several times.

    Args:
        turns: how often.

    Returns:
        One answer a command and turn.
    """
    answers = []
    for turn in track(range(turns), description="turns"):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            environment.pop("JAX_COMPILATION_CACHE_DIR", None)
            runs = {EMPTY: (*DEFAULT_RUN, f"{folder}/first"), FILLED: (*DEFAULT_RUN, f"{folder}/second")}
            for name, command in {**COMMANDS, **runs}.items():
                started = time.perf_counter()
                subprocess.run(command, env=environment, capture_output=True, check=False)
                answers.append(Answer(name, turn, time.perf_counter() - started))
    return answers


@dataclass(frozen=True)
class Options:
    """Times what a new user waits for."""

    turns: int = 5
    """How often each command is run."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.first_answer")
    answers = measure(options.turns)
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(answer.command for answer in answers):
        seconds = [answer.seconds for answer in answers if answer.command == name]
        rows.append((name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"))
    command = " ".join(("python -m benchmarks.first_answer", *sys.argv[1:]))
    note = "A process each, from its start to its end. The default run has 30 rounds and writes its folder."
    table = ResultTable("Seconds until the answer", ("command", "median", "range"), rows)
    report = Report("first_answer", command, (table,), (note,), [answer._asdict() for answer in answers])
    show(report)
    print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
