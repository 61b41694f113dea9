"""Runs every merge under every attack and writes the table and the figure beside this file.

python -m experiments.attacks
"""

import csv
import os
import platform
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import tyro

from experiments.attacks.attackers import attacked
from fedhm_jax import (
    AggregationConfig,
    EvaluationConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    simulate_seeds,
)
from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
CLIENTS = 20
ATTACKERS = range(CLIENTS // 5)
"""Clients are the same in all tiers but for their rank, and tiers are dealt by seed: the first will do."""

ATTACKS = {"none": 1.0, "sign-flip": -1.0, "scaled x10": 10.0, "sign-flip, x10": -10.0}
"""Factor of the attackers' updates."""

MERGES = {
    "mean": AggregationConfig(),
    "mean, clip 3": AggregationConfig(clip=3.0),
    "mean, reject 6": AggregationConfig(reject=6.0),
    "median": AggregationConfig(merge="median"),
    "trimmed mean 0.3": AggregationConfig(merge="trimmed_mean", trim=0.3),
}
"""Honest updates of this problem are 2.5 to 6 long, most of them 3 to 4."""

_COLOURS = ("#000000", "#E69F00", "#D55E00", "#0072B2", "#009E73")

Results = dict[tuple[str, str], tuple[SimulationResult, ...]]
"""One result a seed, by attack and merge."""


@dataclass(frozen=True)
class Arguments:
    """Every merge under every attack."""

    rounds: int = 20
    """Rounds of every run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of every run."""
    folder: Path = HERE
    """Where the results go."""


def main(arguments: Arguments) -> None:
    """Runs the study and writes attacks.md, attacks.csv and attacks.png."""
    started = time.perf_counter()
    results: Results = {}
    for attack, merge in product(ATTACKS, MERGES):
        results[attack, merge] = run(attack, merge, arguments)
        print(f"{attack:15} {merge:17} {spread(last_accuracies(results[attack, merge]))} %", flush=True)
    write_history(results, arguments.folder / "attacks.csv")
    curves = {name: [curve(result) for result in runs] for name, runs in results.items()}
    save_figure(figure(curves), arguments.folder / "attacks.png")
    (arguments.folder / "attacks.md").write_text(table(results, arguments, time.perf_counter() - started))


def run(attack: str, merge: str, arguments: Arguments) -> tuple[SimulationResult, ...]:
    """One result a seed."""
    config = SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        aggregation=MERGES[merge],
        server=ServerConfig(rounds=arguments.rounds),
        evaluation=EvaluationConfig(every=2),
    )
    return simulate_seeds(config, arguments.seeds, strategy=attacked(ATTACKS[attack], ATTACKERS))


def last_accuracies(results: tuple[SimulationResult, ...]) -> np.ndarray:
    """Of the global model after the last round, in percent, one a seed."""
    return np.array([100 * result.final["accuracy"]["global"] for result in results])


def curve(result: SimulationResult) -> dict[int, float]:
    """Accuracy of the global model in percent by round."""
    return {record["round"]: 100 * record["accuracy"]["global"] for record in result.history if "accuracy" in record}


def left_out(results: tuple[SimulationResult, ...]) -> float:
    """Share of the sampled clients that were rejected, in percent."""
    rounds = [record for result in results for record in result.history]
    rejected = sum(sum(record["rejected"].values()) for record in rounds)
    return 100 * rejected / (rejected + sum(sum(record["clients"].values()) for record in rounds))


def write_history(results: Results, path: Path) -> None:
    """One row for each evaluated round of each seed."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["attack", "merge", "seed", "round", "accuracy", "rejected"])
        for (attack, merge), runs in results.items():
            for result in runs:
                by_round = {record["round"]: sum(record["rejected"].values()) for record in result.history}
                for done, accuracy in curve(result).items():
                    seed = result.config.server.seed
                    writer.writerow([attack, merge, seed, done, f"{accuracy:.2f}", by_round[done]])


def table(results: Results, arguments: Arguments, seconds: float) -> str:
    """Accuracy after the last round, mean and standard deviation over the seeds, as Markdown."""
    seeds = ", ".join(str(seed) for seed in arguments.seeds)
    lines = [
        f"Accuracy in % of the global model on the test set after {arguments.rounds} rounds; "
        f"mean ± standard deviation over seeds {seeds}.",
        "",
        f"| merge | {' | '.join(ATTACKS)} |",
        f"|---|{'---|' * len(ATTACKS)}",
    ]
    for merge in MERGES:
        cells = [spread(last_accuracies(results[attack, merge])) for attack in ATTACKS]
        lines.append(f"| {' | '.join([merge, *cells])} |")
    shares = ", ".join(f"{left_out(results[attack, 'mean, reject 6']):.1f} % ({attack})" for attack in ATTACKS)
    lines += [
        "",
        f"Rejected by 'mean, reject 6', of all sampled clients: {shares}.",
        "",
        f"{seconds / 60:.0f} min for all runs, compilation included, on {jax.devices()[0].device_kind} "
        f"({os.cpu_count()} cores, {platform.machine()}), jax {jax.__version__}.",
        "",
    ]
    return "\n".join(lines)


def spread(values: np.ndarray) -> str:
    """Mean and sample standard deviation."""
    return f"{values.mean():.1f} ± {values.std(ddof=min(1, len(values) - 1)):.1f}"


def figure(curves: dict[tuple[str, str], list[dict[int, float]]]) -> "Figure":
    """A panel for every attack: accuracy against rounds, a line for every merge, bands over the range of the seeds."""
    from matplotlib.ticker import MaxNLocator

    drawing = new_figure(15.0, 4.0)
    panels = drawing.subplots(1, len(ATTACKS), sharey=True)
    for axes, attack in zip(panels, ATTACKS, strict=True):
        for merge, colour in zip(MERGES, _COLOURS, strict=True):
            rounds = list(curves[attack, merge][0])
            values = np.array([list(one.values()) for one in curves[attack, merge]])
            axes.fill_between(rounds, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            axes.plot(rounds, values.mean(0), color=colour, label=merge)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        title = "no attack" if attack == "none" else f"20 % of the clients: {attack}"
        label_axes(axes, title, "round", "test accuracy [%]" if axes is panels[0] else "")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return drawing


if __name__ == "__main__":
    main(tyro.cli(Arguments))
