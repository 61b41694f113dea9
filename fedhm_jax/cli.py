"""The command line: ``fedhm simulate [--config FILE] [flags]`` and ``fedhm compare STUDY [flags]``.

Flags override the config file, and the config file overrides the defaults. JAX is imported only after the config has
been read and checked, so a mistake is answered at once.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from fedhm_jax.config import OutputConfig, SimulationConfig
from fedhm_jax.config_file import read_config
from fedhm_jax.errors import ConfigError
from fedhm_jax.study_file import read_study
from fedhm_jax.validation import check_config

_BAD_INPUT = 2
_INTERRUPTED = 130


@dataclass(frozen=True)
class _Simulate:
    """Simulates federated learning: clients of different strength train smaller versions of one model.

    Prints progress to standard error and the final tables to standard output, and writes records, figures and the
    config to a new folder.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with a table per group below, such as [local] epochs = 2; flags override it."""
    simulation: Annotated[SimulationConfig, tyro.conf.arg(name="")] = field(default_factory=SimulationConfig)


@dataclass(frozen=True)
class _Compare:
    """Runs a study, strategies x settings x seeds, and writes one report; started again, it goes on where it stopped.

    Shows progress on standard error and prints the tables of accuracy to standard output.
    """

    study: tyro.conf.Positional[Path]
    """TOML file of the study."""
    folder: Path | None = None
    """Where runs and report go; runs/<name of the file> if unset. Finished runs in it are not run again."""
    data_dir: Path | None = None
    """Folder of the prepared TFDS data sets, in place of the study's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0 after a finished run, 2 for bad input, 130 after an interruption.

    Raises:
        SystemExit: with code 0 after ``--help`` and ``--version``, and with code 2 for flags that cannot be parsed.

    Example:
        >>> main(["simulate", "--local.epochs", "0"])  # prints the reason to standard error
        2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = _command_parser().parse_args(arguments[:1]).command
    try:
        return {"simulate": _simulate, "compare": _compare}[command](arguments[1:])
    except ConfigError as error:
        print(f"fedhm: error: {error}", file=sys.stderr)
        return _BAD_INPUT


def _command_parser() -> argparse.ArgumentParser:
    """Parses the first argument only; the flags of a command are tyro's."""
    parser = argparse.ArgumentParser(
        prog="fedhm",
        description="Federated learning with heterogeneous low-rank models, simulated in JAX.",
        epilog="'fedhm simulate --help' and 'fedhm compare --help' list the flags with their units and defaults.",
    )
    parser.add_argument("--version", action="version", version=f"fedhm {version('fedhm-jax')}")
    help_text = "simulate: run rounds of federated training; compare: run strategies side by side and report"
    parser.add_argument("command", choices=["simulate", "compare"], help=help_text)
    return parser


def _parse(flags: Sequence[str]) -> SimulationConfig:
    """The config of these flags. The file is looked for first, since its values become the flags' defaults."""
    file_parser = argparse.ArgumentParser(prog="fedhm simulate", add_help=False, allow_abbrev=False)
    file_parser.add_argument("--config", type=Path)
    file = file_parser.parse_known_args(flags)[0].config
    base = SimulationConfig(output=OutputConfig(progress=True))
    if file is not None:
        base = read_config(file, base)
    default = _Simulate(simulation=base)
    return tyro.cli(_Simulate, prog="fedhm simulate", args=flags, default=default).simulation


def _with_folder(config: SimulationConfig) -> SimulationConfig:
    """Picks ``runs/<strategy>-<data>-<time>`` when no folder was given."""
    if config.output.folder is not None:
        return config
    name = f"{config.strategy.name}-{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    # names of data sets may hold slashes and colons, which must not make folders
    folder = Path("runs") / re.sub(r"[^\w.-]+", "-", name)
    return replace(config, output=replace(config.output, folder=folder))


def _simulate(flags: Sequence[str]) -> int:
    """Simulates, and prints the tables unless the run has shown them itself."""
    config = _with_folder(_parse(flags))
    check_config(config)
    try:
        from fedhm_jax.simulation import simulate

        result = simulate(config)
    except KeyboardInterrupt:
        folder = config.output.folder
        begun = folder is not None and folder.exists()
        return _interrupted(f"the records so far are in {folder}" if begun else "no round was finished")
    if not config.output.progress:
        from fedhm_jax.reporting import print_result

        print_result(result)
    return 0


def _compare(flags: Sequence[str]) -> int:
    """Runs a study, and prints where its report is."""
    asked = tyro.cli(_Compare, prog="fedhm compare", args=flags)
    study = read_study(asked.study, asked.data_dir)
    folder = Path("runs") / asked.study.stem if asked.folder is None else asked.folder
    try:
        from fedhm_jax.comparison import compare

        result = compare(study, folder, progress=True)
    except KeyboardInterrupt:
        return _interrupted(f"finished runs are kept in {folder}; the same command goes on with the others")
    from fedhm_jax.reporting import print_comparison

    print_comparison(result)
    return 0


def _interrupted(kept: str) -> int:
    print(f"\nfedhm: interrupted; {kept}", file=sys.stderr)
    return _INTERRUPTED
