"""The figure of the README is drawn from the last round of the studies' results."""

from pathlib import Path

import pytest

from experiments.last_rounds import best_of_the_smallest, read_outcomes
from experiments.when_fedhm_pays import best_rival, draw
from fedhm_jax.reporting.figures import new_figure

ROWS = """setting,strategy,seed,round,model,accuracy,learning_rate,total_bytes_down,total_bytes_up,total_macs
iid,fedavg,0,2,f2,0.9,0.1,0,0,0
iid,fedavg_low_rank,0,2,f2,0.7,0.1,0,0,0
iid,fedhm,0,1,f2,0.99,0.1,0,0,0
iid,fedhm,0,2,global,0.1,0.1,0,0,0
iid,fedhm,0,2,f2,0.8,0.1,0,0,0
iid,fedhm,0,2,f32,0.6,0.1,0,0,0
iid,fedhm,1,2,f2,0.6,0.1,0,0,0
iid,fedhm,1,2,f32,0.5,0.1,0,0,0
iid,heterofl,0,2,f2,0.9,0.1,0,0,0
iid,heterofl,0,2,f32,0.1,0.1,0,0,0
iid,fiarse,0,2,f2,0.6,0.1,0,0,0
iid,fiarse,0,2,f32,0.6,0.1,0,0,0
iid,local_only,0,2,f2,1.0,0.1,0,0,0
skewed,fedhm,0,2,f2,0.0,0.1,0,0,0
iid,fedavg,0,2,f32,0.9,0.1,0,0,0
iid,fedavg_low_rank,0,2,f32,0.7,0.1,0,0,0
iid,fedavg_low_rank-slow,0,2,f2,0.6,0.1,0,0,0
iid,fedavg_low_rank-slow,0,2,f32,0.6,0.1,0,0,0
iid,fedavg_low_rank-equal-total,0,2,f2,0.99,0.1,0,0,0
iid,fedavg_low_rank-equal-total,0,2,f32,0.99,0.1,0,0,0
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results.csv").write_text(ROWS)
    return tmp_path / "results.csv"


def test_the_last_round_counts(results: Path) -> None:
    seeds = read_outcomes(results)["iid"]["fedhm"]
    assert {seed: dict(run.tiers) for seed, run in seeds.items()} == {
        0: pytest.approx({"f2": 80.0, "f32": 60.0}),
        1: pytest.approx({"f2": 60.0, "f32": 50.0}),
    }


def test_the_best_rival_has_the_best_mean_of_tiers(results: Path) -> None:
    assert best_rival(read_outcomes(results)["iid"]) == "fiarse"  # 60 against 50; frames are no rivals


def test_the_smallest_model_is_at_its_best_rate_in_as_many_rounds(results: Path) -> None:
    assert best_of_the_smallest(read_outcomes(results)["iid"]) == "fedavg_low_rank"


def test_a_panel_says_what_there_is_to_win(results: Path) -> None:
    axes = new_figure(3, 3).subplots()
    draw(axes, "Some data", read_outcomes(results)["iid"])
    assert axes.get_title(loc="left") == "Some data\n20.0 points to win"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == ["best rival: fiarse", "FedHM"]
