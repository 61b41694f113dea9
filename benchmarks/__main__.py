"""Measures everything in benchmarks/results again, one after another, by the commands that stand there.

make figures
python -m benchmarks scale soak

Takes hours on two cores; nothing else should run. `benchmarks.peers` wants its environments (`benchmarks.peers
setup`). A benchmark that fails is named at the end, and keeps the results that it had. Results of another JAX, and in
folders of their own those of another processor, are left alone unless they are named.

make figures VENV=.venv-3.13 PYTHON=python3.13
python -m benchmarks jax-0.12/peers
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from benchmarks.report import RESULTS, processor

_CPU = "-cpu.md"


@dataclass(frozen=True)
class Arguments:
    """All benchmarks again."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which of them, such as scale or jax-0.12/peers; all that are of here if none is named."""


def main(arguments: Arguments) -> int:
    """Runs the commands, and says which failed."""
    commands = commands_of(RESULTS, arguments.names or names_of(RESULTS, jax.__version__, processor()))
    failed = []
    for name, command in commands.items():
        print(f"== {name}: python {shlex.join(command)}", flush=True)
        started = time.monotonic()
        code = subprocess.run([sys.executable, *command], cwd=RESULTS.parents[1]).returncode
        print(f"== {name}: {'done' if code == 0 else f'failed with {code}'} in {time.monotonic() - started:.0f} s")
        failed += [name] if code else []
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def names_of(folder: Path, version: str, processor: str) -> list[str]:
    """The results on a CPU that a place would measure again.

    Args:
        folder: of the results.
        version: of JAX there.
        processor: its name there.

    Returns:
        Names: of the results in the folder those of the same JAX (0.10.1 and 0.10.2 are the same), of those in folders
        within it the ones of the same processor among them.
    """
    names = []
    for path in sorted(folder.rglob(f"*{_CPU}")):
        line = path.read_text(encoding="utf-8").splitlines()[4]
        found = re.search(r"jax (\d+\.\d+)", line)
        if found and found[1] == ".".join(version.split(".")[:2]) and (path.parent == folder or processor in line):
            names.append(_name(folder, path))
    return names


def commands_of(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The commands that wrote results on a CPU, without the program's name.

    Args:
        folder: of the results.
        names: of benchmarks, with their folder within it.

    Returns:
        Arguments of ``python`` by the benchmark's name.

    Raises:
        SystemExit: a name has no results, or results do not say what wrote them.
    """
    found = {_name(folder, path): path for path in sorted(folder.rglob(f"*{_CPU}"))}
    if unknown := [name for name in names if name not in found]:
        raise SystemExit(f"no results of {', '.join(unknown)}: there are {', '.join(found)}")
    commands = {}
    for name in names:
        # environment variables that stand before the command are the user's own business
        command = found[name].read_text(encoding="utf-8").splitlines()[2].strip().partition("python ")[2]
        if not command.startswith("-m benchmarks."):
            raise SystemExit(f"{found[name]} does not say in its third line which command wrote it")
        commands[name] = shlex.split(command)
    return commands


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix().removesuffix(_CPU)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
