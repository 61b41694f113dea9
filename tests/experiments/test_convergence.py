"""The floor of the gradient norm under truncation, against its closed form."""

import jax
import numpy as np
import pytest

from experiments.convergence.problem import CLIENTS, SAMPLES, SIZE, make_problem, objective, spectrum
from experiments.convergence.theory import floor_of_segments, gradient_floor, resting_values
from experiments.convergence.training import LEARNING_RATE, train

ROUNDS = 300


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def last_round(plan, rank, skew=1.0, strategy="fedhm"):
    trace = train(make_problem(5, rank, skew), plan, ROUNDS, strategy)
    return {name: float(figure[-1]) for name, figure in trace._asdict().items()}


def test_the_optimum_is_that_of_least_squares():
    problem = make_problem(seed=1, rank=SIZE, skew=3.0)
    inputs = np.asarray(problem.inputs).reshape(CLIENTS * SAMPLES, SIZE)
    targets = np.asarray(problem.targets).reshape(CLIENTS * SAMPLES, SIZE)
    best = np.linalg.lstsq(inputs, targets)[0]
    np.testing.assert_allclose(problem.optimum, best, atol=1e-12)
    np.testing.assert_allclose(np.linalg.svd(problem.optimum, compute_uv=False), spectrum(SIZE), atol=1e-12)

    gradient = jax.grad(objective)(problem.start, problem)
    by_hand = inputs.T @ (inputs @ np.asarray(problem.start) - targets) / len(inputs)
    np.testing.assert_allclose(gradient, by_hand, atol=1e-12)


@pytest.mark.parametrize("skew", [1.0, 3.0])
def test_curvatures_are_drawn_from_the_interval(skew):
    inputs = np.asarray(make_problem(seed=2, rank=2, skew=skew).inputs)
    values = np.linalg.eigvalsh(inputs.swapaxes(1, 2) @ inputs / SAMPLES)
    assert values.min() >= 1 / skew - 1e-9
    assert values.max() <= skew + 1e-9
    assert values.std() > 0.3 * (skew - 1)


@pytest.mark.parametrize(
    ("plan", "rank", "skew"),
    [((1.0,), SIZE, 1.0), ((1.0,), SIZE, 3.0), ((1.0, 8.0), 2, 1.0), ((1.0, 8.0), 2, 3.0), ((8.0,), 2, 3.0)],
)
def test_without_a_truncation_gap_at_the_optimum_the_gradient_vanishes(plan, rank, skew):
    last = last_round(plan, rank, skew)
    assert last["gradient"] < 1e-8
    assert last["distance"] < 1e-8
    assert last["gap"] < 1e-8


@pytest.mark.long
def test_with_a_truncation_gap_the_floor_is_that_of_theory_and_rises_as_ranks_fall():
    floors = []
    for factor in (2.0, 4.0, 8.0):
        last = last_round((1.0, factor), SIZE)
        floors.append(last["gradient"])
        assert last["gradient"] == pytest.approx(gradient_floor(spectrum(SIZE), (1.0, factor), LEARNING_RATE), rel=1e-4)
        # half of the clients hold the whole kernel, and at rest eta / 2 * gradient = mean gap
        assert last["gap"] == pytest.approx(LEARNING_RATE / 2 * last["gradient"], rel=1e-4)
        assert last["excess"] == pytest.approx(last["gradient"] ** 2 / 2, rel=1e-9)
    assert floors == sorted(floors)
    assert floors[0] > 0.9


def test_four_tiers_rest_where_theory_says():
    plan = (1.0, 2.0, 4.0, 8.0)
    assert last_round(plan, SIZE)["gradient"] == pytest.approx(gradient_floor(spectrum(SIZE), plan, LEARNING_RATE))


def test_low_rank_clients_alone_rest_at_the_truncated_optimum():
    # Eckart and Young: the nearest matrix of rank 2 leaves out all later singular values
    missing = np.sqrt(np.sum(spectrum(SIZE)[2:] ** 2))
    last = last_round((8.0,), SIZE)
    assert last["gradient"] == pytest.approx(missing, rel=1e-6)
    assert last["gap"] < 1e-6
    assert gradient_floor(spectrum(SIZE), (8.0,), LEARNING_RATE) == pytest.approx(missing)


def test_values_at_rest_of_two_tiers_in_closed_form():
    values = resting_values(spectrum(SIZE), (1.0, 4.0), LEARNING_RATE)
    # w = (w + eta (s - w)) / 2 beyond rank 4, w = s up to it
    beyond = LEARNING_RATE / (1 + LEARNING_RATE) * spectrum(SIZE)
    np.testing.assert_allclose(values, np.where(np.arange(SIZE) < 4, spectrum(SIZE), beyond), rtol=1e-12)


def test_own_curvature_has_a_floor_that_rises_as_ranks_fall():
    floors = [last_round((1.0, factor), SIZE, skew=3.0)["gradient"] for factor in (2.0, 8.0)]
    assert 0.5 < floors[0] < floors[1]


def test_the_merge_by_segments_has_no_floor_where_somebody_holds_the_whole_kernel():
    plan = (1.0, 8.0)
    last = last_round(plan, SIZE, strategy="fedhm_segments")
    assert floor_of_segments(spectrum(SIZE), plan, LEARNING_RATE) == 0
    assert last["gradient"] < 1e-8
    assert last["turned"] < 1e-8
    # what the weak tier cannot hold, by Eckart and Young, for half of the clients
    assert last["gap"] == pytest.approx(np.sqrt(np.sum(spectrum(SIZE)[2:] ** 2)) / 2, rel=1e-6)


@pytest.mark.long
def test_without_a_whole_tier_fedhm_falls_to_the_smallest_rank_and_segments_to_the_largest():
    plan = (2.0, 8.0)
    floors = [np.sqrt(np.sum(spectrum(SIZE)[rank:] ** 2)) for rank in (2, 8)]
    # neither has quite arrived: the first falls geometrically, the second like 1 / t
    assert last_round(plan, SIZE)["gradient"] == pytest.approx(floors[0], rel=1e-4)
    assert last_round(plan, SIZE, strategy="fedhm_segments")["gradient"] == pytest.approx(floors[1], rel=1e-3)
    assert gradient_floor(spectrum(SIZE), plan, LEARNING_RATE) == pytest.approx(floors[0], rel=1e-4)
    assert floor_of_segments(spectrum(SIZE), plan, LEARNING_RATE) == pytest.approx(floors[1])
