"""What a run shows and leaves behind, from a made-up history of three rounds and two tiers."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from fedhm_jax.config.config_file import read_config
from fedhm_jax.config.schema import LocalConfig, OutputConfig, ServerConfig, SimulationConfig, StrategyConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.reporting.figures import partition_figure, training_figure
from fedhm_jax.reporting.progress import mean_train_loss, round_progress
from fedhm_jax.reporting.run_report import reporting
from fedhm_jax.reporting.tables import cost_table, metrics_table
from fedhm_jax.reporting.units import format_bytes, format_count
from fedhm_jax.results import RunPlan, SimulationResult, TierCost

TIERS = ("f1", "f4")
COSTS = [
    TierCost("f1", 1.0, "full model", 2, 11_173_962, 555_422_720, 833_134_080, 44_695_848, 44_695_848),
    TierCost("f4", 4.0, "ranks / 4", 3, 9_610, 38_000, 57_000, 38_440, 38_440),
]
LABEL_COUNTS = np.array([[4, 0, 1], [0, 5, 0], [2, 2, 2], [0, 0, 9], [7, 0, 0]])
TIER_OF_CLIENT = np.array([1, 0, 1, 0, 1])


def made_record(done: int, evaluated: bool = True, **changes: Any) -> dict[str, Any]:
    """Round number `done`: one client of each tier, a thousand bytes a tier each way."""
    record = {
        "round": done,
        "learning_rate": 0.1,
        "seconds": 0.25,
        "clients": {"f1": 1, "f4": 1},
        "train_loss": {"f1": 2.0 / done, "f4": 3.0 / done},
        "bytes_down": {"f1": 1000, "f4": 500},
        "bytes_up": {"f1": 1000, "f4": 250},
        "macs": {"f1": 10_000_000, "f4": 1_000_000},
        "total_bytes_down": 1500 * done,
        "total_bytes_up": 1250 * done,
        "total_macs": 11_000_000 * done,
    }
    if evaluated:
        record["accuracy"] = {"global": 0.25 * done, "f1": 0.2 * done, "f4": 0.1 * done}
        record["top5"] = {"global": 0.99, "f1": 0.98, "f4": 0.97}
        record["loss"] = {"global": 1.5, "f1": 1.6, "f4": 1.75}
    return record | changes


HISTORY = [made_record(1), made_record(2, evaluated=False), made_record(3)]


def made_config(folder: Path | None, progress: bool = False) -> SimulationConfig:
    return SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        local=LocalConfig(epochs=2),
        server=ServerConfig(rounds=3),
        output=OutputConfig(folder, progress),
    )


def made_result(folder: Path | None = None) -> SimulationResult:
    return SimulationResult(made_config(folder), HISTORY, HISTORY[-1], COSTS, {}, folder)


def reported(folder: Path | None, progress: bool = False) -> None:
    config = made_config(folder, progress)
    with reporting(config) as report:
        report.start(RunPlan(config, COSTS, LABEL_COUNTS, TIER_OF_CLIENT, TIERS))
        for record in HISTORY:
            report.round(record)
        report.end(made_result(folder))


def as_text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=80)  # what a narrow terminal has room for
    console.print(table)
    return console.file.getvalue()


def cells(text: str, first: str) -> list[str]:
    """The cells of the table's row that starts with `first`."""
    rows = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in text.splitlines()]
    return next(row for row in rows if row[0] == first)


# --- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_was_reported(tmp_path: Path, runs_draw: None) -> None:
    folder = tmp_path / "runs" / "first"
    reported(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("config.toml", "costs.csv", "partition.png", "records.jsonl", "summary.json", "accuracy.png")
    }
    assert [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()] == HISTORY

    with open(folder / "costs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [
        TierCost(r["tier"], float(r["rank_factor"]), r["size"], int(r["clients"]), *_ints(r)) for r in rows
    ] == COSTS

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final"] == HISTORY[-1]
    assert [TierCost(**cost) for cost in summary["costs"]] == COSTS
    assert (summary["rounds"], summary["seconds"]) == (3, 0.75)
    assert set(summary["versions"]) >= {"python", "jax", "flax", "optax"}
    assert summary["device"]

    for name in ("partition.png", "accuracy.png"):
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
            assert len(image.convert("L").getcolors()) > 10, "something was drawn"


def _ints(row: dict[str, str]) -> list[int]:
    return [int(row[name]) for name in ("parameters", "macs", "train_macs", "bytes_down", "bytes_up")]


def test_the_config_of_a_run_can_be_run_again(tmp_path: Path) -> None:
    reported(tmp_path / "run")
    assert read_config(tmp_path / "run" / "config.toml") == made_config(None)


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        reported(tmp_path)
    assert str(caught.value) == f"output.folder is '{tmp_path}', but must be a folder that does not exist yet"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match="but must be a folder that can be made"):
        reported(folder)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = made_config(folder)
    broken = made_record(1, train_loss={"f1": math.nan, "f4": None}, loss={"global": math.inf, "f1": 1.0, "f4": 2.0})
    with reporting(config) as report:
        report.start(RunPlan(config, COSTS, LABEL_COUNTS, None, TIERS))
        report.round(broken)
        report.end(SimulationResult(config, [broken], broken, COSTS, {}, folder))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    record = json.loads((folder / "records.jsonl").read_text(), parse_constant=refuse)
    assert record["train_loss"] == {"f1": None, "f4": None}
    assert record["loss"] == {"global": None, "f1": 1.0, "f4": 2.0}
    assert json.loads((folder / "summary.json").read_text(), parse_constant=refuse)["final"] == record


def test_every_record_is_on_disk_when_its_round_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = made_config(folder)
    with reporting(config) as report:
        report.start(RunPlan(config, COSTS, LABEL_COUNTS, TIER_OF_CLIENT, TIERS))
        for count, record in enumerate(HISTORY, start=1):
            report.round(record)
            lines = (folder / "records.jsonl").read_text().splitlines()
            assert [json.loads(line) for line in lines] == HISTORY[:count]


def test_without_a_folder_and_progress_nothing_is_written_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reported(None)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


# --- tables ----------------------------------------------------------------------------------------------------------


def test_the_accuracy_table_holds_the_last_round() -> None:
    text = as_text(metrics_table(made_result()))
    assert "after 3 rounds" in text
    assert cells(text, "global") == ["global", "75.00", "99.00", "1.5000"]
    assert cells(text, "f1") == ["f1", "60.00", "98.00", "1.6000"]
    assert cells(text, "f4") == ["f4", "30.00", "97.00", "1.7500"]


def test_the_accuracy_table_lists_the_global_model_and_then_the_tiers_by_strength() -> None:
    costs = [TierCost(tier, 1.0, "full model", 1, 1, 1, 1, 1, 1) for tier in ("f2", "f12")]
    sorted_names = {"f12": 0.1, "f2": 0.2, "global": 0.3}
    final = {"accuracy": sorted_names, "top5": sorted_names, "loss": sorted_names}
    text = as_text(metrics_table(SimulationResult(made_config(None), HISTORY, final, costs, {}, None)))
    places = [text.index(f"│ {name} ") for name in ("global", "f2", "f12")]
    assert places == sorted(places)


def test_the_cost_table_holds_every_tier_and_the_totals() -> None:
    text = as_text(cost_table(COSTS, HISTORY))
    assert cells(text, "f1") == ["f1", "full model", "2", "11.174 M", "555.423 M", "42.6 MiB", "42.6 MiB"]
    assert cells(text, "f4") == ["f4", "ranks / 4", "3", "9,610", "38,000", "37.5 KiB", "37.5 KiB"]
    assert "Whole run: 4.39 KiB down, 3.66 KiB up, 33.000 M forward MAC" in text
    assert "Whole run" not in as_text(cost_table(COSTS))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (20 * 1024, "20.0 KiB"), (300 * 2**30, "300 GiB")],
)
def test_bytes_are_shown_in_binary_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (99_999, "99,999"), (100_000, "0.100 M"), (555_400_000, "555.400 M"), (3e12, "3.000 T")],
)
def test_counts_are_shown_in_millions_when_large(count: float, text: str) -> None:
    assert format_count(count) == text


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_training_figure_draws_the_history() -> None:
    by_round, by_traffic, loss = training_figure(HISTORY).axes
    for axes in (by_round, by_traffic):
        assert [line.get_label() for line in axes.lines] == ["global", "f1", "f4"]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), [25, 75])
        np.testing.assert_allclose(axes.lines[2].get_ydata(), [10, 30])
    np.testing.assert_array_equal(by_round.lines[0].get_xdata(), [1, 3])
    np.testing.assert_allclose(by_traffic.lines[0].get_xdata(), [2750 / 1024, 3 * 2750 / 1024])
    assert "KiB" in by_traffic.get_xlabel()
    assert [line.get_label() for line in loss.lines] == ["f1", "f4"]
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [3.0, 1.5, 1.0])


def test_a_round_in_which_a_tier_did_not_train_is_left_out_of_its_curve() -> None:
    history = [made_record(1), made_record(2, train_loss={"f1": 1.0, "f4": None}), made_record(3)]
    loss = training_figure(history).axes[2]
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), [1, 3])


def test_the_partition_figure_orders_clients_by_tier() -> None:
    bars, samples, *_ = partition_figure(LABEL_COUNTS, TIER_OF_CLIENT, TIERS).axes
    order = [1, 3, 0, 2, 4]
    assert [label.get_text() for label in samples.get_xticklabels()] == [str(client) for client in order]
    drawn = samples.images[0].get_array()
    np.testing.assert_array_equal(drawn.filled(0), LABEL_COUNTS[order].T)
    np.testing.assert_array_equal(drawn.mask, LABEL_COUNTS[order].T == 0)
    heights = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in bars.patches}
    np.testing.assert_array_equal([heights[column] for column in sorted(heights)], LABEL_COUNTS[order].sum(axis=1))
    assert bars.get_legend_handles_labels()[1] == ["f1 (2)", "f4 (3)"]


def test_dynamic_tiers_keep_the_order_of_the_clients() -> None:
    bars, samples, *_ = partition_figure(LABEL_COUNTS, None, TIERS).axes
    np.testing.assert_array_equal(samples.images[0].get_array().filled(0), LABEL_COUNTS.T)
    assert bars.get_legend_handles_labels()[1] == ["drawn anew every round (5)"]


@pytest.mark.parametrize(("clients", "classes"), [(1, 1), (120, 100)])
def test_small_and_large_partitions_can_be_drawn(clients: int, classes: int) -> None:
    counts = np.arange(clients * classes).reshape(clients, classes) % 7
    figure = partition_figure(counts, np.arange(clients) % 3, ("f1", "f2", "f4"))
    buffer = io.BytesIO()
    figure.savefig(buffer)
    with Image.open(buffer) as image:
        assert min(image.size) > 300
    assert len(figure.axes[1].get_yticks()) <= 20


# --- progress --------------------------------------------------------------------------------------------------------


def lines_of(rounds: int, terminal: bool, **changes: Any) -> str:
    console = Console(file=io.StringIO(), width=150, force_terminal=terminal, color_system=None)
    with round_progress(rounds, console) as show:
        for done in range(1, rounds + 1):
            show(made_record(done, **changes))
    return console.file.getvalue()


def test_without_a_terminal_about_ten_lines_are_printed() -> None:
    lines = lines_of(50, terminal=False).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"round {done}/50" for done in (1, *range(5, 51, 5))]
    assert "global accuracy 25.0 %, worst tier 10.0 % (f4), training loss 2.500" in lines[0]
    assert len(lines_of(3, terminal=False).splitlines()) == 3


def test_the_time_left_does_not_count_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 102.0, 104.0])  # the start and the ends of three rounds: 100 s, then 2 s each
    monkeypatch.setattr("fedhm_jax.reporting.progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=150)
    with round_progress(10, console) as show:
        for done in (1, 2, 3):
            show(made_record(done))
    first, second, third = console.file.getvalue().splitlines()
    assert first.endswith("training loss 2.500, 0:01:40 elapsed")
    assert second.endswith("0:01:42 elapsed, 0:00:16 left")
    assert third.endswith("0:01:44 elapsed, 0:00:14 left")


def test_on_a_terminal_a_bar_shows_the_last_round() -> None:
    shown = lines_of(2, terminal=True)
    assert "2/2" in shown
    assert "global accuracy 50.0 %, worst tier 20.0 % (f4), training loss 1.250  ▁█" in shown


def test_clients_that_train_alone_have_no_global_accuracy() -> None:
    for terminal in (False, True):
        assert "worst tier 30.0 % (f1), training" in lines_of(2, terminal, accuracy={"f1": 0.3, "f4": 0.4})


def test_a_terminal_of_few_letters_gets_no_curve() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with round_progress(2, Console(file=file, width=100, force_terminal=True)) as show:
        show(made_record(1))
        show(made_record(2))
    file.flush()
    assert b"training loss 1.250\n" in file.buffer.getvalue()


def test_a_round_without_evaluation_keeps_the_last_accuracy() -> None:
    console = Console(file=io.StringIO(), width=150)
    with round_progress(3, console) as show:
        show(made_record(1, evaluated=False))
        show(made_record(2))
        show(made_record(3, evaluated=False))
    first, _, last = console.file.getvalue().splitlines()
    assert "round 1/3, training loss 2.500, " in first
    assert "round 3/3, global accuracy 50.0 %, worst tier 20.0 % (f4), training loss 0.833" in last


def test_the_mean_training_loss_leaves_out_tiers_that_did_not_train() -> None:
    record = {"clients": {"f1": 0, "f2": 2, "f4": 6}, "train_loss": {"f1": None, "f2": 1.0, "f4": 3.0}}
    assert mean_train_loss(record) == pytest.approx(2.5)
    assert mean_train_loss({"clients": {"f1": 0}, "train_loss": {"f1": None}}) is None


def test_progress_goes_to_standard_error_and_the_tables_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reported(None, progress=True)
    out, err = capsys.readouterr()
    assert "round 3/3" in err
    assert "round 3/3" not in out
    assert "75.00" in out
    assert "75.00" not in err
