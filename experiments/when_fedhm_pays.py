"""The README's figure: accuracy of every tier where the smallest model is good enough, and where it is not.

python -m experiments.when_fedhm_pays

Reads the studies' results beside them and writes docs/when_fedhm_pays.png. The studies must have been run.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.last_rounds import (
    FRAMES,
    SMALLEST,
    WHOLE,
    Outcomes,
    best_of,
    best_of_the_smallest,
    read_outcomes,
)
from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "when_fedhm_pays.png"

OURS = {"fedhm": "FedHM", "fedhm_nested": "FedHM, segments and nesting"}
NOT_RIVALS = {*FRAMES, *OURS, "fedhm_segments"}


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
    Panel("fashion_small/results.csv", "dirichlet-0.3", "Fashion-MNIST, tiers that do not bind"),
    Panel("binding_capacity/fashion_mnist.csv", "iid", "Fashion-MNIST, tiers that bind"),
    Panel("binding_capacity/cifar10_short.csv", "default", "CIFAR-10, ResNet-8"),
    Panel("binding_capacity/omniglot.csv", "default", "Omniglot, 242 characters by drawer"),
)


def main() -> None:
    """Draws all panels."""
    missing = sorted({panel.results for panel in PANELS if not (HERE / panel.results).exists()})
    if missing:
        raise SystemExit(f"no experiments/{', experiments/'.join(missing)}: the study is to be run first")
    figure = new_figure(4.2 * len(PANELS), 5.2)
    views = np.atleast_1d(figure.subplots(1, len(PANELS)))
    for panel, axes in zip(PANELS, views, strict=True):
        draw(axes, panel.title, read_outcomes(HERE / panel.results)[panel.setting])
    save_figure(figure, FIGURE)


def best_rival(outcomes: Outcomes) -> str:
    """The strategy of the highest mean over the tiers among those for unequal clients that are not FedHM.

    Args:
        outcomes: of a setting.

    Returns:
        Its name.
    """
    return best_of(outcomes, [name for name in outcomes if name not in NOT_RIVALS and not name.startswith(SMALLEST)])


def draw(axes: "Axes", title: str, outcomes: Outcomes) -> None:
    """One setting: tiers from the strongest to the weakest, a line a method."""

    def accuracy(name: str, tier: str) -> float:
        return statistics.fmean(run.tiers[tier] for run in outcomes[name].values())

    tiers = list(next(iter(outcomes["fedhm"].values())).tiers)
    whole, smallest = accuracy(WHOLE, tiers[0]), accuracy(best_of_the_smallest(outcomes), tiers[-1])
    axes.axhline(whole, color="0.3", linestyle=":", label="the full model for all: no weak device could")
    axes.axhline(smallest, color="0.3", linestyle="--", label="the smallest model for all")
    for name, label, style in _lines(best_rival(outcomes)):
        if name in outcomes:
            axes.plot(tiers, [accuracy(name, tier) for tier in tiers], label=label, **style)
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
