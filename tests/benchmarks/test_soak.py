"""The benchmark of long runs sees growth where there is some, and none where there is none."""

import csv
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import pytest

from benchmarks import soak
from benchmarks.soak import Sample, build_report, slope, watch
from fedhm_jax import (
    CheckpointConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(steps=1),
    server=ServerConfig(rounds=8),
)


@pytest.mark.long
def test_a_run_keeps_its_records_and_nothing_else(tmp_path):
    samples = watch(replace(SMALL, output=OutputConfig(folder=tmp_path / "run"), checkpoint=CheckpointConfig(every=9)))
    assert [sample.round for sample in samples] == list(range(1, 9))
    settled = samples[3:-1]  # there is a checkpoint after the last round
    assert slope(settled, "arrays") == pytest.approx(0, abs=1e-6)
    assert slope(settled, "files") == pytest.approx(0, abs=1e-6)
    assert slope(settled, "records") > 0
    assert all(sample.memory > 50 for sample in samples), "the interpreter with JAX alone takes more"


@pytest.mark.long
def test_what_leaks_shows(monkeypatch):
    """Three arrays and one file a round."""
    leaked = []

    with ExitStack() as files:

        def leaking(config, on_round):
            def leak(record):
                leaked.extend(jnp.full(5, float(place)) for place in range(3))
                files.enter_context(Path(__file__).open())

            return simulate(config, on_round=[leak, *on_round])

        monkeypatch.setattr(soak, "simulate", leaking)
        settled = watch(SMALL)[3:]
    assert slope(settled, "arrays") == pytest.approx(3000)
    assert slope(settled, "files") == pytest.approx(1000)


def test_the_report_of_known_samples():
    """Memory rises by 1 MiB in the first 200 rounds, and by 0.001 a round from then on."""
    samples = [
        Sample(number, number / 1000, 301 + max(number - 200, 0) / 1000, 40, 9, number / 500)
        for number in range(1, 601)
    ]
    held, growth = build_report(samples, "command").tables
    assert [row[0] for row in held.rows] == ["100", "500", "600"]
    assert held.rows[1] == ("500", "301.3", "1.00", "40", "9", "450.5")
    assert growth.rows == [("+1.00", "+2.00", "+0.00", "+0.00")]
    assert growth.title.endswith("after the first 200")


def test_growth_that_rounds_to_zero_has_one_sign():
    samples = [Sample(number, 0.1, 300 - number * 1e-6, 40, 9, number * 1e-6) for number in range(1, 11)]
    assert build_report(samples, "command").tables[1].rows == [("+0.00", "+0.00", "+0.00", "+0.00")]


@pytest.mark.long
def test_a_run_is_written_down(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(soak, "SimulationConfig", lambda **sections: SimulationConfig(**vars(SMALL) | sections))
    monkeypatch.setattr(sys, "argv", ["soak", "--rounds", "4", "--results", str(tmp_path)])
    soak.main()
    assert "soak-cpu.md" in capsys.readouterr().out.replace("\n", "")
    rows = list(csv.DictReader((tmp_path / "soak-cpu.csv").read_text().splitlines()))
    assert [row["round"] for row in rows] == ["1", "2", "3", "4"]
    assert (tmp_path / "soak-cpu.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
