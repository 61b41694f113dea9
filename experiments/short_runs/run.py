"""Runs one config with several seeds and writes the table and the figure beside it.

python -m experiments.short_runs.run fashion_mnist --data-dir ~/tensorflow_datasets
"""

import csv
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import tyro

from fedhm_jax import SimulationResult, read_config, simulate
from fedhm_jax.reporting.figures import save_figure, training_figure

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Runs one config with several seeds."""

    name: tyro.conf.Positional[str]
    """Name of a config beside this file, without .toml."""
    data_dir: Path
    """Folder of the prepared TFDS data sets."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds to run."""


def main(arguments: Arguments) -> None:
    """Runs the seeds one after another and writes <name>.md, <name>.csv and <name>.png."""
    config = read_config(HERE / f"{arguments.name}.toml")
    config = replace(config, data=replace(config.data, data_dir=arguments.data_dir))
    results, seconds = [], []
    for seed in arguments.seeds:
        started = time.perf_counter()
        run = replace(config, server=replace(config.server, seed=seed), output=replace(config.output, progress=True))
        results.append(simulate(run))
        seconds.append(time.perf_counter() - started)
    write_history(results, HERE / f"{arguments.name}.csv")
    save_figure(training_figure(results[0].history), HERE / f"{arguments.name}.png")
    (HERE / f"{arguments.name}.md").write_text(table(arguments, results, seconds))


def write_history(results: list[SimulationResult], path: Path) -> None:
    """One row for each evaluated round of each seed and model."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "round", "model", "accuracy", "top5", "loss", "total_bytes_down", "total_macs"])
        for result in results:
            for record in result.history:
                for model in record.get("accuracy", ()):
                    metrics = [f"{record[name][model]:.4f}" for name in ("accuracy", "top5", "loss")]
                    totals = [record["total_bytes_down"], record["total_macs"]]
                    writer.writerow([result.config.server.seed, record["round"], model, *metrics, *totals])


def table(arguments: Arguments, results: list[SimulationResult], seconds: list[float]) -> str:
    """Last round, mean and standard deviation over the seeds, as Markdown."""
    seeds = ", ".join(str(seed) for seed in arguments.seeds)
    lines = [
        f"`python -m experiments.short_runs.run {arguments.name} --data-dir DIR --seeds {seeds.replace(',', '')}`",
        "",
        f"Round {len(results[0].history)}, whole test set; mean ± standard deviation over seeds {seeds}.",
        "",
        "| model | top-1 % | top-5 % | loss | parameters | MMAC | KiB one way |",
        "|---|---|---|---|---|---|---|",
    ]
    costs = {cost.tier: cost for cost in results[0].costs}
    for model in results[0].final["accuracy"]:
        values = {name: np.array([result.final[name][model] for result in results]) for name in results[0].final}
        cells = [spread(100 * values["accuracy"], 2), spread(100 * values["top5"], 2), spread(values["loss"], 3)]
        if model in costs:
            cost = costs[model]
            cells += [f"{cost.parameters:,}", f"{cost.macs / 1e6:.3f}", f"{cost.bytes_down / 1024:.1f}"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join([model, *cells])} |")
    lines += [
        "",
        f"Wall time {np.mean(seconds):.0f} s a seed, compilation included, on {jax.devices()[0].device_kind} "
        f"({os.cpu_count()} cores, {platform.machine()}), jax {jax.__version__}.",
        "",
    ]
    return "\n".join(lines)


def spread(values: np.ndarray, digits: int) -> str:
    """Mean and sample standard deviation."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


if __name__ == "__main__":
    main(tyro.cli(Arguments))
