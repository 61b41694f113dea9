"""What the trial runs say: the best point of every grid, and whether it lies at an edge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedhm_jax.comparison.jobs import trial_folder
from fedhm_jax.comparison.study import Study, Trial
from fedhm_jax.comparison.variants import Point, grid_of, points, value_name
from fedhm_jax.reporting import read_run
from fedhm_jax.score import Score


def judge(study: Study, folder: Path) -> list[Trial]:
    """Every point of the grids, the best of each setting and strategy chosen; of equals the one of smaller values.

    Args:
        study: the study.
        folder: where its trial runs are, all finished.

    Returns:
        The points in the order of settings, strategies and grids.
    """
    trials = []
    for setting in study.settings:
        for variant in study.variants:
            grid = grid_of(study, variant)
            found = [(p, *_reached(trial_folder(folder, setting, variant.name, p))) for p in points(grid)]
            best = min(found, key=lambda trial: (*_worse(*trial[1:]), _place(trial[0], grid)), default=None)
            trials += [
                Trial(setting, variant.name, point, value, best is not None and point == best[0], score)
                for point, value, score in found
            ]
    return trials


def chosen_points(trials: list[Trial]) -> dict[tuple[str, str], Point]:
    """What was chosen, by setting and strategy.

    Args:
        trials: from `judge`.

    Returns:
        One point for each setting and strategy with a grid.
    """
    return {(trial.setting, trial.strategy): trial.point for trial in trials if trial.chosen}


def at_the_edge(trial: Trial, grid: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Where a chosen point lies at the edge of a numeric grid, beyond which there may be a better one.

    Nothing is said about the smallest value where it is 0, below which there is none, or the integer 1.

    Args:
        trial: the chosen one.
        grid: it was chosen from this.

    Returns:
        One clause for each such field.

    Example:
        >>> trial = Trial("iid", "fedhm", {"local.learning_rate": 0.1}, 0.9, True)
        >>> at_the_edge(trial, {"local.learning_rate": (0.01, 0.1)})
        ['`local.learning_rate` 0.1 is the largest']
    """
    found = []
    for field, values in grid.items():
        value = trial.point[field]
        if len(values) > 1 and all(_is_number(other) for other in values):
            if value == max(values):
                found.append(f"`{field}` {value_name(value)} is the largest")
            elif value == min(values) and value != 0 and not (isinstance(value, int) and value == 1):
                found.append(f"`{field}` {value_name(value)} is the smallest")
    return found


def _reached(place: Path) -> tuple[float | None, Score]:
    """Mean over the tiers after the last round, None if the loss is no longer a number; and the metric."""
    run = read_run(place)
    last, score = run.history[-1], run.score
    tiers = [tier for tier in last["loss"] if tier != "global"]
    if any(last[metric][tier] is None for metric in ("loss", score.metric) for tier in tiers):
        return None, score
    return sum(last[score.metric][tier] for tier in tiers) / len(tiers), score


def _worse(value: float | None, score: Score) -> tuple[bool, float]:
    return value is None, 0.0 if value is None else -value if score.higher_is_better else value


def _place(point: Point, grid: Mapping[str, tuple[Any, ...]]) -> tuple[float, ...]:
    """Numbers count by their size, other values by their place in the grid."""
    numeric = {field: all(_is_number(value) for value in values) for field, values in grid.items()}
    return tuple(value if numeric[field] else grid[field].index(value) for field, value in point.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
