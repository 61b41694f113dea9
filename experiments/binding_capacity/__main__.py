"""The goal of a study, cell by cell: whom the cured FedHM beats, and at what price, as table and numbers beside this
file.

python -m experiments.binding_capacity fashion_mnist --runs runs/capacity-fashion

The study must have been run. Writes NAME.csv, the last round of every run, and NAME.md, which is made from it alone.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.last_rounds import FRAMES, WHOLE, Outcomes, best_of_the_smallest, last_rows, read_outcomes
from fedhm_jax.comparison.numbers import half_width, spread
from fedhm_jax.page import table

HERE = Path(__file__).parent
OURS = "fedhm_nested"
COLUMNS = ("setting", "strategy", "seed", "learning_rate", "round", "model", "accuracy")
TOTALS = ("total_bytes_down", "total_bytes_up", "total_macs")


@dataclass(frozen=True)
class Arguments:
    """Verdicts of a study of binding capacity."""

    name: tyro.conf.Positional[str]
    """Of the study's file here, without its ending."""
    runs: tuple[Path, ...]
    """The folder that `fedhm compare` wrote, or a NAME.csv; several if runs of the same settings were made apart."""
    ours: str = OURS
    """The cured FedHM, which is held against all others."""


def main(arguments: Arguments) -> None:
    """Copies the last rounds, and writes what they say."""
    path = HERE / f"{arguments.name}.csv"
    write_last_rounds([runs / "results.csv" if runs.is_dir() else runs for runs in arguments.runs], path)
    (HERE / f"{arguments.name}.md").write_text(verdicts(read_outcomes(path), arguments.ours), encoding="utf-8")


def write_last_rounds(results: Sequence[Path], path: Path) -> None:
    """The rows of each run's last round.

    Args:
        results: results.csv of one or more studies, or files of such rows, of which this may be one.
        path: the file to write.
    """
    rows = [row for study in results for row in last_rows(study)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *TOTALS], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def verdicts(settings: Mapping[str, Outcomes], ours: str = OURS) -> str:
    """The tables of a study.

    Args:
        settings: outcomes by setting.
        ours: the strategy that is held against all others.

    Returns:
        Markdown.
    """
    blocks = [
        f"Accuracy after the last round, mean ± standard deviation over seeds; {ours} minus the others in points, "
        "paired by seed, with half the width of the 95 % interval. A goal is reached (yes) or missed (no) if the "
        "interval lies on one side of it, and open if it holds it."
    ]
    for setting, outcomes in settings.items():
        goals = [_rivals(outcomes, ours), _bounds(outcomes, ours)]
        blocks += [f"## {setting}", _accuracies(outcomes, ours), "### Goals", *goals]
    return "\n\n".join(blocks) + "\n"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences, and half the width of its 95 % interval.

    Args:
        ours: one value a seed.
        theirs: likewise, of the same seeds.

    Returns:
        Both, in the values' units.

    Example:
        >>> [round(value, 2) for value in difference([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])]  # t is 4.30
        [2.0, 2.48]
    """
    found = spread([one - other for one, other in zip(ours, theirs, strict=True)])
    assert found.deviation is not None
    return found.mean, half_width(found.deviation, len(ours))


def _accuracies(outcomes: Outcomes, ours: str) -> str:
    tiers = list(next(iter(outcomes[ours].values())).tiers)
    rows = []
    for strategy, seeds in outcomes.items():
        runs = list(seeds.values())
        # Tiers of other rank factors, at the same bytes, stand in the same order.
        by_tier = zip(*(run.tiers.values() for run in runs), strict=True)
        cells = [spread(values).text(1) for values in by_tier]
        mean = spread([run.mean for run in runs]).text(1)
        sent, work = (f"{statistics.fmean(values):,.1f}" for values in ([r.sent for r in runs], [r.work for r in runs]))
        name = f"*{strategy}*" if strategy in FRAMES else strategy
        rows.append([name, *cells, mean, f"{runs[0].rate:g}", sent, work])
    return table(["accuracy [%]", *tiers, "mean", "rate", "MiB", "10^9 MAC"], rows)


def _rivals(outcomes: Outcomes, ours: str) -> str:
    rivals = [name for name in outcomes if name != ours and name not in FRAMES]
    rows = [[rival, *(_cell(outcomes, ours, rival, value) for value in ("mean", "weakest"))] for rival in rivals]
    return table([f"{ours} above", "in the mean of the tiers", "in the weakest tier"], rows)


def _bounds(outcomes: Outcomes, ours: str) -> str:
    smallest = best_of_the_smallest(outcomes)
    rows = [
        [f"weakest tier above {smallest}", _cell(outcomes, ours, smallest, "weakest")],
    ]
    if WHOLE in outcomes:
        cell = _cell(outcomes, ours, WHOLE, "strongest", least=-1.0)
        rows.append([f"strongest tier within a point of {WHOLE}", cell])
    return table(["goal", "difference in points"], rows)


def _cell(outcomes: Outcomes, ours: str, rival: str, value: str, least: float = 0.0) -> str:
    seeds = sorted(outcomes[ours].keys() & outcomes[rival].keys())
    mine, theirs = ([getattr(outcomes[name][seed], value) for seed in seeds] for name in (ours, rival))
    mean, margin = difference(mine, theirs)
    answer = "yes" if mean - margin > least else "no" if mean + margin < least else "open"
    return f"{mean:+.1f} ± {margin:.1f} ({answer})"


if __name__ == "__main__":
    main(tyro.cli(Arguments))
