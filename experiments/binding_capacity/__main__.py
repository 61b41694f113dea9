"""The goal of a study, cell by cell: whom fedhm_nested beats, and at what price, as table and numbers beside this file.

python -m experiments.binding_capacity fashion_mnist --runs runs/capacity-fashion

The study must have been run. Writes NAME.csv, the last round of every run, and NAME.md, which is made from it alone.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from fedhm_jax.comparison.numbers import half_width, spread
from fedhm_jax.page import table

HERE = Path(__file__).parent
OURS, SMALLEST, WHOLE = "fedhm_nested", "fedavg_low_rank", "fedavg"
FRAMES = (WHOLE, "centralised", "local_only")
COLUMNS = ("setting", "strategy", "seed", "learning_rate", "round", "model", "accuracy")
TOTALS = ("total_bytes_down", "total_bytes_up", "total_macs")


@dataclass(frozen=True)
class Arguments:
    """Verdicts of a study of binding capacity."""

    name: tyro.conf.Positional[str]
    """Of the study's file here, without its ending."""
    runs: Path
    """The folder that `fedhm compare` wrote."""


class Outcome(NamedTuple):
    """A run after its last round.

    Attributes:
        tiers: accuracy of each tier in percent, from the strongest to the weakest.
        rate: learning rate.
        sent: MiB sent down and up by all clients in all rounds.
        work: forward multiply-accumulates of them, in 10^9.
    """

    tiers: Mapping[str, float]
    rate: float
    sent: float
    work: float

    @property
    def mean(self) -> float:
        """Mean of the tiers."""
        return statistics.fmean(self.tiers.values())

    @property
    def strongest(self) -> float:
        """Accuracy of the strongest tier."""
        return next(iter(self.tiers.values()))

    @property
    def weakest(self) -> float:
        """Accuracy of the weakest tier."""
        return list(self.tiers.values())[-1]


Outcomes = Mapping[str, Mapping[int, Outcome]]
"""Of one setting: by strategy and seed."""


def main(arguments: Arguments) -> None:
    """Copies the last rounds, and writes what they say."""
    path = HERE / f"{arguments.name}.csv"
    write_last_rounds(arguments.runs / "results.csv", path)
    (HERE / f"{arguments.name}.md").write_text(verdicts(read_outcomes(path)), encoding="utf-8")


def write_last_rounds(results: Path, path: Path) -> None:
    """The rows of each run's last round.

    Args:
        results: a study's results.csv.
        path: the file to write.
    """
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last: dict[tuple[str, ...], int] = {}
    for row in rows:
        last[_run_of(row)] = max(last.get(_run_of(row), 0), int(row["round"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *TOTALS], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["round"]) == last[_run_of(row)])


def read_outcomes(path: Path) -> dict[str, dict[str, dict[int, Outcome]]]:
    """Reads what `write_last_rounds` wrote.

    Args:
        path: the file.

    Returns:
        Outcomes by setting, strategy and seed; the global model is left out.
    """
    found: dict[str, dict[str, dict[int, Outcome]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"] == "global":
                continue
            seeds = found.setdefault(row["setting"], {}).setdefault(row["strategy"], {})
            sent = (int(row["total_bytes_down"]) + int(row["total_bytes_up"])) / 2**20
            before = seeds.get(int(row["seed"]))
            tiers = {**(before.tiers if before else {}), row["model"]: 100 * float(row["accuracy"])}
            seeds[int(row["seed"])] = Outcome(tiers, float(row["learning_rate"]), sent, int(row["total_macs"]) / 1e9)
    return found


def verdicts(settings: Mapping[str, Outcomes]) -> str:
    """The tables of a study.

    Args:
        settings: outcomes by setting.

    Returns:
        Markdown.
    """
    blocks = []
    for setting, outcomes in settings.items():
        blocks += [f"## {setting}", _accuracies(outcomes), "### Goals", _goals(outcomes)]
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


def best_of_the_smallest(outcomes: Outcomes) -> str:
    """Of the smallest model for all at several rates, in as many rounds as the others have, the best.

    Args:
        outcomes: of a setting.

    Returns:
        Name of the strategy.
    """
    names = [name for name in outcomes if name.startswith(SMALLEST) and "equal-total" not in name]
    return max(names, key=lambda name: statistics.fmean(run.mean for run in outcomes[name].values()))


def _run_of(row: Mapping[str, str]) -> tuple[str, ...]:
    return row["setting"], row["strategy"], row["seed"]


def _accuracies(outcomes: Outcomes) -> str:
    tiers = list(next(iter(outcomes[OURS].values())).tiers)
    rows = []
    for strategy, seeds in outcomes.items():
        runs = list(seeds.values())
        cells = [spread([run.tiers[tier] for run in runs]).text(1) for tier in tiers]
        mean = spread([run.mean for run in runs]).text(1)
        totals = [
            f"{statistics.fmean(values):,.1f}" for values in zip(*((run.sent, run.work) for run in runs), strict=True)
        ]
        name = f"*{strategy}*" if strategy in FRAMES else strategy
        rows.append([name, *cells, mean, f"{runs[0].rate:g}", *totals])
    return table(["accuracy [%]", *tiers, "mean", "rate", "MiB", "10^9 MAC"], rows)


def _goals(outcomes: Outcomes) -> str:
    ours = outcomes[OURS]

    def against(rival: str, value: str) -> tuple[float, float]:
        seeds = sorted(ours.keys() & outcomes[rival].keys())
        mine, theirs = ([getattr(runs[seed], value) for seed in seeds] for runs in (ours, outcomes[rival]))
        return difference(mine, theirs)

    def row(words: str, found: tuple[float, float], reached: bool, open_: bool = False) -> list[str]:
        answer = "yes" if reached else "level" if open_ else "no"
        return [words, f"{found[0]:+.1f} ± {found[1]:.1f}", answer]

    rows = []
    for rival in outcomes:
        if rival != OURS and rival not in FRAMES:
            found = against(rival, "mean")
            words = f"mean of tiers above {rival}"
            rows.append(row(words, found, found[0] > found[1], abs(found[0]) <= found[1]))
    smallest = best_of_the_smallest(outcomes)
    found = against(smallest, "weakest")
    rows.append(row(f"weakest tier not below {smallest}", found, found[0] + found[1] >= 0))
    found = against(WHOLE, "strongest")
    rows.append(row(f"strongest tier within a point of {WHOLE}", found, found[0] >= -1))
    heading = ["goal", "difference in points", "reached"]
    return table(heading, rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
