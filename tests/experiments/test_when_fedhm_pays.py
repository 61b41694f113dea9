"""The figure of the README is drawn from the last round of the studies' results."""

from pathlib import Path

import pytest

from experiments.when_fedhm_pays import best_rival, draw, last_round
from fedhm_jax.reporting.figures import new_figure

ROWS = """setting,strategy,seed,round,model,accuracy
iid,fedavg,0,2,f2,0.9
iid,fedavg_low_rank,0,2,f2,0.7
iid,fedhm,0,1,f2,0.99
iid,fedhm,0,2,global,0.1
iid,fedhm,0,2,f2,0.8
iid,fedhm,0,2,f32,0.6
iid,fedhm,1,2,f2,0.6
iid,fedhm,1,2,f32,0.5
iid,heterofl,0,2,f2,0.9
iid,heterofl,0,2,f32,0.1
iid,fiarse,0,2,f2,0.6
iid,fiarse,0,2,f32,0.6
iid,local_only,0,2,f2,1.0
skewed,fedhm,0,2,f2,0.0
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results.csv").write_text(ROWS)
    return tmp_path / "results.csv"


def test_the_last_round_counts_and_seeds_are_averaged(results: Path) -> None:
    accuracies = last_round(results, "iid")
    assert accuracies["fedhm"] == pytest.approx({"f2": 70.0, "f32": 55.0})


def test_the_best_rival_has_the_best_mean_of_tiers(results: Path) -> None:
    assert best_rival(last_round(results, "iid")) == "fiarse"  # 60 against 50; frames are no rivals


def test_a_panel_says_what_there_is_to_win(results: Path) -> None:
    axes = new_figure(3, 3).subplots()
    draw(axes, "Some data", last_round(results, "iid"))
    assert axes.get_title(loc="left") == "Some data\n20.0 points to win"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == ["best rival: fiarse", "FedHM"]
