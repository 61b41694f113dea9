"""Accuracy of everybody's low-rank model against the bytes that it sends, as table and figure beside this file.

python -m experiments.headroom fashion_mnist --runs runs/headroom-fashion

The study must have been run: `fedhm compare experiments/headroom/fashion_mnist.toml --folder runs/headroom-fashion`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro

from fedhm_jax.reporting import read_run
from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure

HERE = Path(__file__).parent
TITLES = {"fashion_mnist": "Fashion-MNIST, CNN", "omniglot": "Omniglot small, CNN", "cifar10": "CIFAR-10, ResNet-8"}


@dataclass(frozen=True)
class Arguments:
    """The curve against which methods for unequal clients must show themselves."""

    name: tyro.conf.Positional[Literal["fashion_mnist", "omniglot", "cifar10"]]
    """The study."""
    runs: tuple[Path, ...]
    """Its folder, or a NAME.csv; several if sizes were run apart."""


class Size(NamedTuple):
    """Everybody with one model, after the last round.

    Attributes:
        name: such as ``"f8"``.
        kibibytes: that a client sends one way in a round.
        rate: learning rate, chosen on held-out samples.
        accuracies: of each seed, in percent.
    """

    name: str
    kibibytes: float
    rate: float
    accuracies: np.ndarray


def main(arguments: Arguments) -> None:
    """Writes NAME.csv, NAME.md and NAME.png."""
    sizes = [size for runs in arguments.runs for size in (read_sizes(runs) if runs.is_dir() else read_csv(runs))]
    sizes.sort(key=lambda size: (-size.kibibytes, int(size.name[1:])))
    write_csv(sizes, HERE / f"{arguments.name}.csv")
    (HERE / f"{arguments.name}.md").write_text(table(sizes), encoding="utf-8")
    write_figure(sizes, TITLES[arguments.name], HERE / f"{arguments.name}.png")


def read_sizes(folder: Path) -> list[Size]:
    """A study's final runs."""
    sizes = []
    for place in (folder / "runs" / "default").iterdir():
        runs = [read_run(seed) for seed in sorted(place.iterdir())]
        accuracies = np.array([100 * run.history[-1]["accuracy"]["global"] for run in runs])
        [cost] = runs[0].costs
        sizes.append(Size(place.name, cost.bytes_up / 1024, runs[0].config.local.learning_rate, accuracies))
    return sizes


def read_csv(path: Path) -> list[Size]:
    """What `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sizes = []
    for name in dict.fromkeys(row["model"] for row in rows):
        seeds = [row for row in rows if row["model"] == name]
        accuracies = np.array([float(row["accuracy"]) for row in seeds])
        sizes.append(Size(name, float(seeds[0]["kibibytes_one_way"]), float(seeds[0]["learning_rate"]), accuracies))
    return sizes


def write_csv(sizes: list[Size], path: Path) -> None:
    """A row for each size and seed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "kibibytes_one_way", "learning_rate", "seed", "accuracy"])
        for size in sizes:
            for seed, accuracy in enumerate(size.accuracies):
                writer.writerow([size.name, f"{size.kibibytes:.1f}", size.rate, seed, f"{accuracy:.2f}"])


def table(sizes: list[Size]) -> str:
    """Mean and standard deviation over the seeds, and what is missing to the best size, as Markdown."""
    best = max(size.accuracies.mean() for size in sizes)
    lines = ["| everybody | KiB one way | rate | accuracy [%] | below the best |", "|---|---:|---:|---:|---:|"]
    for size in sizes:
        mean, spread = size.accuracies.mean(), size.accuracies.std(ddof=1)
        row = size.name, f"{size.kibibytes:.1f}", f"{size.rate:g}", f"{mean:.2f} ± {spread:.2f}", f"{best - mean:.2f}"
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def write_figure(sizes: list[Size], title: str, path: Path) -> None:
    """Accuracy against bytes."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    kibibytes = [size.kibibytes for size in sizes]
    means = [size.accuracies.mean() for size in sizes]
    axes.errorbar(kibibytes, means, [size.accuracies.std(ddof=1) for size in sizes], marker="o", capsize=3)
    seen: dict[float, list[str]] = {}
    for size in sizes:
        seen.setdefault(size.kibibytes, []).append(size.name)
    for size in sizes:
        if size.name == seen[size.kibibytes][0]:
            names = ", ".join(seen[size.kibibytes])
            place = (size.kibibytes, size.accuracies.mean())
            axes.annotate(names, place, xytext=(4, -12), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    label_axes(axes, f"{title}: everybody with the same model", "KiB of a client, one way", "test accuracy [%]")
    save_figure(figure, path)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
