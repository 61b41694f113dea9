"""Measures everything in benchmarks/results again, one after another, by the commands that stand there.

make figures
python -m benchmarks scale soak

Takes hours on two cores; nothing else should run. `benchmarks.peers` wants its environments (`benchmarks.peers
setup`). A benchmark that fails is named at the end, and keeps the results that it had.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.report import RESULTS


@dataclass(frozen=True)
class Arguments:
    """All benchmarks again."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which of them, such as scale; all if none is named."""


def main(arguments: Arguments) -> int:
    """Runs the commands, and says which failed."""
    commands = commands_of(RESULTS, arguments.names)
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


def commands_of(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The commands that wrote results on a CPU, without the program's name.

    Args:
        folder: of the results.
        names: of benchmarks; all if there are none.

    Returns:
        Arguments of ``python`` by the benchmark's name.

    Raises:
        SystemExit: a name has no results, or results do not say what wrote them.
    """
    found = {}
    for path in sorted(folder.glob("*-cpu.md")):
        # environment variables that stand before the command are the user's own business
        command = path.read_text(encoding="utf-8").splitlines()[2].strip().partition("python ")[2]
        if not command.startswith("-m benchmarks."):
            raise SystemExit(f"{path} does not say in its third line which command wrote it")
        found[path.name.removesuffix("-cpu.md")] = shlex.split(command)
    if unknown := [name for name in names if name not in found]:
        raise SystemExit(f"no results of {', '.join(unknown)}: there are {', '.join(found)}")
    return {name: command for name, command in found.items() if not names or name in names}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))
