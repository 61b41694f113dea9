"""The numbers of a comparison, from its runs: means and spreads over seeds, differences paired by seed."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from fedhm_jax.comparison.centralised import CENTRALISED
from fedhm_jax.comparison.local_only import LOCAL_ONLY
from fedhm_jax.comparison.study import StudyResult, StudyRun
from fedhm_jax.comparison.variants import strategy_name
from fedhm_jax.results import TierCost
from fedhm_jax.score import Score

COMPARED = ("worst tier", "mean of tiers", "global")
"""What strategies are compared by."""

WORST_CLIENT = "worst client"
"""Beside them, where it was asked for: accuracy on its own share of the test set."""

CONFIDENCE = 0.95
"""Of the interval that a verdict rests on."""

FEWEST_SEEDS = 3
"""With fewer no verdict is given: the interval from two seeds is 12.7 standard errors wide to each side."""


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
    finite = all(map(math.isfinite, values))
    return Spread(statistics.fmean(values), statistics.stdev(values) if finite and len(values) > 1 else None)


def runs_of(result: StudyResult, setting: str, strategy: str) -> list[StudyRun]:
    """The finished runs of one strategy in one setting, in order of their seeds."""
    chosen = [run for run in result.runs if (run.setting, run.strategy) == (setting, strategy)]
    return sorted(chosen, key=lambda run: run.seed)


def strategies_run(result: StudyResult, setting: str) -> list[str]:
    """Strategies with at least one finished run in a setting, in the study's order."""
    return [name for name in result.study.names if runs_of(result, setting, name)]


def bounds(result: StudyResult, setting: str) -> set[str]:
    """Strategies that are shown, but not in the running: frames around those that are.

    Centralised training and clients that train alone always are, and FedAvg of the full model where there is a tier of
    less than full rank: it asks of some client what its device could not do.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Their names; the reference is never among them.
    """
    weak = max(result.study.settings[setting].tiers.rank_factors) > 1
    frames = {CENTRALISED, LOCAL_ONLY, "fedavg"} if weak else {CENTRALISED, LOCAL_ONLY}
    return {variant.name for variant in result.study.variants if strategy_name(variant) in frames} - {reference(result)}


def reference(result: StudyResult) -> str:
    """The strategy that all others are set against."""
    study = result.study
    return study.reference or ("fedhm" if "fedhm" in study.names else study.names[0])


def tier_names(run: StudyRun) -> list[str]:
    """Names of the tiers, strongest first."""
    return [cost.tier for cost in run.costs]


def score_of(result: StudyResult, setting: str) -> Score:
    """The metric that a setting's strategies are compared by, which is its task's."""
    return next(run.score for run in result.runs if run.setting == setting)


def scores(run: StudyRun) -> dict[str, float]:
    """What a run has reached after its last round, in the unit of its task's metric: the worst tier, the mean of the
    tiers, the worst client where it was asked for, global where there is such a model, and every tier.

    Args:
        run: a finished run.

    Returns:
        By column.
    """
    record, score = run.history[-1], run.score
    last = {name: score.in_unit(value) for name, value in record[score.metric].items()}
    tiers = [last[name] for name in tier_names(run)]
    worst_tier = score.worst({name: record[score.metric][name] for name in tier_names(run)})
    worst = {WORST_CLIENT: score.in_unit(record["worst_client"])} if "worst_client" in record else {}
    return {"worst tier": last[worst_tier], "mean of tiers": statistics.fmean(tiers), **worst, **last}


def score_columns(result: StudyResult, setting: str) -> list[str]:
    """Columns of a setting's table: what is compared, the worst client where any run was asked for it, and
    every tier that any strategy has."""
    runs = [run for run in result.runs if run.setting == setting]
    worst = [WORST_CLIENT] if any("worst_client" in run.history[-1] for run in runs) else []
    return [*COMPARED, *worst, *{name: None for run in runs for name in tier_names(run)}]


def score_spreads(result: StudyResult, setting: str) -> dict[str, dict[str, Spread]]:
    """What was reached after the last round by strategy and column, over seeds.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        In the unit of the metric; NaN in the column of a tier that a strategy does not have.
    """
    found = {}
    for strategy in strategies_run(result, setting):
        runs = [scores(run) for run in runs_of(result, setting, strategy)]
        found[strategy] = {
            column: spread([run[column] for run in runs if column in run]) for column in score_columns(result, setting)
        }
    return found


def best_strategies(result: StudyResult, setting: str) -> dict[str, str]:
    """The strategy with the best mean in each column, `bounds` left out."""
    better = 1 if score_of(result, setting).higher_is_better else -1
    spreads = score_spreads(result, setting)
    rivals = [name for name in spreads if name not in bounds(result, setting)]
    return {
        column: max(rivals, key=lambda name: (not math.isnan(mean := spreads[name][column].mean), better * mean))
        for column in score_columns(result, setting)
        if rivals
    }


class Verdict(NamedTuple):
    """The reference against one rival in one column.

    Attributes:
        rival: name of the strategy.
        column: what is compared.
        difference: reference minus rival in the unit of the metric, over the seeds that both have run.
        margin: half the width of the interval around the mean difference; None with too few seeds.
        winner: ``reference``, ``rival``, or ``tie`` if the interval holds zero; None with too few seeds.
        seeds: number of seeds that both have run.
    """

    rival: str
    column: str
    difference: Spread
    margin: float | None
    winner: Literal["reference", "rival", "tie"] | None
    seeds: int


def verdicts(result: StudyResult, setting: str) -> list[Verdict]:
    """The reference against every rival on the worst tier, the tiers' mean and the global model, paired by seed.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Three verdicts a rival, fewer where one has no global model; none for a rival that shares no finished seed with
        the reference.
    """
    ours = {run.seed: scores(run) for run in runs_of(result, setting, reference(result))}
    outside = {reference(result), *bounds(result, setting)}
    found = []
    for rival in [name for name in strategies_run(result, setting) if name not in outside]:
        theirs = {run.seed: scores(run) for run in runs_of(result, setting, rival)}
        shared = [seed for seed in ours if seed in theirs]
        both = [
            column for column in COMPARED if all(column in runs[seed] for runs in (ours, theirs) for seed in shared)
        ]
        for column in both if shared else ():
            differences = [ours[seed][column] - theirs[seed][column] for seed in shared]
            found.append(_verdict(rival, column, differences, score_of(result, setting).higher_is_better))
    return found


def _verdict(rival: str, column: str, differences: Sequence[float], higher_is_better: bool) -> Verdict:
    difference = spread(differences)
    if difference.deviation is None or len(differences) < FEWEST_SEEDS or not math.isfinite(difference.mean):
        return Verdict(rival, column, difference, None, None, len(differences))
    margin = half_width(difference.deviation, len(differences))
    winner: Literal["reference", "rival", "tie"] = "reference" if (difference.mean > 0) == higher_is_better else "rival"
    return Verdict(
        rival, column, difference, margin, "tie" if abs(difference.mean) <= margin else winner, len(differences)
    )


def half_width(deviation: float, seeds: int) -> float:
    """Half the width of Student's interval around a mean, ``t_{0.975, n - 1} s / sqrt(n)``.

    Args:
        deviation: sample standard deviation s.
        seeds: number of values n, at least 2.

    Returns:
        The half width, in the units of the deviation.

    Example:
        >>> round(half_width(1.0, 4), 4)  # t is 3.1824
        1.5912
    """
    # a part of SciPy that loads in no time; JAX needs SciPy anyway
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(seeds)


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
    """Each strategy's cost of every tier, with its ratio to the reference's (None if that has not run, or is 0).

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        By strategy, for each tier the cost and the ratios of ``parameters``, ``bytes_down`` and ``macs``.
    """
    ours = runs_of(result, setting, reference(result))
    of_tier = {cost.tier: cost for cost in ours[0].costs} if ours else {}

    def ratio(cost: TierCost, name: str) -> float | None:
        base = getattr(of_tier[cost.tier], name) if cost.tier in of_tier else 0
        return getattr(cost, name) / base if base else None

    return {
        strategy: [
            (cost, {name: ratio(cost, name) for name in ("parameters", "bytes_down", "macs")})
            for cost in runs_of(result, setting, strategy)[0].costs
        ]
        for strategy in strategies_run(result, setting)
    }
