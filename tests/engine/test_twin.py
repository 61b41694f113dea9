"""The compiled round and evaluation against their slow NumPy twin."""

import jax
import numpy as np
import pytest
from support.round_twin import CASES, IN_A_ROW, PLAIN, Case, check_evaluation, check_rounds

# Steps and all options at once; the others are variations of these. Convolutions: lowrank/test_truncation.py; norms:
# strategies/test_strategy_twin.py.
OFTEN = {"steps", "everything"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.long) for name in CASES]
)
def test_rounds_in_a_row(name: str) -> None:
    with jax.enable_x64(True):
        check_rounds(CASES[name], IN_A_ROW, np.float64, tolerance=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("name", ["everything", "conv, batch norm"])
def test_rounds_in_single_precision(name: str) -> None:
    check_rounds(CASES[name], IN_A_ROW[:2], np.float32, tolerance=1e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-9), pytest.param(np.float32, 1e-4, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("network", ["mlp", pytest.param("conv, batch norm", marks=pytest.mark.long)])
def test_evaluation(network: str, dtype: type, tolerance: float) -> None:
    with jax.enable_x64(dtype is np.float64):
        check_evaluation(Case(network, PLAIN), dtype, tolerance)
