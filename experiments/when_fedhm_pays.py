"""The README's figure: accuracy of every tier where the smallest model is good enough, and where it is not.

python -m experiments.when_fedhm_pays

Reads the studies' results beside them and writes docs/when_fedhm_pays.png. The studies must have been run.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "when_fedhm_pays.png"

SMALLEST = "fedavg_low_rank"
WHOLE = "fedavg"
OURS = {"fedhm": "FedHM", "fedhm_nested": "FedHM, segments and nesting"}
NOT_RIVALS = {WHOLE, *OURS, "fedhm_segments", "local_only", "centralised"}


class Panel(NamedTuple):
    """A setting of a study.

    Attributes:
        results: the study's results, beside this file.
        setting: its name there.
        title: what the data and clients are.
    """

    results: str
    setting: str
    title: str


PANELS = (
    Panel("fashion_small/results.csv", "dirichlet-0.3", "Tiers that do not bind, skewed labels"),
    Panel("binding_capacity/fashion_mnist.csv", "iid", "Tiers that bind, iid"),
    Panel("binding_capacity/fashion_mnist.csv", "dirichlet-0.3", "Tiers that bind, skewed labels"),
)

Accuracies = dict[str, dict[str, float]]
"""Mean over the seeds after the last round in percent, by strategy and tier, tiers from the strongest on."""


def main() -> None:
    """Draws all panels."""
    missing = sorted({panel.results for panel in PANELS if not (HERE / panel.results).exists()})
    if missing:
        raise SystemExit(f"no experiments/{', experiments/'.join(missing)}: the study is to be run first")
    figure = new_figure(4.2 * len(PANELS), 5.2)
    views = np.atleast_1d(figure.subplots(1, len(PANELS), sharey=True))
    for panel, axes in zip(PANELS, views, strict=True):
        draw(axes, panel.title, last_round(HERE / panel.results, panel.setting))
    save_figure(figure, FIGURE)


def last_round(path: Path, setting: str) -> Accuracies:
    """Reads a study's results.

    Args:
        path: its results.csv.
        setting: one of its settings.

    Returns:
        Accuracies of the tiers; those of the global model are left out.
    """
    latest: dict[tuple[str, str, str], tuple[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["setting"] == setting and row["model"] != "global":
                key = row["strategy"], row["model"], row["seed"]
                latest[key] = max(latest.get(key, (0, 0.0)), (int(row["round"]), 100 * float(row["accuracy"])))
    seeds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (strategy, tier, _), (_, accuracy) in latest.items():
        seeds[strategy][tier].append(accuracy)
    return {name: {tier: float(np.mean(values)) for tier, values in tiers.items()} for name, tiers in seeds.items()}


def best_rival(accuracies: Accuracies) -> str:
    """The strategy of the highest mean over the tiers among those for unequal clients that are not FedHM.

    Args:
        accuracies: of a setting.

    Returns:
        Its name.
    """
    rivals = [name for name in accuracies if name not in NOT_RIVALS and not name.startswith(SMALLEST)]
    return max(rivals, key=lambda name: _mean(accuracies, name))


def best_of_the_smallest(accuracies: Accuracies) -> str:
    """Of the smallest model for all at several rates, in as many rounds as the others have, the best.

    Args:
        accuracies: of a setting.

    Returns:
        Its name.
    """
    names = [name for name in accuracies if name.startswith(SMALLEST) and "equal-total" not in name]
    return max(names, key=lambda name: _mean(accuracies, name))


def _mean(accuracies: Accuracies, name: str) -> float:
    return float(np.mean(list(accuracies[name].values())))


def draw(axes: "Axes", title: str, accuracies: Accuracies) -> None:
    """One setting: tiers from the strongest to the weakest, a line a method."""
    tiers = list(accuracies["fedhm"])
    whole, smallest = accuracies[WHOLE][tiers[0]], _mean(accuracies, best_of_the_smallest(accuracies))
    rival = best_rival(accuracies)
    axes.axhline(whole, color="0.3", linestyle=":", label="the full model for all: no weak device could")
    axes.axhline(smallest, color="0.3", linestyle="--", label="the smallest model for all")
    for name, label, style in _lines(rival):
        if name in accuracies:
            axes.plot(tiers, [accuracies[name][tier] for tier in tiers], label=label, **style)
    label_axes(axes, f"{title}\n{whole - smallest:.1f} points to win", "rank factor of the tier", "test accuracy [%]")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)


def _lines(rival: str) -> Sequence[tuple[str, str, dict[str, Any]]]:
    return (
        (rival, f"best rival: {rival}", {"color": "C1", "marker": "s"}),
        ("fedhm", OURS["fedhm"], {"color": "C0", "marker": "o"}),
        ("fedhm_nested", OURS["fedhm_nested"], {"color": "C3", "marker": "D", "linewidth": 2.5}),
    )


if __name__ == "__main__":
    main()
