"""Figures of a run. Plain `Figure` objects without pyplot, so nothing is global and no display is needed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhm_jax.reporting.units import byte_unit
from fedhm_jax.results import Record
from fedhm_jax.score import ACCURACY, Score

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X"
# broad and underneath: a full-rank tier's model is the global model, and both curves should be seen
_GLOBAL = {"color": "0.65", "linewidth": 5.0, "marker": "o", "markersize": 8, "zorder": 1}
_MOST_MARKED_POINTS = 30
_MOST_NAMED_CLIENTS = 50
_MOST_NAMED_CLASSES = 20


def training_figure(history: Sequence[Record], score: Score = ACCURACY) -> "Figure":
    """The metric against rounds and against traffic, and training loss against rounds, per tier.

    Args:
        history: the rounds of a run, in order.
        score: the metric.

    Returns:
        A figure with three panels: the metric by round and by bytes sent both ways so far, and training loss by round.

    Example:
        >>> record = {"round": 1, "accuracy": {"global": 0.5, "f1": 0.4}, "train_loss": {"f1": 1.0},
        ...           "total_bytes_down": 2048, "total_bytes_up": 1024}
        >>> [axes.get_xlabel() for axes in training_figure([record]).axes]
        ['round', 'sent down and up, all clients [KiB]', 'round']
    """
    from matplotlib.ticker import MaxNLocator

    evaluated = [record for record in history if score.metric in record]
    tiers = list(history[0]["train_loss"])
    styles = {"global": _GLOBAL, **dict(zip(tiers, _tier_styles(len(tiers)), strict=True))}
    size, unit = byte_unit(_traffic(history[-1]))

    figure = new_figure(13.0, 4.3)
    by_round, by_traffic, loss = figure.subplots(1, 3)
    rounds = [record["round"] for record in evaluated]
    traffic = [_traffic(record) / size for record in evaluated]
    for name in evaluated[0][score.metric] if evaluated else ():
        found = [record[score.metric][name] for record in evaluated]
        reached = [math.nan if value is None else score.factor * value for value in found]
        _draw(by_round, rounds, reached, name, styles[name])
        _draw(by_traffic, traffic, reached, name, styles[name])
    for name in tiers:
        losses = {record["round"]: record["train_loss"][name] for record in history}
        trained = {done: value for done, value in losses.items() if value is not None}
        _draw(loss, list(trained), list(trained.values()), name, styles[name])

    title, label = score.name.capitalize(), f"test {score.heading}"
    label_axes(by_round, f"{title} by round", "round", label)
    label_axes(by_traffic, f"{title} by traffic", f"sent down and up, all clients [{unit}]", label)
    label_axes(loss, "Training loss by round", "round", "mean loss of the round [nats]")
    for axes in (by_round, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles, labels = by_round.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 10), frameon=False)
    return figure


def partition_figure(
    label_counts: "np.ndarray", tier_of_client: "np.ndarray | None", tier_names: Sequence[str]
) -> "Figure":
    """Every client's samples: how many in all (bars, coloured by tier) and of which class (map below).

    Args:
        label_counts: (clients, classes) int, samples of each class at each client.
        tier_of_client: (clients,) int, index of each client's tier; None if tiers are drawn anew every round.
        tier_names: one name per tier.

    Returns:
        A figure with one column per client, ordered by tier, and one row per class.

    Example:
        >>> import numpy as np
        >>> figure = partition_figure(np.array([[3, 0], [1, 2]]), np.array([1, 0]), ("f1", "f2"))
        >>> [label.get_text() for label in figure.axes[1].get_xticklabels()]
        ['1', '0']
    """
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import MaxNLocator

    clients, classes = label_counts.shape
    dynamic = tier_of_client is None
    tiers = np.zeros(clients, int) if tier_of_client is None else np.asarray(tier_of_client)
    order = np.argsort(tiers, kind="stable")
    counts, tiers = np.asarray(label_counts)[order], tiers[order]

    figure = new_figure(min(max(6.5, 2.5 + 0.22 * clients), 14.0), min(max(4.8, 2.6 + 0.2 * classes), 8.5))
    bars, cells = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4))
    _draw_sizes(bars, counts.sum(axis=1), tiers, ("drawn anew every round",) if dynamic else tier_names)
    # the legend carries the title: a suptitle would be drawn over a legend outside the axes
    by_class = " and class" if classes > 1 else ""
    title = f"Training samples by client{by_class}; colour: tier (its clients)"
    figure.legend(title=title, title_fontsize="large", loc="outside upper center", ncols=8, frameon=False)
    # skewed partitions hold a few large cells: a square-root scale keeps the small ones visible
    image = cells.imshow(
        np.ma.masked_equal(counts, 0).T,
        norm=PowerNorm(0.5, vmin=0, vmax=max(int(counts.max()), 1)),
        cmap="Blues",
        aspect="auto",
        interpolation="nearest",
        origin="lower",
    )
    for boundary in np.flatnonzero(np.diff(tiers)) + 0.5:
        bars.axvline(boundary, color="0.3", linewidth=0.8, linestyle=":")
        cells.axvline(boundary, color="0.3", linewidth=0.8, linestyle=":")

    label_axes(bars, "", "", "samples")
    named = clients <= _MOST_NAMED_CLIENTS
    cells.set(
        xlabel=("client" if named else f"{clients} clients") + ("" if dynamic else ", ordered by tier"),
        ylabel="class" if classes > 1 else "",
        xlim=(-0.5, clients - 0.5),
    )
    cells.set_xticks(range(clients) if named else [], [str(client) for client in order] if named else [])
    cells.tick_params(axis="x", labelsize="medium" if clients <= 25 else "x-small")
    cells.set_yticks(range(0, classes, 1 if classes <= _MOST_NAMED_CLASSES else -(-classes // 10)))
    whole = MaxNLocator(integer=True, min_n_ticks=1)
    figure.colorbar(image, ax=cells, label="samples (white: none)", pad=0.01, ticks=whole)
    return figure


def save_figure(figure: "Figure", path: Path, dpi: int = 150) -> None:
    """Saves a figure as a PNG, and keeps its layout: what draws it once more need not find it anew.

    Args:
        figure: the figure.
        path: the file to write.
        dpi: dots per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    # `savefig` would draw twice, the first time for the layout alone, which drawing computes anyway.
    FigureCanvasAgg(figure).print_png(path)
    figure.set_layout_engine("none")


def new_figure(width: float, height: float) -> "Figure":
    """A figure that draws itself into memory.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The empty figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tier_styles(tiers: int) -> list[dict[str, Any]]:
    """Dark to light in the order of the tiers; viridis reads the same to colour-blind eyes, markers help in print."""
    from matplotlib import colormaps

    viridis = colormaps["viridis"]
    return [
        {"color": viridis(0.88 * tier / max(tiers - 1, 1)), "marker": _MARKERS[tier % len(_MARKERS)], "markersize": 4}
        for tier in range(tiers)
    ]


def _draw(axes: "Axes", x: Sequence[float], y: Sequence[float], name: str, style: dict[str, Any]) -> None:
    """One curve; markers only where they do not run into each other."""
    axes.plot(x, y, label=name, markevery=max(1, -(-len(x) // _MOST_MARKED_POINTS)), **style)


def _draw_sizes(axes: "Axes", sizes: "np.ndarray", tiers: "np.ndarray", names: Sequence[str]) -> None:
    """One bar per client, labelled by tier for the figure's legend."""
    import numpy as np

    for tier, style in enumerate(_tier_styles(len(names))):
        members = np.flatnonzero(tiers == tier)
        if members.size:
            axes.bar(members, sizes[members], width=0.85, color=style["color"], label=f"{names[tier]} ({members.size})")


def label_axes(axes: "Axes", title: str, xlabel: str, ylabel: str) -> None:
    """Title and labels, and the look that all figures share.

    Args:
        axes: a panel.
        title: above it.
        xlabel: below it, with the unit.
        ylabel: beside it, with the unit.
    """
    axes.set_title(title, loc="left")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _traffic(record: Record) -> float:
    return record["total_bytes_down"] + record["total_bytes_up"]
