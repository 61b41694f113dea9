"""The example of docs/adding_a_strategy.md passes what the page says a strategy must pass."""

import re
from pathlib import Path

import pytest

from fedhm_jax.testing import CHECKS, check_strategy

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_strategy.md"


@pytest.fixture(scope="module")
def example():
    """The names that the page's Python blocks define, run one after another as a reader would."""
    names: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS)
def test_the_example_is_a_strategy(example, check):
    check(example["fedhm_changes"], "mlp")


@pytest.mark.long
def test_clients_weighted_in_another_way_pass_all_checks_but_fedavgs(example):
    check_strategy(example["weighted_by_root"], checks=CHECKS[1:])
    with pytest.raises(AssertionError, match="a round is not FedAvg's"):
        check_strategy(example["weighted_by_root"])


def test_the_example_runs_through_simulate(example):
    assert len(example["result"].history) == 2
