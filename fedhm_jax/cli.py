"""The command line: ``fedhm simulate [--config FILE] [--resume DIR] [flags]``, ``fedhm compare STUDY [flags]``, and
what becomes of finished runs: `fedhm_jax.report_command` shows them, `fedhm_jax.model_commands` has their models.

Flags override the config file, and the config file overrides the defaults. tyro is imported for the flags of a command
only, and JAX only after the config has been read and checked, so that help and mistakes are answered at once.
"""

import argparse
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fedhm_jax.comparison import read_study
from fedhm_jax.config import SimulationConfig, check_config, refuse_handed_over
from fedhm_jax.errors import CallbackError, ConfigError, DivergedError, Interrupted, OutOfMemoryError
from fedhm_jax.files import WriteError
from fedhm_jax.model_commands import export, predict
from fedhm_jax.report_command import report

if TYPE_CHECKING:
    from fedhm_jax.flags import SimulateFlags

_STOPPED = 1
_BAD_INPUT = 2
_SIGNAL = 128
"""Added to a signal's number, as shells do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0 after a finished run, 1 if it had to stop, 2 for bad input, 130 after Ctrl-C, 143
        after SIGTERM.

    Raises:
        SystemExit: with code 0 after ``--help`` and ``--version``, and with code 2 for values that cannot be parsed.

    Example:
        >>> main(["simulate", "--local.epochs", "0"])  # prints the reason to standard error
        2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = _command_parser().parse_args(arguments[:1]).command
    try:
        commands = {"simulate": _simulate, "compare": _compare, "predict": predict, "export": export, "report": report}
        return commands[command](arguments[1:])
    except ConfigError as error:
        print(f"fedhm: error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except (WriteError, CallbackError, DivergedError, OutOfMemoryError) as error:
        print(f"fedhm: error: {error}", file=sys.stderr)
        return _STOPPED


def program() -> NoReturn:
    """The program ``fedhm``: `main`, and an end without delay when something stopped it."""
    code = main()
    if code != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end would wait for a round that is still computed, or for processes that wait for this one.
        os._exit(code)
    sys.exit(code)


def _command_parser() -> argparse.ArgumentParser:
    """Parses the first argument only; the flags of a command are tyro's."""
    parser = argparse.ArgumentParser(
        prog="fedhm",
        description="Federated learning with heterogeneous low-rank models, simulated in JAX.",
        epilog="'fedhm simulate --help', and likewise for the others, lists the flags with their units and defaults.",
    )
    parser.add_argument("--version", action="version", version=f"fedhm {version('fedhm-jax')}")
    help_text = (
        "simulate: run rounds of federated training; compare: run strategies side by side and report; report: put "
        "finished runs side by side on a page; predict: classify images with a finished run's model; export: write "
        "such a model to a file"
    )
    parser.add_argument("command", choices=["simulate", "compare", "report", "predict", "export"], help=help_text)
    return parser


def _with_folder(config: SimulationConfig) -> SimulationConfig:
    """Picks ``runs/<strategy>-<data>-<time>`` when no folder was given."""
    if config.output.folder is not None:
        return config
    method = config.strategy.name if config.strategy.builder is None else config.strategy.builder.rpartition(":")[2]
    name = f"{method}-{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    # names of data sets may hold slashes and colons, which must not make folders
    folder = Path("runs") / re.sub(r"[^\w.-]+", "-", name)
    return replace(config, output=replace(config.output, folder=folder))


def _simulate(arguments: Sequence[str]) -> int:
    """Simulates, and prints the tables unless the run has shown them itself."""
    from fedhm_jax.flags import simulate_flags

    asked = simulate_flags(arguments)
    config = asked.simulation
    if asked.config is not None:
        refuse_handed_over(asked.config)
    if asked.resume is None:
        config = _with_folder(config)
        check_config(config)
    _prepare_jax(asked)
    if asked.resume is not None and _is_over(asked.resume, config):
        rounds = f"{config.server.rounds} round{'s' if config.server.rounds != 1 else ''}"
        print(f"fedhm: the run in {config.output.folder} has finished its {rounds}; nothing to do", file=sys.stderr)
        return 0
    try:
        from fedhm_jax.engine import watch_first
        from fedhm_jax.run import simulate

        with watch_first():
            result = simulate(config, resume=asked.resume)
    except Interrupted as stop:
        return _interrupted(f"stopped after round {stop.round}; {_how_to_go_on(stop.folder)}", stop.signal)
    except KeyboardInterrupt:
        return _interrupted(_how_to_go_on(config.output.folder), signal.SIGINT)
    except (WriteError, CallbackError, OutOfMemoryError) as error:
        raise type(error)(f"{error}; {_how_to_go_on(config.output.folder)}") from error
    if not config.output.progress:
        from fedhm_jax.reporting import print_result

        print_result(result)
    return 0


def _is_over(resume: Path, config: SimulationConfig) -> bool:
    from fedhm_jax.run import find_start

    return find_start(resume, config).finished


def _prepare_jax(asked: "SimulateFlags") -> None:
    """Settings that must be made before JAX first looks for devices."""
    from fedhm_jax.engine import join, keep_watch, show_cores

    show_cores(asked.simulation.server.devices, asked.processes)
    if asked.coordinator is not None:
        join(asked.coordinator, asked.processes, asked.process)
        keep_watch(asked.coordinator, asked.processes, asked.process)


def _how_to_go_on(folder: Path | None) -> str:
    if folder is None or not folder.exists():
        return "no round was finished"
    # a run that was stopped before its first checkpoint can be resumed as well: it begins anew
    if not any((folder / name).exists() for name in ("checkpoints", "config.toml")):
        return f"the records so far are in {folder}"
    return f"to go on: fedhm simulate --resume {shlex.quote(str(folder))}"


def _compare(arguments: Sequence[str]) -> int:
    """Runs a study, and prints where its report is."""
    from fedhm_jax.flags import compare_flags

    asked = compare_flags(arguments)
    study = read_study(asked.study, asked.data_dir)
    folder = Path("runs") / asked.study.stem if asked.folder is None else asked.folder
    try:
        from fedhm_jax.comparison import compare

        result = compare(study, folder, progress=True)
    except KeyboardInterrupt as stop:
        kept = f"what was done is kept in {folder}; the same command goes on from there"
        return _interrupted(kept, stop.signal if isinstance(stop, Interrupted) else signal.SIGINT)
    from fedhm_jax.comparison import print_comparison

    print_comparison(result)
    return 0


def _interrupted(kept: str, number: int) -> int:
    print(f"\nfedhm: interrupted; {kept}", file=sys.stderr)
    return _SIGNAL + number
