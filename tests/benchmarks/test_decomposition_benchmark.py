"""The benchmark of the decompositions runs, and its errors are those over Eckart and Young's optimum."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import decomposition, server_step
from benchmarks.decomposition import Case, build_report, measure

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.long
def test_a_case_is_timed_in_every_way():
    # The left part of the identity of 6 is as good a truncation as any; of diag(3, 2, 1) only one is the best.
    kernels = {"flat": jnp.eye(6), "falling": jnp.diag(jnp.array([3.0, 2.0, 1.0]))}
    plans = ({"flat": 3, "falling": 2}, {"flat": 1, "falling": 1})
    rows = measure(Case("two", kernels, kernels, plans), repetitions=2)
    assert [row.method for row in rows] == ["svd", "gram", "subspace"]
    assert rows[0].ratio.values == (1.0, 1.0)
    for row in rows:
        assert row.errors == pytest.approx((1, 1), abs=1e-6)
        assert all(value > 0 for value in row.timing.values)
    report = build_report(rows, "command")
    assert len(report.measurements) == 6
    assert report.measurements[0].keys() >= {"case", "method", "seconds", "error_tier_2"}


def test_least_errors_are_those_of_the_matrix_that_a_kernel_is_read_as():
    kernel = np.random.default_rng(0).normal(size=(2, 3, 2, 4))
    matrix = np.array([[kernel[a, b, i, o] for a in range(2) for o in range(4)] for b in range(3) for i in range(2)])
    least = decomposition._least_errors(jnp.asarray(kernel, jnp.float32))
    assert len(least) == 6
    assert least[0] == pytest.approx(np.linalg.norm(kernel))
    assert least[5] == pytest.approx(np.linalg.norm(matrix, -2))


@pytest.mark.long
def test_quick_cases_hold_matrices_and_a_model():
    builders = decomposition.cases(quick=True)
    cases = [build() for build in builders.values()]
    assert list(builders) == [case.name for case in cases] == ["32, r = 4", "32, r = 16", "ResNet-8"]
    for case in cases:
        for path, kernel in case.kernels.items():
            share = float(jnp.linalg.norm(case.earlier[path] - kernel) / jnp.linalg.norm(kernel))
            assert share == pytest.approx(decomposition.DRIFT, rel=1e-3)
        assert all(min(plan.values()) >= 1 for plan in case.plans)


@pytest.mark.long
def test_the_server_decomposes_in_every_way_side_by_side():
    rows = list(server_step.measure(server_step.QUICK_WORKLOADS, repetitions=1, methods=("svd", "gram")))
    assert [row.label for row in rows] == ["mlp, svd", "mlp, gram"]
    assert rows[0].step is not rows[1].step
    assert {name: one.values for name, one in rows[0].step.items()} == {
        name: one.values for name, one in rows[1].step.items()
    }
    assert rows[0].decomposition != rows[1].decomposition
