"""The flags of the commands, read off dataclasses by tyro."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from fedhm_jax.config import OutputConfig, SimulationConfig, all_keys, meant_by, read_config
from fedhm_jax.errors import ConfigError


@dataclass(frozen=True)
class SimulateFlags:
    """Simulates federated learning: clients of different strength train smaller versions of one model.

    Prints progress to standard error and the final tables to standard output, and writes records, figures and the
    config to a new folder.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file with a table per group below, such as [local] epochs = 2; flags override it."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of an interrupted run, or of one of its checkpoints: goes on with it, with the config that it began with.
    Flags may change output.progress, checkpoint, the folders of the data, server.devices, server.clients_per_chunk,
    and server.rounds (not with a cosine schedule)."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of the first of several processes that run one simulation together; see docs/scaling.md."""
    processes: int = 1
    """How many processes there are."""
    process: int = 0
    """Number of this process, from 0. The first reports and writes."""
    simulation: Annotated[SimulationConfig, tyro.conf.arg(name="")] = field(default_factory=SimulationConfig)


@dataclass(frozen=True)
class CompareFlags:
    """Runs a study, strategies x settings x seeds, and writes one report; started again, it goes on where it stopped.

    Shows progress on standard error and prints the tables of accuracy to standard output.
    """

    study: tyro.conf.Positional[Path]
    """TOML file of the study."""
    folder: Path | None = None
    """Where runs and report go; runs/<name of the file> if unset. Finished runs in it are not run again."""
    data_dir: Path | None = None
    """Folder of the prepared TFDS data sets, in place of the study's own."""


def simulate_flags(arguments: Sequence[str]) -> SimulateFlags:
    """The flags of ``fedhm simulate``. Config file and run folder are looked for first, since their values become the
    flags' defaults.

    Args:
        arguments: those after the command.

    Returns:
        The flags.

    Raises:
        ConfigError: config file or run folder cannot be used, or there is no such option.
        SystemExit: with code 0 after ``--help``, and with code 2 for values that cannot be parsed.

    Example:
        >>> simulate_flags(["--local.epochs", "2"]).simulation.local.epochs
        2
        >>> simulate_flags(["--local.lr", "0.1"])
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: --local.lr is no option of fedhm simulate; did you mean --local.learning-rate?
    """
    file_parser = argparse.ArgumentParser(prog="fedhm simulate", add_help=False, allow_abbrev=False)
    file_parser.add_argument("--config", type=Path)
    file_parser.add_argument("--resume", type=Path)
    given = file_parser.parse_known_args(arguments)[0]
    base = SimulationConfig(output=OutputConfig(progress=True))
    if given.resume is not None:
        from fedhm_jax.run import stored_config

        base = stored_config(given.resume)
    if given.config is not None:
        base = read_config(given.config, base)
    default = SimulateFlags(simulation=base)
    asked, unknown = tyro.cli(
        SimulateFlags, prog="fedhm simulate", args=arguments, default=default, return_unknown_args=True
    )
    if unknown:
        raise _no_option(unknown[0])
    return asked


def _no_option(argument: str) -> ConfigError:
    """One sentence, as for a wrong key of a config file; tyro would suggest what is spelled like it, and show a box."""
    if not argument.startswith("--"):
        return ConfigError(f"{argument!r} belongs to no option of fedhm simulate; options are --name value")
    option = argument.partition("=")[0]
    path = option.removeprefix("--").replace("-", "_")
    keys = [key for key in all_keys() if "." in key]
    names = [*keys, *(entry.name for entry in fields(SimulateFlags) if entry.name != "simulation")]
    meant = [key for key in keys if key.startswith(f"{path}.")][:1] or meant_by(path, names)
    hint = f"did you mean {' or '.join(map(_as_option, meant))}?" if meant else "fedhm simulate --help lists them"
    return ConfigError(f"{option} is no option of fedhm simulate; {hint}")


def _as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def compare_flags(arguments: Sequence[str]) -> CompareFlags:
    """The flags of ``fedhm compare``.

    Args:
        arguments: those after the command.

    Returns:
        The flags.

    Raises:
        SystemExit: with code 0 after ``--help``, and with code 2 for flags that cannot be parsed.

    Example:
        >>> compare_flags(["study.toml"]).study.name
        'study.toml'
    """
    return tyro.cli(CompareFlags, prog="fedhm compare", args=arguments)
