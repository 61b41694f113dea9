"""What a comparison is asked to do and what it gives back. Standard library only; reporting reads these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedhm_jax.config import SimulationConfig
from fedhm_jax.results import Record, TierCost


@dataclass(frozen=True)
class Study:
    """Strategies x settings x seeds, all under one base config.

    Attributes:
        name: shown as the report's title.
        strategies: names of the strategies to compare, such as ``("fedhm", "heterofl")``.
        seeds: seeds of the final runs.
        settings: the full config of each setting by name, such as ``{"iid": ..., "dirichlet-0.3": ...}``; strategy,
            seed and learning rate in them are set run by run.
        learning_rates: the grid that every strategy's learning rate is chosen from, in each setting; empty to keep the
            settings' own.
        tuning_rounds: rounds of a trial run; those of the final runs if None.
        tuning_samples: training samples that trial runs hold out and are judged on.
        description: a sentence or two under the title.
    """

    name: str
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, SimulationConfig]
    learning_rates: tuple[float, ...] = ()
    tuning_rounds: int | None = None
    tuning_samples: int = 1000
    description: str = ""


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
    """

    setting: str
    strategy: str
    seed: int
    config: SimulationConfig
    history: Sequence[Record]
    costs: Sequence[TierCost]
    seconds: float
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Trial:
    """One point of the learning-rate grid.

    Attributes:
        setting: name of the setting.
        strategy: name of the strategy.
        learning_rate: the grid's value.
        accuracy: mean over the tiers of the accuracy on the held-out samples after the last round, in [0, 1]; None for
            a run that ended in numbers that are not finite.
        chosen: the final runs use this value.
    """

    setting: str
    strategy: str
    learning_rate: float
    accuracy: float | None
    chosen: bool


@dataclass(frozen=True)
class StudyResult:
    """Everything a study produced.

    Attributes:
        study: what was asked.
        runs: one `StudyRun` for each setting, strategy and seed.
        trials: the learning-rate grid, empty if there was none.
        folder: where the runs and the report are.
    """

    study: Study
    runs: Sequence[StudyRun]
    trials: Sequence[Trial] = field(default=())
    folder: Path | None = None
