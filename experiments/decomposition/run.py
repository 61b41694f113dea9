"""Runs the default simulation with each way to decompose, several seeds, and writes the table beside it.

python -m experiments.decomposition.run
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.progress import track

from fedhm_jax import SimulationConfig, SimulationResult, simulate_seeds

HERE = Path(__file__).parent
METHODS: tuple[Literal["svd", "gram", "subspace"], ...] = ("svd", "gram", "subspace")

Accuracies = Mapping[str, np.ndarray]
"""Accuracy of each model, (seeds,), in per cent; the model's name is ``"global"`` or that of its tier."""


@dataclass(frozen=True)
class Arguments:
    """Compares the accuracies that the three ways to decompose lead to."""

    seeds: tuple[int, ...] = tuple(range(12))
    """Seeds to run."""
    rounds: int = SimulationConfig().server.rounds
    """Rounds of each run."""
    results: Path = HERE
    """Folder of the written table and CSV file."""


def run(arguments: Arguments) -> dict[str, Accuracies]:
    """All seeds with every method.

    Args:
        arguments: what to run.

    Returns:
        Accuracies of the last round by method.
    """
    config = SimulationConfig()
    config = replace(config, server=replace(config.server, rounds=arguments.rounds))
    return {
        method: accuracies(
            simulate_seeds(replace(config, strategy=replace(config.strategy, decomposition=method)), arguments.seeds)
        )
        for method in track(METHODS, "Decomposing")
    }


def accuracies(results: Sequence[SimulationResult]) -> Accuracies:
    """Of the last round, one value a seed."""
    models = results[0].final["accuracy"]
    return {model: 100 * np.array([result.final["accuracy"][model] for result in results]) for model in models}


def table(found: Mapping[str, Accuracies], arguments: Arguments) -> str:
    """Means, standard deviations and paired differences from the exact decomposition, as Markdown."""
    exact = found["svd"]
    others = [method for method in found if method != "svd"]
    seeds = " ".join(str(seed) for seed in arguments.seeds)
    lines = [
        f"`python -m experiments.decomposition.run --seeds {seeds} --rounds {arguments.rounds}`",
        "",
        f"Top-1 accuracy in per cent on the digits' test set after round {arguments.rounds}, mean ± standard deviation "
        "over the seeds; then the difference from svd with the same seed, mean ± standard error of the mean.",
        "",
        f"| model | {' | '.join(found)} | {' | '.join(f'{method} - svd' for method in others)} |",
        "|---" * (1 + len(found) + len(others)) + "|",
    ]
    for model in exact:
        cells = [spread(values[model]) for values in found.values()]
        cells += [spread(found[method][model] - exact[model], of_mean=True) for method in others]
        lines.append(f"| {' | '.join([model, *cells])} |")
    return "\n".join(lines) + "\n"


def spread(values: np.ndarray, of_mean: bool = False) -> str:
    """Mean and sample standard deviation, or the standard error of the mean."""
    deviation = values.std(ddof=min(1, len(values) - 1))
    return f"{values.mean():.2f} ± {deviation / np.sqrt(len(values)) if of_mean else deviation:.2f}"


def write(found: Mapping[str, Accuracies], arguments: Arguments) -> None:
    """Writes ``decomposition.md`` and, with the accuracy of every seed, ``decomposition.csv``."""
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "decomposition.md").write_text(table(found, arguments), encoding="utf-8")
    with (arguments.results / "decomposition.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "model", "seed", "accuracy"])
        for method, models in found.items():
            for model, values in models.items():
                writer.writerows(
                    [method, model, seed, f"{value:.4f}"] for seed, value in zip(arguments.seeds, values, strict=True)
                )


def main(arguments: Arguments) -> None:
    """Runs, prints and writes the comparison."""
    found = run(arguments)
    write(found, arguments)
    print(table(found, arguments))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
