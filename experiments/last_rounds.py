"""Studies after their last round, for the scripts that say what came out."""

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SMALLEST, WHOLE = "fedavg_low_rank", "fedavg"
FRAMES = (WHOLE, "centralised", "local_only")
"""What no weak device could do, or what takes no part in a federation."""


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


def last_rows(results: Path) -> list[dict[str, str]]:
    """The rows of each run's last round.

    Args:
        results: a study's results.csv, or a file of such rows.

    Returns:
        The rows, one a model.
    """
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last: dict[tuple[str, ...], int] = {}
    for row in rows:
        last[_run_of(row)] = max(last.get(_run_of(row), 0), int(row["round"]))
    return [row for row in rows if int(row["round"]) == last[_run_of(row)]]


def read_outcomes(results: Path) -> dict[str, dict[str, dict[int, Outcome]]]:
    """A study's runs after their last round.

    Args:
        results: as in `last_rows`.

    Returns:
        Outcomes by setting, strategy and seed; the global model is left out.
    """
    found: dict[str, dict[str, dict[int, Outcome]]] = {}
    for row in last_rows(results):
        if row["model"] == "global":
            continue
        seeds = found.setdefault(row["setting"], {}).setdefault(row["strategy"], {})
        sent = (int(row["total_bytes_down"]) + int(row["total_bytes_up"])) / 2**20
        before = seeds.get(int(row["seed"]))
        tiers = {**(before.tiers if before else {}), row["model"]: 100 * float(row["accuracy"])}
        seeds[int(row["seed"])] = Outcome(tiers, float(row["learning_rate"]), sent, int(row["total_macs"]) / 1e9)
    return found


def best_of(outcomes: Outcomes, names: list[str]) -> str:
    """The strategy of the highest mean over seeds and tiers.

    Args:
        outcomes: of a setting.
        names: the strategies to choose from.

    Returns:
        One of the names.
    """
    return max(names, key=lambda name: statistics.fmean(run.mean for run in outcomes[name].values()))


def best_of_the_smallest(outcomes: Outcomes) -> str:
    """Of the smallest model for all at several rates, in as many rounds as the others have, the best.

    Args:
        outcomes: of a setting.

    Returns:
        Name of the strategy.
    """
    return best_of(outcomes, [name for name in outcomes if name.startswith(SMALLEST) and "equal-total" not in name])


def _run_of(row: Mapping[str, str]) -> tuple[str, ...]:
    return row["setting"], row["strategy"], row["seed"]
