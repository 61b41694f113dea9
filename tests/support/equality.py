"""When two trees, histories or runs are the same."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fedhm_jax import SimulationResult


def same_bits(one: Any, other: Any) -> None:
    """Asserts that two trees are equal to the bit; NaN equals nothing."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.array_equal(np.asarray(mine), np.asarray(theirs))


def without(history: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Records without some of their keys; wall time is the one thing that no two runs share."""
    return [{name: value for name, value in record.items() if name not in names} for record in history]


def same_run(result: SimulationResult, expected: SimulationResult) -> None:
    """Asserts that model, history and the records on disk are equal to the bit, but for wall times."""
    same_bits(result.params, expected.params)
    assert without(result.history, "seconds") == without(expected.history, "seconds")
    assert result.final == expected.final
    if result.folder is not None:
        lines = (result.folder / "records.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [dict(record) for record in result.history]
