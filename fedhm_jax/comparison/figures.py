"""Figures of a comparison: the metric against rounds, bytes, work and time, and for each tier."""

import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fedhm_jax.comparison.numbers import (
    runs_of,
    score_columns,
    score_of,
    score_spreads,
    strategies_run,
    tier_names,
)
from fedhm_jax.comparison.study import StudyResult, StudyRun
from fedhm_jax.page import Drawing, Spot, series_of
from fedhm_jax.reporting import byte_unit, format_bytes, format_count, label_axes, new_figure
from fedhm_jax.results import Record
from fedhm_jax.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind eyes; line styles help in print.
_COLOURS = ("#0072B2", "#000000", "#999999", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_DASHES = ("solid", "dotted", "dashed", "dashdot", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), "solid")


def curves_drawing(result: StudyResult, setting: str) -> Drawing:
    """The metric against rounds, bytes, multiply-accumulates and simulated time: mean over tiers, and the global model.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Two rows of four panels; a line is the mean over seeds, the band around it their range.
    """
    from matplotlib.ticker import EngFormatter, MaxNLocator

    score = score_of(result, setting)
    figure = new_figure(15.0, 7.0)
    panels = figure.subplots(2, 4, sharex="col", sharey=True)
    spots: list[Spot] = []
    against = _against(result, setting)
    for row, (title, value) in enumerate((("Mean of the tiers", _mean_of_tiers), ("Global model", _global))):
        for axes, (x_label, x_of) in zip(panels[row], against, strict=True):
            for strategy in strategies_run(result, setting):
                runs = runs_of(result, setting, strategy)
                if value is not _global or "global" in runs[0].history[-1][runs[0].score.metric]:
                    curve = _curve(runs, x_of, value)
                    _draw_curve(axes, curve, _style(result, strategy), strategy, _index(result, strategy))
                    spots += _spots(axes, curve, strategy, _index(result, strategy), score)
            label_axes(axes, title, x_label if row else "", f"test {score.heading}" if axes is panels[row][0] else "")
    for axes in panels[0]:  # few ticks, so that no two labels touch
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=axes is panels[0][0], min_n_ticks=1))
    panels[0][2].xaxis.set_major_formatter(EngFormatter())
    _name_strategies(figure, panels[0][0])
    return Drawing(figure, spots, _indices(result))


def tiers_drawing(result: StudyResult, setting: str) -> Drawing:
    """The metric after the last round, a group of bars for every tier and a bar for every strategy.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        The drawing; error bars are the standard deviation over seeds.
    """
    score, spreads = score_of(result, setting), score_spreads(result, setting)
    columns = score_columns(result, setting)
    figure = new_figure(max(8.0, 1.6 * len(columns)), 4.2)
    axes = figure.subplots()
    width = 0.84 / max(len(spreads), 1)
    spots: list[Spot] = []
    for index, (strategy, by_column) in enumerate(spreads.items()):
        places = [group - 0.42 + width * (index + 0.5) for group in range(len(columns))]
        means = [_drawable(by_column[column].mean) for column in columns]
        deviations = [by_column[column].deviation or 0.0 for column in columns]
        colour, _ = _style(result, strategy)
        hatch = "///" if _index(result, strategy) >= len(_COLOURS) else ""
        number = _index(result, strategy)
        bars = axes.bar(
            places, means, 0.92 * width, yerr=deviations, color=colour, hatch=hatch, label=strategy, ecolor="0.45"
        )
        for artist in (*bars, *(bars.errorbar.get_children() if bars.errorbar is not None else ())):
            artist.set_gid(series_of(number))
        spots += [
            Spot(
                axes,
                (place - 0.46 * width, place + 0.46 * width),
                (0.0, mean),
                number,
                f"{strategy}, {column}: {by_column[column].text(score.decimals + 1)} {score.unit}".rstrip(),
            )
            for place, mean, column in zip(places, means, columns, strict=True)
            if not math.isnan(mean)
        ]
    axes.set_xticks(range(len(columns)), columns)
    label_axes(axes, f"{score.name.capitalize()} after the last round", "", f"test {score.heading}")
    _name_strategies(figure, axes)
    return Drawing(figure, spots, _indices(result))


def _drawable(value: float) -> float:
    """An infinite value, which stands for nothing learned where less is better, has no place on an axis."""
    return value if math.isfinite(value) else math.nan


def _name_strategies(figure: "Figure", axes: "Axes") -> None:
    """One legend below everything, in as many columns as its longest name leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.7 + 0.09 * max(map(len, labels), default=1)
    columns = max(min(len(labels), 8, int(figure.get_figwidth() / inches)), 1)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _index(result: StudyResult, strategy: str) -> int:
    return result.study.names.index(strategy)


def _indices(result: StudyResult) -> dict[str, int]:
    return {name: index for index, name in enumerate(result.study.names)}


def _style(result: StudyResult, strategy: str) -> tuple[str, object]:
    index = _index(result, strategy)
    again = index // len(_COLOURS)  # with more strategies than colours, a colour comes back with other dashes
    return _COLOURS[index % len(_COLOURS)], _DASHES[(index + again) % len(_DASHES)]


def _against(result: StudyResult, setting: str) -> list[tuple[str, Callable[[Record], float]]]:
    """What the metric is drawn against: label and value."""

    size, unit = byte_unit(max(_traffic(run.history[-1]) for run in result.runs if run.setting == setting))
    return [
        ("round", lambda record: record["round"]),
        (f"sent down and up [{unit}]", lambda record: _traffic(record) / size),
        ("forward multiply-accumulates", lambda record: record["total_macs"]),
        ("simulated time [s]", lambda record: record["total_simulated_seconds"]),
    ]


def _mean_of_tiers(run: StudyRun, record: Record) -> float:
    reached = record[run.score.metric]
    return _drawable(statistics.fmean(run.score.in_unit(reached[tier]) for tier in tier_names(run)))


def _global(run: StudyRun, record: Record) -> float:
    return _drawable(run.score.in_unit(record[run.score.metric]["global"]))


def _traffic(record: Record) -> float:
    return record["total_bytes_down"] + record["total_bytes_up"]


class _Curve(NamedTuple):
    """Of one strategy.

    Attributes:
        x: one value an evaluated round, the mean over seeds.
        y: the metric of each seed in each of these rounds.
        records: of each seed in each of these rounds.
        seeds: the seeds.
    """

    x: list[float]
    y: list[list[float]]
    records: list[tuple[Record, ...]]
    seeds: list[int]

    @property
    def means(self) -> list[float]:
        return [statistics.fmean(values) for values in self.y]


def _curve(runs: list[StudyRun], x_of: Callable[[Record], float], value: Callable[[StudyRun, Record], float]) -> _Curve:
    evaluated = [[record for record in run.history if run.score.metric in record] for run in runs]
    by_round = list(zip(*evaluated, strict=False))
    x = [statistics.fmean(x_of(record) for record in records) for records in by_round]
    y = [[value(run, record) for run, record in zip(runs, records, strict=True)] for records in by_round]
    return _Curve(x, y, by_round, [run.seed for run in runs])


def _draw_curve(axes: "Axes", curve: _Curve, style: tuple[str, object], name: str, index: int) -> None:
    colour, dashes = style
    marker = "o" if len(curve.x) == 1 else None  # a line of one point would not be seen
    axes.plot(curve.x, curve.means, color=colour, linestyle=dashes, marker=marker, label=name, gid=series_of(index))
    if len(curve.seeds) > 1:
        low, high = [min(values) for values in curve.y], [max(values) for values in curve.y]
        axes.fill_between(curve.x, low, high, color=colour, alpha=0.12, linewidth=0, gid=series_of(index))


def _spots(axes: "Axes", curve: _Curve, name: str, index: int, score: Score) -> list[Spot]:
    """What each point of a curve is: method, round, traffic and work, and what every seed has reached."""

    decimals = score.decimals + 1

    def words(records: tuple[Record, ...], values: list[float]) -> str:
        sent = format_bytes(round(statistics.fmean(_traffic(record) for record in records)))
        work = format_count(round(statistics.fmean(record["total_macs"] for record in records)))
        seeds = ", ".join(f"seed {seed}: {value:.{decimals}f}" for seed, value in zip(curve.seeds, values, strict=True))
        mean = f"{name}, round {records[0]['round']}: {statistics.fmean(values):.{decimals}f} {score.unit}"
        mean = mean.rstrip()
        return f"{mean}\n{sent} sent, {work} MAC\n{seeds}"

    return [
        Spot(axes, (x, x), (mean, mean), index, words(records, values))
        for x, mean, records, values in zip(curve.x, curve.means, curve.records, curve.y, strict=True)
        if not math.isnan(mean)
    ]
