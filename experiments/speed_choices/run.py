"""Runs one config with every value of a setting that buys speed, several seeds, and writes the table beside it.

python -m experiments.speed_choices.run decomposition
python -m experiments.speed_choices.run compute
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.progress import track

from fedhm_jax import SimulationConfig, SimulationResult, StrategyConfig, read_config, simulate_seeds

HERE = Path(__file__).parent
CHOICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "decomposition": ("strategy", ("svd", "gram", "subspace")),
    "compute": ("local", ("float32", "bfloat16")),
}
"""Settings by name: their group in the config and their values, the exact one first."""

Accuracies = Mapping[str, np.ndarray]
"""Accuracy of each model, (seeds,), in per cent; the model's name is ``"global"`` or that of its tier."""


@dataclass(frozen=True)
class Arguments:
    """Compares the accuracies that the values of one setting lead to."""

    setting: tyro.conf.Positional[Literal["decomposition", "compute"]]
    """What to vary."""
    config: Path | None = None
    """TOML file of the run; the default simulation if unset."""
    data_dir: Path | None = None
    """Folder of the prepared TFDS data sets."""
    seeds: tuple[int, ...] = tuple(range(12))
    """Seeds to run."""
    rounds: int | None = None
    """Rounds of each run; those of the config if unset."""
    results: Path = HERE
    """Folder of the written table and CSV file."""


def run(arguments: Arguments) -> dict[str, Accuracies]:
    """All seeds with every value.

    Args:
        arguments: what to run.

    Returns:
        Accuracies of the last round by value.
    """
    config = config_of(arguments)
    group, values = CHOICES[arguments.setting]
    found = {}
    for value in track(values, f"Every {arguments.setting}"):
        changed = replace(getattr(config, group), **{arguments.setting: value})
        found[value] = accuracies(simulate_seeds(replace(config, **{group: changed}), arguments.seeds))
    return found


def config_of(arguments: Arguments) -> SimulationConfig:
    """The run that the settings are tried on."""
    config = (
        SimulationConfig(strategy=StrategyConfig("fedhm"))
        if arguments.config is None
        else read_config(arguments.config)
    )
    if arguments.rounds is not None:
        config = replace(config, server=replace(config.server, rounds=arguments.rounds))
    if arguments.data_dir is not None:
        config = replace(config, data=replace(config.data, data_dir=arguments.data_dir))
    return config


def accuracies(results: Sequence[SimulationResult]) -> Accuracies:
    """Of the last round, one value a seed."""
    models = results[0].final["accuracy"]
    return {model: 100 * np.array([result.final["accuracy"][model] for result in results]) for model in models}


def table(found: Mapping[str, Accuracies], arguments: Arguments) -> str:
    """Means, standard deviations and paired differences from the first value, as Markdown."""
    first, *others = found
    exact, config = found[first], config_of(arguments)
    seeds = " ".join(str(seed) for seed in arguments.seeds)
    file = "" if arguments.config is None else f" --config {arguments.config} --data-dir DIR"
    lines = [
        f"`python -m experiments.speed_choices.run {arguments.setting}{file} --seeds {seeds}"
        f" --rounds {config.server.rounds}`",
        "",
        f"Top-1 accuracy in per cent on the test set of {config.data.name} after round {config.server.rounds}, "
        f"mean ± standard deviation over the seeds; then the difference from {first} with the same seed, mean ± "
        "standard error of the mean.",
        "",
        f"| model | {' | '.join(found)} | {' | '.join(f'{value} - {first}' for value in others)} |",
        "|---" * (1 + len(found) + len(others)) + "|",
    ]
    for model in exact:
        cells = [spread(values[model]) for values in found.values()]
        cells += [spread(found[value][model] - exact[model], of_mean=True) for value in others]
        lines.append(f"| {' | '.join([model, *cells])} |")
    return "\n".join(lines) + "\n"


def spread(values: np.ndarray, of_mean: bool = False) -> str:
    """Mean and sample standard deviation, or the standard error of the mean."""
    deviation = values.std(ddof=min(1, len(values) - 1))
    return f"{values.mean():.2f} ± {deviation / np.sqrt(len(values)) if of_mean else deviation:.2f}"


def write(found: Mapping[str, Accuracies], arguments: Arguments) -> None:
    """Writes ``<setting>-<data>.md`` and, with the accuracy of every seed, ``<setting>-<data>.csv``."""
    arguments.results.mkdir(parents=True, exist_ok=True)
    name = f"{arguments.setting}-{config_of(arguments).data.name}"
    (arguments.results / f"{name}.md").write_text(table(found, arguments), encoding="utf-8")
    with (arguments.results / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([arguments.setting, "model", "seed", "accuracy"])
        for value, models in found.items():
            for model, accuracy in models.items():
                writer.writerows(
                    [value, model, seed, f"{one:.4f}"] for seed, one in zip(arguments.seeds, accuracy, strict=True)
                )


def main(arguments: Arguments) -> None:
    """Runs, prints and writes the comparison."""
    found = run(arguments)
    write(found, arguments)
    print(table(found, arguments))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
