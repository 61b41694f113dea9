"""``python -m benchmarks.peers setup [PEER ...]`` and ``python -m benchmarks.peers run``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import track

from benchmarks.peers.environments import ENVIRONMENTS, PEERS, check_names, interpreter, set_up
from benchmarks.peers.turns import build_report, quick, take_turns, variants
from benchmarks.peers.workload import WORKLOADS
from benchmarks.report import RESULTS, show, write
from fedhm_jax.errors import ConfigError


@dataclass(frozen=True)
class Setup:
    """Creates the peers' environments with pip; what is there at the right versions is left alone."""

    peers: tyro.conf.Positional[tuple[str, ...]] = tuple(PEERS)
    """Peers to set up."""
    environments: Path = ENVIRONMENTS
    """Folder of the environments, a few GB."""


@dataclass(frozen=True)
class Run:
    """Times the peers and fedhm_jax in turns."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """A: CNN, 100 clients. B: CNN, 1,000 clients. C: ResNet-8. H, HC: FedHM with tiers 1:2:4:8, CNN and ResNet-8. T:
    decoder of text."""
    peers: tuple[str, ...] = tuple(PEERS)
    """Whom to time."""
    turns: int = 5
    """Times that every worker is run."""
    rounds: int = 10
    """Timed rounds of a worker."""
    warm_up: int = 10
    """Rounds before them, counted as start-up."""
    threads: int = 2
    """CPU cores that a worker may use."""
    limit: int = 1800
    """Seconds after which a worker that has not finished is stopped and left out."""
    quick: bool = False
    """Tiny sizes, one turn, one round, nothing written: shows that the workers run."""
    environments: Path = ENVIRONMENTS
    """Folder of the environments."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: in place of the process's own.

    Returns:
        The exit code: 2 for a mistake in the arguments or a worker that failed.
    """
    options: Setup | Run = tyro.cli(
        Annotated[Setup, tyro.conf.subcommand("setup")] | Annotated[Run, tyro.conf.subcommand("run")],
        prog="python -m benchmarks.peers",
        args=arguments,
    )
    try:
        if isinstance(options, Setup):
            check_names("peers", options.peers, tuple(PEERS))
            for peer in options.peers:
                set_up(peer, options.environments)
        else:
            _run(options, sys.argv[1:] if arguments is None else arguments)
    except (ConfigError, RuntimeError) as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: Run, arguments: Sequence[str]) -> None:
    check_names("workloads", options.workloads, tuple(WORKLOADS))
    check_names("peers", options.peers, tuple(PEERS))
    for field in ("turns", "rounds", "warm_up", "threads", "limit"):
        if getattr(options, field) < 1:
            raise ConfigError.of(field, getattr(options, field), "an integer of at least 1")
    pythons = {peer: interpreter(peer, options.environments) for peer in options.peers}
    workloads = {name: WORKLOADS[name] for name in options.workloads}
    turns, rounds = options.turns, options.rounds
    if options.quick:
        workloads, turns, rounds = {name: quick(workload) for name, workload in workloads.items()}, 1, 1
    workers = turns * sum(len(variants(options.threads, options.peers, workload)) for workload in workloads.values())
    rows = take_turns(
        workloads,
        pythons,
        turns=turns,
        rounds=rounds,
        warm_up=options.warm_up,
        cores=options.threads,
        limit=options.limit,
    )
    finished = list(track(rows, "Running workers", total=workers))
    report = build_report(finished, workloads, " ".join(("python -m benchmarks.peers", *arguments)))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    sys.exit(main())
