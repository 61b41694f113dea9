"""What a comparison is asked to do and what it gives back. Standard library only; reporting reads these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhm_jax.config import SimulationConfig
from fedhm_jax.results import Record, TierCost
from fedhm_jax.score import ACCURACY, Score

if TYPE_CHECKING:
    from fedhm_jax.strategies import Setting, Strategy

RATE = "local.learning_rate"
"""The one field besides the seed in which runs of one program may differ."""


@dataclass(frozen=True)
class Variant:
    """A strategy under a name of its own: a built-in one with other config fields, or one's own builder.

    Attributes:
        name: what tables and folders call it; the name of a built-in strategy stands for that strategy.
        changes: config fields that differ from the setting's: ``{"strategy.name": "fedhm", "local.epochs": 4}``.
        builder: in place of ``strategy.name``: a function as in docs/adding_a_strategy.md, or the file and the name of
            one, ``"mine.py:build"``.
        grid: values to choose from by field; adds to the study's grid, and takes the place of the same field there.

    Example:
        >>> Variant("fedprox", {"strategy.name": "fedavg"}, grid={"local.proximal": (0.01, 0.1)}).name
        'fedprox'
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    builder: "Callable[[Setting], Strategy[Any]] | str | None" = None
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Strategies x settings x seeds, all under one base config.

    Attributes:
        name: shown as the report's title.
        strategies: what to compare: names such as ``"fedhm"``, and `Variant` of them or of one's own.
        seeds: seeds of the final runs.
        settings: the full config of each setting by name, such as ``{"iid": ..., "dirichlet-0.3": ...}``; strategy,
            seed and what is chosen from a grid are set run by run.
        learning_rates: short for ``grid = {"local.learning_rate": ...}``.
        tuning_rounds: rounds of a trial run; those of the final runs if None.
        tuning_samples: training samples that trial runs hold out and are judged on; below 1, a share of them.
        description: a sentence or two under the title.
        grid: values of config fields that every strategy's are chosen from, in each setting, such as
            ``{"local.learning_rate": (0.03, 0.1)}``; of several fields, all combinations.
        reference: the strategy that verdicts and budgets set against all others; if None, ``"fedhm"`` where it takes
            part, otherwise the first.
        folder: where the paths of builders start; no part of what is compared.
    """

    name: str
    strategies: tuple[str | Variant, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, SimulationConfig]
    learning_rates: tuple[float, ...] = ()
    tuning_rounds: int | None = None
    tuning_samples: int | float = 1000
    description: str = ""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    reference: str | None = None
    folder: Path = field(default=Path(), compare=False)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All strategies, a plain name as the variant that it is of itself."""
        return tuple(Variant(entry) if isinstance(entry, str) else entry for entry in self.strategies)

    @property
    def names(self) -> tuple[str, ...]:
        """The strategies' names."""
        return tuple(variant.name for variant in self.variants)


@dataclass(frozen=True)
class StudyRun:
    """One finished run of a study.

    Attributes:
        setting: name of its setting.
        strategy: name of its strategy.
        seed: its seed.
        config: the exact config.
        history: one `Record` a round.
        costs: one `TierCost` a tier.
        seconds: wall time of its rounds.
        environment: what it was made with, such as ``{"device": "cpu", "jax": "0.10.2"}``.
        handed_over: names of what it was given in Python besides its config.
        score: the metric of its task.
    """

    setting: str
    strategy: str
    seed: int
    config: SimulationConfig
    history: Sequence[Record]
    costs: Sequence[TierCost]
    seconds: float
    environment: Mapping[str, str]
    handed_over: Mapping[str, str] = field(default_factory=dict)
    score: Score = ACCURACY


@dataclass(frozen=True)
class Trial:
    """One point of a strategy's grid in a setting.

    Attributes:
        setting: name of the setting.
        strategy: name of the strategy.
        point: the grid's values by field.
        value: mean over the tiers of the task's metric on the held-out samples after the last round; None for a run
            that ended in numbers that are not finite.
        chosen: the final runs use these values.
        score: the metric.
    """

    setting: str
    strategy: str
    point: Mapping[str, Any]
    value: float | None
    chosen: bool
    score: Score = ACCURACY

    @property
    def learning_rate(self) -> float | None:
        """The point's learning rate; None if the grid has none."""
        return self.point.get(RATE)


@dataclass(frozen=True)
class StudyResult:
    """Everything a study produced.

    Attributes:
        study: what was asked.
        runs: one `StudyRun` for each setting, strategy and seed.
        trials: all points of the grids, empty if there were none.
        folder: where the runs and the report are.
    """

    study: Study
    runs: Sequence[StudyRun]
    trials: Sequence[Trial] = field(default=())
    folder: Path | None = None

    def __repr__(self) -> str:
        where = "" if self.folder is None else f", in {str(self.folder)!r}"
        return f"StudyResult({self.study.name!r}, {len(self.runs)} runs, {len(self.trials)} trials{where})"
