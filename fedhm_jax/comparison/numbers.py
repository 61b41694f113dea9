"""The numbers of a comparison, from its runs: means and spreads over seeds, differences paired by seed."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedhm_jax.comparison.study import StudyResult, StudyRun
from fedhm_jax.results import TierCost

UPPER_BOUND = "fedavg"
"""Every client trains the full model, which no weak device could: shown, but not in the running."""


COMPARED = ("mean of tiers", "worst tier", "global")
"""What strategies are compared by."""


class Spread(NamedTuple):
    """A quantity over seeds.

    Attributes:
        mean: mean; NaN if there is no value.
        deviation: sample standard deviation; None for fewer than two values.
    """

    mean: float
    deviation: float | None

    def text(self, decimals: int = 2) -> str:
        """``mean ± deviation``, or a dash."""
        if math.isnan(self.mean):
            return "-"
        deviation = "" if self.deviation is None else f" ± {self.deviation:.{decimals}f}"
        return f"{self.mean:.{decimals}f}{deviation}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (ddof = 1).

    Args:
        values: one a seed.

    Returns:
        The spread.

    Example:
        >>> spread([1.0, 3.0]).text()
        '2.00 ± 1.41'
    """
    if not values:
        return Spread(math.nan, None)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def runs_of(result: StudyResult, setting: str, strategy: str) -> list[StudyRun]:
    """The finished runs of one strategy in one setting, in order of their seeds."""
    chosen = [run for run in result.runs if (run.setting, run.strategy) == (setting, strategy)]
    return sorted(chosen, key=lambda run: run.seed)


def strategies_run(result: StudyResult, setting: str) -> list[str]:
    """Strategies with at least one finished run in a setting, in the study's order."""
    return [name for name in result.study.strategies if runs_of(result, setting, name)]


def tier_names(run: StudyRun) -> list[str]:
    """Names of the tiers, strongest first."""
    return [cost.tier for cost in run.costs]


def percent(accuracy: float | None) -> float:
    """An accuracy in percent; one that is no number counts as nothing learned.

    Args:
        accuracy: in [0, 1].

    Returns:
        Percent.

    Example:
        >>> percent(0.25), percent(None)
        (25.0, 0.0)
    """
    return 0.0 if accuracy is None or math.isnan(accuracy) else 100 * accuracy


def accuracies(run: StudyRun) -> dict[str, float]:
    """Accuracy after the last round in percent: global, every tier, their mean and their worst.

    Args:
        run: a finished run.

    Returns:
        Percent by column.
    """
    last = {name: percent(value) for name, value in run.history[-1]["accuracy"].items()}
    tiers = [last[name] for name in tier_names(run)]
    return {**last, "mean of tiers": statistics.fmean(tiers), "worst tier": min(tiers)}


def accuracy_columns(result: StudyResult, setting: str) -> list[str]:
    """Columns of a setting's table of accuracy."""
    first = next(run for run in result.runs if run.setting == setting)
    return ["global", *tier_names(first), "mean of tiers", "worst tier"]


def accuracy_spreads(result: StudyResult, setting: str) -> dict[str, dict[str, Spread]]:
    """Accuracy after the last round by strategy and column, over seeds.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Percent.
    """
    columns = accuracy_columns(result, setting)
    return {
        strategy: {
            column: spread([accuracies(run)[column] for run in runs_of(result, setting, strategy)])
            for column in columns
        }
        for strategy in strategies_run(result, setting)
    }


def best_strategies(result: StudyResult, setting: str) -> dict[str, str]:
    """The strategy with the highest mean in each column, the upper bound left out."""
    spreads = accuracy_spreads(result, setting)
    rivals = [name for name in spreads if name != UPPER_BOUND]
    return {
        column: max(rivals, key=lambda name: spreads[name][column].mean)
        for column in accuracy_columns(result, setting)
        if rivals
    }


class Verdict(NamedTuple):
    """FedHM against one rival in one column.

    Attributes:
        rival: name of the strategy.
        column: what is compared.
        difference: FedHM minus rival in points, over the seeds that both have run.
        winner: ``fedhm``, ``rival``, or ``tie`` if the mean difference is within its standard deviation of zero.
        seeds: number of seeds that both have run; with one seed the winner is no more than a sign.
    """

    rival: str
    column: str
    difference: Spread
    winner: str
    seeds: int


def verdicts(result: StudyResult, setting: str) -> list[Verdict]:
    """FedHM against every rival on the tiers' mean, the worst tier and the global model, paired by seed.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Three verdicts a rival; none for a rival that shares no finished seed with FedHM.
    """
    ours = {run.seed: accuracies(run) for run in runs_of(result, setting, "fedhm")}
    rivals = [name for name in strategies_run(result, setting) if name not in ("fedhm", UPPER_BOUND)]
    found = []
    for rival in rivals if ours else []:
        theirs = {run.seed: accuracies(run) for run in runs_of(result, setting, rival)}
        shared = [seed for seed in ours if seed in theirs]
        for column in COMPARED if shared else ():
            difference = spread([ours[seed][column] - theirs[seed][column] for seed in shared])
            found.append(Verdict(rival, column, difference, _winner(difference), len(shared)))
    return found


def _winner(difference: Spread) -> str:
    if abs(difference.mean) <= (difference.deviation or 0.0):
        return "tie"
    return "fedhm" if difference.mean > 0 else "rival"


TOTALS: dict[str, tuple[str, Callable[[StudyRun], float]]] = {
    "bytes": ("sent down and up [MiB]", lambda run: _last(run, "total_bytes_down", "total_bytes_up") / 2**20),
    "macs": ("forward multiply-accumulates [10^9]", lambda run: _last(run, "total_macs") / 1e9),
    "time": ("simulated time [s]", lambda run: _last(run, "total_simulated_seconds")),
    "wall": ("wall time of the rounds [s]", lambda run: run.seconds),
}
"""What a whole run took: heading and value."""


def _last(run: StudyRun, *names: str) -> float:
    return sum(run.history[-1][name] for name in names)


def relative_costs(result: StudyResult, setting: str) -> dict[str, list[tuple[TierCost, dict[str, float | None]]]]:
    """Each strategy's cost of every tier, with its ratio to FedHM's (None without FedHM).

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        By strategy, for each tier the cost and the ratios of ``parameters``, ``bytes_down`` and ``macs``.
    """
    ours = runs_of(result, setting, "fedhm")
    reference = {cost.tier: cost for cost in ours[0].costs} if ours else {}

    def ratio(cost: TierCost, name: str) -> float | None:
        return getattr(cost, name) / getattr(reference[cost.tier], name) if cost.tier in reference else None

    return {
        strategy: [
            (cost, {name: ratio(cost, name) for name in ("parameters", "bytes_down", "macs")})
            for cost in runs_of(result, setting, strategy)[0].costs
        ]
        for strategy in strategies_run(result, setting)
    }
