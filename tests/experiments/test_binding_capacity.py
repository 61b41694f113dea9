"""Verdicts of a study of binding capacity are those of a hand count."""

from pathlib import Path

import pytest

from experiments.binding_capacity.__main__ import difference, verdicts, write_last_rounds
from experiments.last_rounds import read_outcomes

HEADING = "setting,strategy,seed,learning_rate,round,model,accuracy,loss,total_bytes_down,total_bytes_up,total_macs\n"
ACCURACIES = {  # strongest and weakest tier of seeds 0, 1, 2
    "fedhm_nested": [(0.90, 0.80), (0.92, 0.82), (0.91, 0.81)],
    "fedavg_low_rank": [(0.80, 0.80), (0.83, 0.83), (0.80, 0.80)],
    "fiarse": [(0.95, 0.85), (0.96, 0.88), (0.97, 0.85)],
    "fedavg": [(0.91, 0.91), (0.92, 0.92), (0.93, 0.93)],
}


@pytest.fixture
def text(tmp_path: Path) -> str:
    rows = [
        f"iid,{name},{seed},0.1,{round},{model},{accuracy / (3 - round)},1.0,{2**20},{2**20},3000000000\n"
        for name, seeds in ACCURACIES.items()
        for seed, pair in enumerate(seeds)
        for round in (1, 2)
        for model, accuracy in (("global", 0.5), ("f2", pair[0]), ("f32", pair[1]))
    ]
    (tmp_path / "results.csv").write_text(HEADING + "".join(rows))
    write_last_rounds([tmp_path / "results.csv"], tmp_path / "last.csv")
    assert len((tmp_path / "last.csv").read_text().splitlines()) == 1 + len(rows) // 2
    more = HEADING + "".join(row.replace(",0.1,", ",0.2,").replace("iid", "skewed") for row in rows)
    (tmp_path / "more.csv").write_text(more)
    write_last_rounds([tmp_path / "last.csv", tmp_path / "more.csv"], tmp_path / "last.csv")
    settings = read_outcomes(tmp_path / "last.csv")
    assert list(settings) == ["iid", "skewed"]
    return verdicts({"iid": settings["iid"]})


def test_accuracies_and_what_they_took(text: str) -> None:
    assert "| fedhm_nested | 91.0 ± 1.0 | 81.0 ± 1.0 | 86.0 ± 1.0 | 0.1 | 2.0 | 3.0 |" in text
    assert "| *fedavg* | 92.0 ± 1.0 |" in text


def test_goals(text: str) -> None:
    # differences of the mean: 5, 4, 6 points, and t is 4.30; of the weakest tier: 0, -1, 1; of the strongest: -1, 0, -2
    assert difference([85.0, 87.0, 86.0], [80.0, 83.0, 80.0]) == (pytest.approx(5), pytest.approx(2.484, abs=1e-3))
    assert "| fedavg_low_rank | +5.0 ± 2.5 (yes) | +0.0 ± 2.5 (open) |" in text
    # of the weakest tier -5, -6 and -4 points
    assert "| fiarse | -5.0 ± 0.0 (no) | -5.0 ± 2.5 (no) |" in text
    assert "| weakest tier above fedavg_low_rank | +0.0 ± 2.5 (open) |" in text
    assert "| strongest tier within a point of fedavg | -1.0 ± 2.5 (open) |" in text
    assert "| fedavg |" not in text
