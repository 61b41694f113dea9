"""The client that is served worst, counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedhm_jax import (
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
    simulate,
    simulate_seeds,
)
from fedhm_jax.results import RunPlan
from fedhm_jax.run.worst_client import own_accuracies, worst_of

CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig("mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    local=LocalConfig(epochs=2, batch_size=4),
    server=ServerConfig(rounds=2, participation=1.0),
    evaluation=EvaluationConfig(worst_client=True, every=2, batch_size=10),
)
generator = np.random.default_rng(0)
IMAGES, LABELS = generator.random((60, 4, 4)), np.arange(60) % 4
TEST_LABELS = np.array([0] * 9 + [1] * 7 + [2] * 8)
"""None of class 3."""
DATA = dataset_from_arrays(IMAGES, LABELS, generator.random((24, 4, 4)), TEST_LABELS, classes=4)
LISTS = [
    [row for row in range(60) if LABELS[row] == 0][:8],  # class 0 alone
    [row for row in range(60) if LABELS[row] in (1, 3)][:12],  # 1 and 3, of which the test set has but 1
    [row for row in range(60) if LABELS[row] == 3],  # in no test sample
    list(range(30)),
]


def by_hand(result: SimulationResult, tiers_of: list[dict[str, float]]) -> float:
    """The smallest of the clients' accuracies, one training sample after another."""

    def rate(name: str, label: int) -> float:
        of_class = label == TEST_LABELS
        return float((result.predict(DATA.test_images[of_class], name).argmax(axis=1) == label).mean())

    own = []
    for rows, tiers in zip(LISTS, tiers_of, strict=True):
        seen = [label for label in LABELS[rows] if label in TEST_LABELS]
        rates = [sum(share * rate(name, label) for name, share in tiers.items()) for label in seen]
        own += [sum(rates) / len(rates)] if rates else []
    assert len(own) == 3
    return min(own)


@pytest.fixture(scope="module")
def fixed() -> tuple[SimulationResult, RunPlan]:
    plans: list[RunPlan] = []
    return simulate(CONFIG, data=DATA, partition=LISTS, on_start=[plans.append]), plans[0]


def test_it_is_the_smallest_accuracy_on_a_clients_own_share(fixed: tuple[SimulationResult, RunPlan]) -> None:
    result, plan = fixed
    assert plan.tier_of_client is not None
    tiers_of = [{plan.tier_names[tier]: 1.0} for tier in plan.tier_of_client]
    assert set(plan.tier_of_client) == {0, 1}
    assert result.final["worst_client"] == pytest.approx(by_hand(result, tiers_of), abs=1e-12)
    others = [{plan.tier_names[1 - tier]: 1.0} for tier in plan.tier_of_client]
    assert by_hand(result, others) != by_hand(result, tiers_of), "whose model judges is not tested"


def test_it_is_recorded_in_rounds_that_were_evaluated(fixed: tuple[SimulationResult, RunPlan]) -> None:
    history: Any = fixed[0].history
    assert "worst_client" not in history[0]
    assert history[1]["worst_client"] == fixed[0].final["worst_client"]


@pytest.mark.long
def test_clients_of_no_lasting_tier_are_judged_by_all_tiers() -> None:
    tiers = TiersConfig(rank_factors=(1.0, 4.0), shares=(0.25, 0.75), assignment="dynamic")
    result = simulate(replace(CONFIG, tiers=tiers), data=DATA, partition=LISTS)
    wanted = by_hand(result, [{"f1": 0.25, "f4": 0.75}] * len(LISTS))
    assert result.final["worst_client"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.long
def test_seeds_of_one_program_have_each_their_own(fixed: tuple[SimulationResult, RunPlan]) -> None:
    first, second = simulate_seeds(CONFIG, (0, 1), data=DATA, partition=LISTS)
    assert first.final["worst_client"] == pytest.approx(fixed[0].final["worst_client"], abs=1e-9)
    assert 0 <= second.final["worst_client"] <= 1


def test_clients_with_models_of_their_own_are_judged_by_these() -> None:
    counts, tested = np.array([[3, 1], [1, 3], [0, 2]]), np.array([4, 0])
    found = np.array([[3, 0], [2, 0], [4, 0]])
    own = own_accuracies(counts, found, tested)
    np.testing.assert_allclose(own, [0.75, 0.5, np.nan])
    assert worst_of(own) == {"worst_client": 0.5}
    assert np.isnan(worst_of(own[2:])["worst_client"])
