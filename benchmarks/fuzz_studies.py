"""Does any study end in anything but a list of jobs or one sentence?

``python -m benchmarks.fuzz_studies --cases 5000`` draws studies with Hypothesis as a TOML file gives them: variants,
builders, grids and settings, most near one that runs, some of them nonsense; to some of them clients are handed over.
Nothing is trained: a study that is taken must be written and read back as the same study, and lead to runs in folders
of their own whose configs can be judged.
"""

import sys
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import hypothesis
import tyro
from hypothesis import strategies as st

from benchmarks.fuzz_configs import FIELDS, values_of
from fedhm_jax import ConfigError, SimulationConfig
from fedhm_jax.comparison.jobs import Plan, final_jobs, trial_jobs
from fedhm_jax.comparison.study_file import study_from_dict, study_to_toml
from fedhm_jax.config import check_config
from fedhm_jax.run import HandedOver, with_given_clients

_NOWHERE = Path("nowhere")

_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "name": ("A", "", 'x" \n', 3),
    "description": ("B", "*", None),
    "strategies": (
        ["fedhm"],
        ["fedhm", "fedavg", "centralised", "local_only"],
        [],
        ["fedhm", "fedhm"],
        ["fedsgd"],
        "fedhm",
        [3],
        [[]],
    ),
    "seeds": ([0], [0, 1, 2], [], [-1], [0, 0], [0.5], 3, [2**40]),
    "learning_rates": ([0.1], [0.1, 1], [], [0.0], ["x"], [[0.1]], 0.1, [float("nan")]),
    "tuning_rounds": (1, 2, 0, 1.5, "x"),
    "tuning_samples": (10, 0.2, 0.999, 0, 1.0, -0.1, float("nan"), True, "x"),
    "reference": ("fedhm", "mine", "", 3, []),
    "settings": ({}, {"iid": {}}, {"a/b": {}}, {"iid": 3}, {"x" * 101: {}}, 3),
    "grid": (3, {"local": 3}, {"": [1]}, {"a.b.c": [1]}),
    "strategy": ({}, {}, 3),
}
_NAMES = (
    "fedhm",
    "fedavg",
    "heterofl",
    "centralised",
    "local_only",
    "mine",
    "fedhm-long",
    "a b",
    "../x",
    "",
    "x" * 101,
    "größe",
)
_PARTITIONS: tuple[Any, ...] = (*[None] * 36, [[0, 1], [2]], [range(3)] * 20, 3, [])
_BUILDERS = ("mine.py:build", "mine.py", ":", "", 3, "fedhm_jax.strategies:fedavg")


@dataclass(frozen=True)
class Options:
    """Draws studies and plans them."""

    cases: int = 5000
    """Number of studies."""
    seed: int = 0
    """Of the draw."""


class Outcome(NamedTuple):
    """What a study led to, and the sentence of a refusal or the end of a failure's traceback."""

    kind: Literal["planned", "refused", "failed"]
    sentence: str = ""


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """Studies as nested mappings.

    Args:
        draw: given by Hypothesis.

    Returns:
        The study.
    """
    chance = draw(st.randoms(use_true_random=True))
    sensible = chance.random() < 0.6

    def some(most: int, of: Callable[[Any], st.SearchStrategy[Any]]) -> dict[str, Any]:
        fields = chance.sample(FIELDS, chance.randint(0, most))
        return {field.path: draw(of(field)) for field in fields}

    def value(field: Any) -> st.SearchStrategy[Any]:
        return values_of(field, _NOWHERE, sensible=sensible or chance.random() < 0.9)

    def values(field: Any) -> st.SearchStrategy[Any]:
        return st.lists(
            value(field).filter(lambda found: not sensible or found is not None), max_size=3, unique_by=repr
        )

    def variant(name: str) -> dict[str, Any]:
        table = some(2, value)
        if name in ("mine", "fedhm-long") or not sensible:
            own = {"builder": chance.choice(_BUILDERS[:1] if sensible else _BUILDERS)}
            table |= chance.choice((own, {"strategy.name": "fedhm"}, {}))
        return table | ({"grid": some(2, values)} if chance.random() < 0.3 else {})

    study: dict[str, Any] = {"seeds": [0]}
    for key in chance.sample(sorted(set(_PLAIN) - ({"strategy"} if sensible else set())), chance.randint(0, 3)):
        study[key] = chance.choice(_PLAIN[key][:2] if sensible else _PLAIN[key])
    if chance.random() < 0.6:
        names = chance.sample(_NAMES[:7] if sensible else _NAMES, chance.randint(1, 3))
        study["strategies"] = {name: variant(name) for name in names}
    if chance.random() < 0.4:
        study["grid"] = some(2, values)
    return study


def outcome_of_study(values: Mapping[str, Any], partition: Any = None) -> Outcome:
    """Reads, writes, reads and plans a study; no exception gets out.

    Args:
        values: as a TOML file gives them.
        partition: clients' samples that are handed over; None for none.

    Returns:
        The outcome.

    Example:
        >>> outcome_of_study({"seeds": [0]}).kind, outcome_of_study({"seds": [0]}).kind
        ('planned', 'refused')
    """
    try:
        study = study_from_dict(values)
        if partition is not None:
            settings = {name: with_given_clients(config, partition) for name, config in study.settings.items()}
            study = replace(study, settings=settings)
        text = study_to_toml(study)
        if study_to_toml(study_from_dict(tomllib.loads(text))) != text:
            return Outcome("failed", f"read back as another study: {text}")
        plan = Plan(study, _NOWHERE, dict.fromkeys(study.names), _size, HandedOver(partition=partition))
        jobs = [*trial_jobs(plan), *final_jobs(plan, {})]
        places = [place for job in jobs for place in job.configs]
        if len(set(places)) < len(places) or any(len(place.name.encode()) > 255 for place in places):
            return Outcome("failed", f"folders that cannot be: {places}")
        for job in jobs:
            for config in job.configs.values():
                check_config(config)
    except ConfigError as error:
        return Outcome("failed" if "\n" in str(error) else "refused", str(error))
    except Exception as error:
        return Outcome("failed", "".join(traceback.format_exception(error)[-2:]))
    return Outcome("planned")


def _size(config: SimulationConfig) -> tuple[int, int, int]:
    return 60, 60, config.partition.clients or 20


def outcomes(count: int, seed: int) -> list[tuple[dict[str, Any], Outcome]]:
    """Draws studies and plans them, one in ten with clients that are handed over.

    Args:
        count: how many.
        seed: of the draw.

    Returns:
        Each with its outcome.
    """
    found: list[tuple[dict[str, Any], Outcome]] = []
    settings = hypothesis.settings(
        max_examples=count,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
        deadline=None,
    )

    def plan(study: dict[str, Any], partition: Any) -> None:
        found.append((study, outcome_of_study(study, partition)))

    run = hypothesis.given(studies(), st.sampled_from(_PARTITIONS))(plan)
    hypothesis.seed(seed)(settings(run))()
    return found


def main() -> None:
    """Prints the counts and every failure; the exit code is 1 if there is one."""
    options = tyro.cli(Options, prog="python -m benchmarks.fuzz_studies")
    found = outcomes(options.cases, options.seed)
    for study, outcome in found:
        if outcome.kind == "failed":
            print(f"{study}\n{outcome.sentence}\n")
    print(", ".join(f"{count} {kind}" for kind, count in Counter(outcome.kind for _, outcome in found).items()))
    sys.exit(any(outcome.kind == "failed" for _, outcome in found))


if __name__ == "__main__":
    main()
