"""Runs the study's config on noise for a few rounds: it shows that the config trains.

python -m experiments.cifar100_resnet34.prove --rounds 2
"""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import tyro

from experiments.stand_in import stand_in
from fedhm_jax import SimulationConfig, SimulationResult, read_study, simulate
from fedhm_jax.config import number_of_clients
from fedhm_jax.config.config_file import config_from_dict

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Runs the study's config on noise."""

    rounds: int = 2
    """Number of rounds."""
    participation: float = 0.5
    """Share of the clients sampled each round."""
    samples: int = 8
    """Images of each client; one step of one local epoch."""
    strategy: str = "fedhm"
    """Strategy to run."""


def main(arguments: Arguments) -> None:
    """Runs, and writes prove.md."""
    config = shortened(arguments)
    clients = number_of_clients(config.partition)
    assert clients is not None  # no study here deals by the data's own clients
    result = simulate(config, data=stand_in(config.data.name, clients * arguments.samples, arguments.samples))
    (HERE / "prove.md").write_text(table(arguments, result))


def shortened(arguments: Arguments) -> SimulationConfig:
    """The study's config with everything smaller that makes it long, and nothing else."""
    config = read_study(HERE / "cifar100_resnet34.toml").settings["iid"]
    config = config_from_dict({"strategy": {"name": arguments.strategy}}, config)
    return replace(
        config,
        local=replace(config.local, batch_size=arguments.samples, epochs=1),
        server=replace(config.server, rounds=arguments.rounds, participation=arguments.participation),
        evaluation=replace(
            config.evaluation, every=arguments.rounds, batch_size=arguments.samples, statistics_samples=16
        ),
    )


def table(arguments: Arguments, result: SimulationResult) -> str:
    """What the rounds cost and how long they took, as Markdown."""
    flags = f"--rounds {arguments.rounds} --participation {arguments.participation:g} --samples {arguments.samples}"
    lines = [
        f"`python -m experiments.cifar100_resnet34.prove {flags} --strategy {arguments.strategy}`",
        "",
        f"{len(result.history)} rounds on noise, one step of {arguments.samples} images a client; the losses only show "
        "that the numbers stay finite.",
        "",
        "| round | seconds | clients trained | training loss by tier |",
        "|---|---|---|---|",
    ]
    for record in result.history:
        losses = [f"{tier} {loss:.2f}" for tier, loss in record["train_loss"].items() if loss is not None]
        clients = sum(record["clients"].values())
        lines.append(f"| {record['round']} | {record['seconds']:.1f} | {clients} | {', '.join(losses)} |")
    lines += [
        "",
        "The first round includes the compilation of training, the last one that of the evaluation, and the evaluation "
        f"itself. Device {jax.devices()[0].device_kind}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, jax {jax.__version__}; other work ran on the machine.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
