"""What the base networks' first kernels do to Split-Mix.

``python -m experiments.splitmix_start`` runs what is missing in splitmix_start.csv, all seeds of a start and a rate
together, and prints the table.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from experiments.splitmix_start.published import splitmix_published_start
from fedhm_jax import LocalConfig, ModelConfig, SimulationConfig, StrategyConfig, simulate_seeds
from fedhm_jax.files import append_line

HERE = Path(__file__).parent
STARTS = {"ours": None, "published": splitmix_published_start}
"""The package's own Split-Mix, and the published start."""

MODELS = ("f1", "f2", "f4", "f8")
COLUMNS = ("start", "learning_rate", "seed", *MODELS)


@dataclass(frozen=True)
class Arguments:
    """Runs Split-Mix on digits from both starts."""

    seeds: tuple[int, ...] = tuple(range(5))
    """Seeds to run."""
    learning_rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    """Of the clients; each start is shown at its best."""
    rounds: int = 20
    """Rounds of each run."""
    results: Path = HERE
    """Folder of the CSV file."""


Row = dict[str, str]


def config_of(arguments: Arguments, learning_rate: float) -> SimulationConfig:
    """Split-Mix on digits, an MLP, four tiers."""
    config = SimulationConfig(
        model=ModelConfig(name="mlp", hidden=(128, 128)),
        strategy=StrategyConfig(name="splitmix"),
        local=LocalConfig(learning_rate=learning_rate, epochs=2),
    )
    server = replace(config.server, rounds=arguments.rounds)
    return replace(config, server=server, evaluation=replace(config.evaluation, every=arguments.rounds))


def read(file: Path) -> list[Row]:
    """The runs that are done."""
    if not file.exists():
        append_line(file, ",".join(COLUMNS))
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def run(arguments: Arguments) -> list[Row]:
    """Runs what is missing; every run is a line as soon as it is done."""
    file = arguments.results / "splitmix_start.csv"
    done = {(row["start"], float(row["learning_rate"]), int(row["seed"])) for row in read(file)}
    for rate in arguments.learning_rates:
        for start, builder in STARTS.items():
            seeds = [seed for seed in arguments.seeds if (start, rate, seed) not in done]
            results = simulate_seeds(config_of(arguments, rate), seeds, strategy=builder) if seeds else ()
            for seed, result in zip(seeds, results, strict=True):
                values = [f"{100 * result.final['accuracy'][model]:.4f}" for model in MODELS]
                append_line(file, ",".join([start, str(rate), str(seed), *values]))
    return read(file)


def table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation of every tier's accuracy, and the difference seed by seed, as Markdown."""
    rates = sorted({float(row["learning_rate"]) for row in rows})
    best: dict[str, float] = {}
    lines = [f"| start | rate | {' | '.join(MODELS)} |", "|---" * (2 + len(MODELS)) + "|"]
    for start in STARTS:
        found = {rate: accuracies(rows, start, rate) for rate in rates}
        for rate, values in found.items():
            lines.append(f"| {start} | {rate:g} | {' | '.join(map(spread, values.T))} |")
        means = {rate: values.mean() for rate, values in found.items()}
        best[start] = max(means, key=means.__getitem__)
    pair = [accuracies(rows, start, best[start]) for start in ("published", "ours")]
    difference = pair[0] - pair[1]
    errors = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    cells = [f"{mean:+.2f} ± {error:.2f}" for mean, error in zip(difference.mean(axis=0), errors, strict=True)]
    lines.append(
        f"| published at {best['published']:g} - ours at {best['ours']:g}, mean ± its error | | {' | '.join(cells)} |"
    )
    return "\n".join(lines) + "\n"


def accuracies(rows: Sequence[Row], start: str, rate: float) -> np.ndarray:
    """(seeds, models) in per cent, in the order of the seeds."""
    own = [row for row in rows if row["start"] == start and float(row["learning_rate"]) == rate]
    own.sort(key=lambda row: int(row["seed"]))
    return np.array([[float(row[model]) for model in MODELS] for row in own])


def spread(values: np.ndarray) -> str:
    """Mean and sample standard deviation."""
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def main(arguments: Arguments) -> None:
    """Runs what is missing and prints the table."""
    print(table(run(arguments)))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
