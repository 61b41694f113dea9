"""The experiment on settings that buy speed: what it varies, and the figures of its table."""

import numpy as np
import pytest

from experiments.speed_choices.run import CHOICES, Arguments, config_of, run, table, write
from fedhm_jax import SimulationConfig


def test_every_choice_is_a_field_whose_values_exist():
    for field, (group, values) in CHOICES.items():
        assert len(set(values)) == len(values) > 1
        assert hasattr(getattr(SimulationConfig(), group), field)


def test_the_table_holds_means_and_paired_differences(tmp_path):
    arguments = Arguments("compute", seeds=(0, 1), rounds=7, results=tmp_path)
    found = {
        "float32": {"global": np.array([90.0, 92.0])},
        "bfloat16": {"global": np.array([89.0, 93.0])},
    }
    lines = table(found, arguments).splitlines()
    root = np.sqrt(2)
    difference = f"{0:.2f} ± {root / root:.2f}"
    assert lines[-1] == f"| global | {91:.2f} ± {root:.2f} | {91:.2f} ± {2 * root:.2f} | {difference} |"
    assert "after round 7" in lines[2]
    write(found, arguments)
    rows = (tmp_path / "compute-digits.csv").read_text().splitlines()
    assert rows[0] == "compute,model,seed,accuracy"
    assert rows[-1] == "bfloat16,global,1,93.0000"


@pytest.mark.long
def test_runs_differ_in_the_setting_alone():
    arguments = Arguments("compute", seeds=(3,), rounds=1)
    found = run(arguments)
    assert list(found) == ["float32", "bfloat16"]
    assert all(len(accuracies["f8"]) == 1 for accuracies in found.values())
    assert config_of(arguments).server.rounds == 1
