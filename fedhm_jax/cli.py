"""The command line: ``fedhm simulate [--config FILE] [flags]``.

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
from fedhm_jax.validation import check_config

_BAD_INPUT = 2
_INTERRUPTED = 130


@dataclass(frozen=True)
class _Simulate:
    """Simulates federated learning with FedHM: clients of different strength train low-rank versions of one model.

    Prints progress to standard error and the final tables to standard output, and writes records, figures and the
    config to a new folder.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with a table per group below, such as [local] epochs = 2; flags override it."""
    simulation: Annotated[SimulationConfig, tyro.conf.arg(name="")] = field(default_factory=SimulationConfig)


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
    _command_parser().parse_args(arguments[:1])
    try:
        config = _with_folder(_parse(arguments[1:]))
        check_config(config)
        return _run(config)
    except ConfigError as error:
        print(f"fedhm: error: {error}", file=sys.stderr)
        return _BAD_INPUT


def _command_parser() -> argparse.ArgumentParser:
    """Parses the first argument only; the flags of a command are tyro's."""
    parser = argparse.ArgumentParser(
        prog="fedhm",
        description="Federated learning with heterogeneous low-rank models, simulated in JAX.",
        epilog="'fedhm simulate --help' lists every flag with its unit and default.",
    )
    parser.add_argument("--version", action="version", version=f"fedhm {version('fedhm-jax')}")
    parser.add_argument("command", choices=["simulate"], help="simulate: run rounds of federated training")
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


def _run(config: SimulationConfig) -> int:
    """Simulates, and prints the tables unless the run has shown them itself."""
    try:
        from fedhm_jax.simulation import simulate

        result = simulate(config)
    except KeyboardInterrupt:
        folder = config.output.folder
        begun = folder is not None and folder.exists()
        kept = f"the records so far are in {folder}" if begun else "no round was finished"
        print(f"\nfedhm: interrupted; {kept}", file=sys.stderr)
        return _INTERRUPTED
    if not config.output.progress:
        from fedhm_jax.reporting import print_result

        print_result(result)
    return 0
