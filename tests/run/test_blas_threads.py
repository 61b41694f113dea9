"""Decompositions of a run do not start threads that wait, busily, on the cores that train."""

from typing import Any

import pytest
import scipy.linalg  # noqa: F401  brings the BLAS that a run would load, so that limits here find it
from support.small_run import SMALL_RUN
from threadpoolctl import threadpool_info, threadpool_limits

from fedhm_jax import simulate
from fedhm_jax.run.blas_threads import ASKED, one_blas_thread


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_run_decomposes_with_one_thread_and_puts_the_number_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ASKED, raising=False)
    seen: list[Any] = []
    with threadpool_limits(2, "blas"):
        simulate(SMALL_RUN, on_round=[lambda record: seen.append(blas_threads())])
        assert seen == [{1}] * 2
        assert blas_threads() == {2}


def test_a_number_that_the_user_asks_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ASKED, "2")
    with threadpool_limits(2, "blas"), one_blas_thread():
        assert blas_threads() == {2}
