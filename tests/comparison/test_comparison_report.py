"""The report of a comparison, from made-up runs of two rounds and two tiers; all numbers worked out by hand."""

import csv
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from fedhm_jax.comparison import report
from fedhm_jax.comparison.figures import curves_drawing, tiers_drawing
from fedhm_jax.comparison.numbers import (
    best_strategies,
    bounds,
    half_width,
    relative_costs,
    score_spreads,
    spread,
    verdicts,
)
from fedhm_jax.comparison.report import comparison_markdown, comparison_table, write_comparison
from fedhm_jax.comparison.study import RATE, Study, StudyResult, StudyRun, Trial, Variant
from fedhm_jax.comparison.tuning import at_the_edge
from fedhm_jax.comparison.variants import points
from fedhm_jax.config.schema import (
    LocalConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    TiersConfig,
)
from fedhm_jax.results import TierCost
from fedhm_jax.score import Score

CONFIG = SimulationConfig(
    partition=PartitionConfig(clients=10),
    server=ServerConfig(rounds=2),
    local=LocalConfig(learning_rate=0.05),
)

# percent after the last round by strategy: one (global, f1, f4) a seed
FINAL = {
    "fedhm": [(80, 80, 60), (82, 70, 76), (81, 75, 68)],  # mean of tiers 70, 73, 71.5; worst tier 60, 70, 68
    "heterofl": [(60, 64, 50), (64, 60, 56), (62, 62, 53)],  # 57, 58, 57.5; 50, 56, 53
    "fedrolex": [(70, 90, 80), (72, 90, 82), (71, 90, 81)],  # 85, 86, 85.5; 80, 82, 81
    "splitmix": [(81.5, 75, 75), (79.5, 75, 67), (79, 75, 68)],  # 75, 71, 71.5; 75, 67, 68
    "fedavg": [(99, 99, 99), (97, 97, 97), (98, 98, 98)],
}

PARAMETERS = {"fedhm": (1000, 200), "heterofl": (1000, 210), "fedrolex": (1000, 190), "splitmix": (900, 200)}


def made_record(done: int, seed: int, final: tuple[float, ...]) -> dict[str, Any]:
    """The first round is better than the last, so that the last and the best cannot be confused."""
    percent = final if done == 2 else (99.5, 99.5, 99.5)
    names = ("global", "f1", "f4")
    return {
        "round": done,
        "train_loss": {"f1": 1.0, "f4": 2.0},
        "accuracy": {name: value / 100 for name, value in zip(names, percent, strict=True)},
        "loss": dict.fromkeys(names, 0.5),
        "total_bytes_down": (3 + seed) * 2**20 * done,
        "total_bytes_up": 2**20 * done,
        "total_macs": 4_000_000_000 * done,
        "total_simulated_seconds": 30.0 * done,
    }


def made_run(strategy: str, seed: int, setting: str = "iid", final: tuple[float, ...] | None = None) -> StudyRun:
    final = FINAL.get(strategy, FINAL["fedavg"])[seed] if final is None else final
    full, small = PARAMETERS.get(strategy, (1000, 1000))
    costs = [
        TierCost("f1", 1.0, "full", 5, full, 10 * full, 10 * full, 4 * full, 4 * full),
        TierCost("f4", 4.0, "ranks / 4", 5, small, 10 * small, 20 * small, 4 * small, 4 * small),
    ]
    history = [made_record(done, seed, final) for done in (1, 2)]
    return StudyRun(setting, strategy, seed, CONFIG, history, costs, 5.0 + seed, {"device": "cpu", "jax": "0.10.2"})


def made_result(
    strategies: tuple[str, ...] = tuple(FINAL), seeds: tuple[int, ...] = (0, 1), **changes: Any
) -> StudyResult:
    fields = {"name": "Small study", "settings": {"iid": CONFIG}} | changes
    study = Study(strategies=strategies, seeds=seeds, **fields)
    runs = [made_run(name, seed, setting) for setting in study.settings for name in strategies for seed in seeds]
    return StudyResult(study, runs)


def row(text: str, *first: str) -> list[str]:
    """The cells of the only table row that begins so."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (found,) = [cells for cells in rows if tuple(cells[: len(first)]) == first]
    return found


def section(text: str, title: str) -> str:
    """From a heading to the next."""
    return text.split(f"# {title}\n")[1].split("\n#")[0]


class Page(HTMLParser):
    """Tags and attributes of a page, its text, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr", "link", "input"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_spread_is_the_sample_standard_deviation():
    assert spread([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    assert spread([2.0]) == (2.0, None)
    assert spread([2.0]).text() == "2.00"
    assert spread([]).text() == "-"


def test_accuracy_is_that_of_the_last_round_and_the_worst_tier_is_found_seed_by_seed():
    found = score_spreads(made_result(), "iid")["fedhm"]
    root = math.sqrt(2)
    assert found["global"] == pytest.approx((81, root))
    assert found["f1"] == pytest.approx((75, 10 / root))
    assert found["f4"] == pytest.approx((68, 16 / root))
    assert found["mean of tiers"] == pytest.approx((71.5, 3 / root))
    assert found["worst tier"] == pytest.approx((65, 10 / root))  # not 68, the smaller mean


def test_best_leaves_the_upper_bound_out():
    assert best_strategies(made_result(), "iid") == {
        "global": "fedhm",
        "f1": "fedrolex",
        "f4": "fedrolex",
        "mean of tiers": "fedrolex",
        "worst tier": "fedrolex",
    }


def test_verdicts_are_paired_by_seed_and_rest_on_the_t_interval():
    result = made_result(seeds=(0, 1, 2))
    backwards = StudyResult(result.study, result.runs[::-1])
    t = 4.302653  # of two degrees of freedom at 97.5 %, from a printed table
    expected = {
        ("heterofl", "mean of tiers"): (14, 1, "reference"),  # 13, 15, 14
        ("heterofl", "worst tier"): (13, math.sqrt(7), "reference"),  # 10, 14, 15
        ("heterofl", "global"): (19, 1, "reference"),  # 20, 18, 19
        ("fedrolex", "mean of tiers"): (-14, 1, "rival"),  # -15, -13, -14
        ("fedrolex", "worst tier"): (-15, math.sqrt(19), "rival"),  # -20, -12, -13
        ("fedrolex", "global"): (10, 0, "reference"),  # 10, 10, 10
        ("splitmix", "mean of tiers"): (-1, math.sqrt(13), "tie"),  # -5, 2, 0
        ("splitmix", "worst tier"): (-4, math.sqrt(93), "tie"),  # -15, 3, 0
        ("splitmix", "global"): (1, math.sqrt(4.75), "tie"),  # -1.5, 2.5, 2
    }
    for given in (result, backwards):
        found = {(v.rival, v.column): v for v in verdicts(given, "iid")}
        assert found.keys() == expected.keys()
        for key, (mean, deviation, winner) in expected.items():
            assert found[key].difference == pytest.approx((mean, deviation), abs=1e-9), key
            assert found[key].margin == pytest.approx(t * deviation / math.sqrt(3), abs=1e-5), key
            assert (found[key].winner, found[key].seeds) == (winner, 3), key


def test_a_difference_beyond_one_deviation_may_still_be_level():
    study = made_result(("fedhm", "heterofl"), (0, 1, 2)).study
    ours = [made_run("fedhm", seed, final=(70 + ahead, 70, 70)) for seed, ahead in enumerate((1, 2, 3))]
    theirs = [made_run("heterofl", seed, final=(70, 70, 70)) for seed in range(3)]
    (found,) = [v for v in verdicts(StudyResult(study, [*ours, *theirs]), "iid") if v.column == "global"]
    assert found.difference == pytest.approx((2, 1))
    assert found.margin > 2
    assert found.winner == "tie"


@pytest.mark.parametrize(("seeds", "t"), [(2, 12.7062), (4, 3.1824), (10, 2.2622), (31, 2.0423)])
def test_the_interval_is_that_of_printed_tables(seeds, t):
    assert half_width(3.0, seeds) == pytest.approx(3.0 * t / math.sqrt(seeds), rel=1e-4)


def test_fewer_than_three_seeds_give_no_verdict():
    assert {(v.margin, v.winner) for v in verdicts(made_result(), "iid")} == {(None, None)}


def test_any_strategy_may_be_the_one_that_others_are_set_against():
    result = made_result(seeds=(0, 1, 2), reference="fedrolex")
    assert {v.rival for v in verdicts(result, "iid")} == {"fedhm", "heterofl", "splitmix"}
    assert [v.winner for v in verdicts(result, "iid") if v.rival == "fedhm"] == ["reference", "reference", "rival"]
    text = section(comparison_markdown(result), "Does fedrolex win?")
    # 5, 15 and 13 points over splitmix: 11 ± 13.1
    assert "On the worst tier fedrolex beats fedhm and heterofl; it is level with splitmix." in text
    assert row(section(comparison_markdown(result), "Budgets"), "fedrolex", "f4")[3] == "190 (1.00)"
    first = made_result(("heterofl", "fedrolex"), seeds=(0, 1, 2))
    assert {v.rival for v in verdicts(first, "iid")} == {"fedrolex"}


def test_who_is_an_upper_bound():
    mine = Variant("wide", {"strategy.name": "fedavg"})
    result = made_result(("fedhm", "centralised", "fedavg"))
    study = replace(result.study, strategies=(*result.study.strategies, mine, Variant("own", builder="own.py:fedavg")))
    assert bounds(StudyResult(study, result.runs), "iid") == {"centralised", "fedavg", "wide"}
    equal = replace(study, settings={"iid": replace(CONFIG, tiers=TiersConfig((1.0,)))})
    assert bounds(StudyResult(equal, result.runs), "iid") == {"centralised"}
    assert "fedavg" not in bounds(StudyResult(replace(study, reference="fedavg"), result.runs), "iid")
    text = comparison_markdown(StudyResult(study, result.runs))
    assert "*fedavg* trains the full model on every client" in text
    assert "*centralised* trains the full model on all data in one place" in text
    assert row(section(text, "iid"), "*centralised*")[1] == "98.00 ± 1.41"


def alone_run(seed: int) -> StudyRun:
    """Clients that train alone: one record after the last round, without a global model and without traffic."""
    run = made_run("local_only", seed, final=(0, 90 - seed, 70))
    last = {**run.history[-1], "total_bytes_down": 0, "total_bytes_up": 0}
    for name in ("accuracy", "loss"):
        last[name] = {tier: last[name][tier] for tier in ("f1", "f4")}
    return replace(run, history=[last], costs=[replace(cost, bytes_down=0, bytes_up=0) for cost in run.costs])


def test_clients_alone_are_a_frame_without_a_global_model():
    made = made_result(("fedhm", "heterofl"), seeds=(0, 1, 2))
    study = replace(made.study, strategies=("fedhm", "heterofl", "local_only"))
    result = StudyResult(study, [*made.runs, *map(alone_run, (0, 1, 2))])
    assert bounds(result, "iid") == {"local_only"}
    text = comparison_markdown(result)
    assert row(section(text, "iid"), "*local_only*")[1:] == [
        "70.00 ± 0.00", "79.50 ± 0.50", "-", "89.00 ± 1.00", "70.00 ± 0.00",
    ]  # fmt: skip
    assert best_strategies(result, "iid")["f1"] == "fedhm"
    assert {verdict.rival for verdict in verdicts(result, "iid")} == {"heterofl"}
    tiers, globe = (curves_drawing(result, "iid").figure.axes[place] for place in (0, 4))
    assert [line.get_label() for line in globe.get_lines()] == ["fedhm", "heterofl"]
    alone = tiers.get_lines()[2]
    assert (alone.get_xdata(), alone.get_ydata(), alone.get_marker()) == ([2], [79.5], "o")
    assert tiers_drawing(result, "iid").figure.axes[0].patches


def test_clients_alone_as_the_reference_are_compared_by_what_they_have():
    made = made_result(("fedhm",), seeds=(0, 1, 2))
    study = replace(made.study, strategies=("fedhm", "local_only"), reference="local_only")
    result = StudyResult(study, [*made.runs, *map(alone_run, (0, 1, 2))])
    assert [verdict.column for verdict in verdicts(result, "iid")] == ["worst tier", "mean of tiers"]
    assert relative_costs(result, "iid")["fedhm"][1][1] == {"parameters": 0.2, "bytes_down": None, "macs": 0.2}
    assert "### Does local_only win?" in comparison_markdown(result)


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of words and tables alone: drawing takes longest."""
    monkeypatch.setattr(report, "drawn", lambda result, setting: {})


def test_the_worst_client_is_a_column_where_it_was_asked_for(tmp_path, no_figures):
    made = made_result(("fedhm", "heterofl"))
    for run in made.runs[:2]:
        run.history[-1]["worst_client"] = 0.4 + 0.1 * run.seed
    write_comparison(made, tmp_path)
    accuracy = section((tmp_path / "report.md").read_text(encoding="utf-8"), "iid")
    assert row(accuracy, "strategy")[4] == "worst client"
    assert (row(accuracy, "fedhm")[4], row(accuracy, "heterofl")[4]) == ("**45.00 ± 7.07**", "-")
    assert "each client is judged by the model of its tier" in accuracy
    assert (tmp_path / "worst_clients.csv").read_text().splitlines() == [
        "setting,strategy,seed,round,worst_client", "iid,fedhm,0,2,0.4", "iid,fedhm,1,2,0.5",
    ]  # fmt: skip
    write_comparison(made_result(("fedhm",)), tmp_path / "without")
    assert not (tmp_path / "without/worst_clients.csv").exists()


def test_a_tier_that_a_strategy_does_not_have_is_a_dash():
    result = made_result(("fedhm", "heterofl"))
    weak = [cost for cost in result.runs[2].costs if cost.tier == "f1"]
    runs = [replace(run, costs=weak) if run.strategy == "heterofl" else run for run in result.runs]
    for run in runs[2:]:
        for record in run.history:
            del record["accuracy"]["f4"]
    other = StudyResult(result.study, runs)
    accuracy = section(comparison_markdown(other), "iid")
    assert row(accuracy, "heterofl") == ["heterofl", *["62.00 ± 2.83"] * 4, "-"]
    assert best_strategies(other, "iid")["f4"] == "fedhm"
    assert tiers_drawing(other, "iid").figure.axes[0].patches


def test_only_seeds_that_both_have_run_are_compared():
    study = made_result(("fedhm", "heterofl", "fedrolex")).study
    runs = [made_run("fedhm", 0), made_run("fedhm", 1), made_run("heterofl", 1)]
    found = verdicts(StudyResult(study, runs), "iid")
    assert found[0].difference == pytest.approx((70 - 56, None))
    apart = StudyResult(study, [made_run("fedhm", 0), made_run("heterofl", 1)])
    assert verdicts(apart, "iid") == []


def test_one_seed_is_named_as_such():
    text = comparison_markdown(made_result(("fedhm", "heterofl"), (0,)))
    assert "1 seed (0)" in text
    assert row(section(text, "iid"), "fedhm") == [
        "fedhm",
        "**60.00**",
        "**70.00**",
        "**80.00**",
        "**80.00**",
        "**60.00**",
    ]
    verdict = section(text, "Does fedhm win?")
    assert row(verdict, "heterofl") == ["heterofl", "10.00 (1 seed)", "13.00 (1 seed)", "20.00 (1 seed)"]
    assert "beats" not in verdict


def test_costs_are_set_against_the_same_tier_of_fedhm():
    (_, strong), (cost, weak) = relative_costs(made_result(), "iid")["heterofl"]
    assert cost.tier == "f4"
    assert strong == {"parameters": 1.0, "bytes_down": 1.0, "macs": 1.0}
    assert weak == pytest.approx({"parameters": 1.05, "bytes_down": 1.05, "macs": 1.05})
    unfinished = made_result(("fedhm", "heterofl"))
    apart = StudyResult(unfinished.study, [run for run in unfinished.runs if run.strategy == "heterofl"])
    assert set(relative_costs(apart, "iid")["heterofl"][0][1].values()) == {None}


def test_report_says_what_there_is():
    text = comparison_markdown(made_result(description="Made up."))
    assert text.startswith("# Small study\n\nMade up.\n")
    assert "finished" not in text
    assert "2 seeds (0, 1)" in text
    accuracy = section(text, "iid")
    assert "digits, cnn, 10 clients (iid), 5 a round, 2 rounds" in accuracy
    assert row(accuracy, "strategy") == ["strategy", "worst tier", "mean of tiers", "global", "f1", "f4"]
    assert row(accuracy, "fedhm") == [
        "fedhm", "65.00 ± 7.07", "71.50 ± 2.12", "**81.00 ± 1.41**", "75.00 ± 7.07", "68.00 ± 11.31"
    ]  # fmt: skip
    assert row(accuracy, "*fedavg*")[1] == "98.00 ± 1.41"
    assert "upper bound" in accuracy
    totals = section(text, "What a whole run took")  # (3 + 1) and (4 + 1) MiB a round, two rounds
    assert row(totals, "fedhm") == ["fedhm", "9.0 ± 1.4", "8.0 ± 0.0", "60.0 ± 0.0", "5.5 ± 0.7"]
    assert row(section(text, "Budgets"), "heterofl", "f4") == [
        "heterofl", "f4", "ranks / 4", "210 (1.05)", "840 B (1.05)", "2,100 (1.05)", "4,200"
    ]  # fmt: skip
    assert "device: cpu, jax: 0.10.2" in text
    # the config as what differs from the defaults: 10 clients and not 20, and a rate of 0.05
    assert section(text, "Configs").split("```")[1] == (
        "toml\n[partition]\nclients = 10\n\n[local]\nlearning_rate = 0.05\n\n[server]\nrounds = 2\n"
    )


def test_report_is_honest_in_both_directions():
    found = section(comparison_markdown(made_result(seeds=(0, 1, 2))), "Does fedhm win?")
    assert row(found, "fedrolex") == [
        "fedrolex",
        "-15.00 ± 10.83 (rival)",  # 4.3027 sqrt(19 / 3)
        "-14.00 ± 2.48 (rival)",
        "10.00 ± 0.00 (fedhm)",
    ]
    assert "On the mean of tiers fedhm beats heterofl; it loses to fedrolex; it is level with splitmix." in found
    assert "On the global model fedhm beats heterofl and fedrolex; it is level with splitmix." in found


def test_no_verdict_without_a_rival():
    text = comparison_markdown(made_result(("heterofl", "fedavg")))
    assert "win?" not in text
    assert row(text, "heterofl", "f4")[3] == "210 (1.00)"


def test_unfinished_study_says_so(tmp_path):
    full = made_result(("fedhm", "heterofl"), settings={"iid": CONFIG, "skewed": CONFIG})
    text = comparison_markdown(StudyResult(full.study, full.runs[:3]))  # of 2 settings x 2 strategies x 2 seeds
    assert "3 of 8 runs finished" in text
    assert "## iid\n" in text
    assert "## skewed\n" not in text
    write_comparison(StudyResult(full.study, []), tmp_path)
    assert "0 of 8 runs finished" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert list((tmp_path / "figures").iterdir()) == []


@pytest.mark.parametrize("missing", [None, pytest.param(math.nan, marks=pytest.mark.long)])
def test_numbers_that_are_none_do_not_stop_the_report(tmp_path, missing):
    result = made_result(("fedhm", "heterofl"))
    for record in result.runs[0].history:
        record["accuracy"] = dict.fromkeys(record["accuracy"], missing)
        record["loss"] = dict.fromkeys(record["loss"])
    write_comparison(result, tmp_path)
    accuracy = section((tmp_path / "report.md").read_text(encoding="utf-8"), "iid")
    assert row(accuracy, "fedhm")[3] == "41.00 ± 57.98"  # 0 and 82


@pytest.mark.parametrize("missing", [pytest.param(None, marks=pytest.mark.long), math.nan])
def test_a_metric_of_which_less_is_better(tmp_path, missing):
    bits = Score("bits", "bits per character", "", 1.0, 2, higher_is_better=False)
    result = made_result(("fedhm", "heterofl"))
    runs = tuple(replace(run, score=bits) for run in result.runs)
    for run in runs:
        for record in run.history:
            if "accuracy" in record:
                record["bits"] = {name: 1 - value for name, value in record.pop("accuracy").items()}
    result = replace(result, runs=runs)
    best = best_strategies(made_result(("fedhm", "heterofl")), "iid")
    assert best_strategies(result, "iid") == best, "one minus the accuracy: the same is best, where less of it is"
    for record in runs[0].history:
        record["bits"] = dict.fromkeys(record["bits"], missing)
    write_comparison(result, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Bits per character (less is better) on the test set after the last round" in text
    assert row(section(text, "iid"), "fedhm")[1] == "inf", "a run without a number has learned nothing"
    assert {"heterofl"} == set(best_strategies(result, "iid").values())


def grid_report(*trials: Trial, strategies: tuple[Any, ...] = ("fedhm",), **changes: Any) -> str:
    result = made_result(("fedhm",), **changes)
    study = replace(result.study, strategies=strategies)
    return section(comparison_markdown(StudyResult(study, result.runs, trials)), "Tuning")


def test_a_grid_of_learning_rates():
    rates = {"learning_rates": (0.05, 1.0)}
    trials = [
        Trial("iid", "fedhm", {RATE: rate}, found, found is not None) for rate, found in ((0.05, 0.625), (1.0, None))
    ]
    grid = grid_report(*trials, **rates)
    assert row(grid, "iid") == ["iid", "0.05", "1"]
    assert row(grid, "fedhm") == ["fedhm", "**62.5**", "diverged"]
    assert "1000 training samples" in grid
    assert "Tuning" not in comparison_markdown(made_result(("fedhm",), **rates))
    assert "20 % of the training samples" in grid_report(*trials, tuning_samples=0.2, **rates)


def test_a_grid_of_two_fields_has_a_row_for_each_value_of_the_second():
    grid = {RATE: (0.1, 1.0), "local.optimizer": ("sgd", "adam")}
    trials = [
        Trial("iid", "fedhm", point, accuracy, accuracy == 0.75)
        for point, accuracy in zip(points(grid), (0.5, 0.25, 0.75, 0.125), strict=True)
    ]
    text = grid_report(*trials, grid=grid)
    assert row(text, "iid") == ["iid", "`local.optimizer`", "0.1", "1"]
    assert row(text, "fedhm", "sgd") == ["fedhm", "sgd", "50.0", "**75.0**"]
    assert row(text, "fedhm", "adam") == ["fedhm", "adam", "25.0", "12.5"]
    assert (
        "edge of the grid**, beyond which there may be better: fedhm: `local.learning_rate` 1 is the largest." in text
    )


def test_strategies_of_different_grids_have_tables_of_their_own():
    mine = Variant("mine", {"strategy.name": "fedhm"}, grid={"local.proximal": (0.0, 0.1)})
    trials = [Trial("iid", "fedhm", {RATE: rate}, rate, rate == 0.2) for rate in (0.1, 0.2, 0.4)]
    trials += [Trial("iid", "mine", {RATE: 0.2, "local.proximal": mu}, 0.5 - mu, mu == 0) for mu in (0.0, 0.1)]
    text = grid_report(
        *trials, strategies=("fedhm", replace(mine, grid={RATE: (0.2,), **mine.grid})), learning_rates=(0.1, 0.2, 0.4)
    )
    assert row(text, "fedhm") == ["fedhm", "10.0", "**20.0**", "40.0"]
    assert row(text, "mine", "0") == ["mine", "0", "**50.0**"]
    # neither the middle of three, nor the only one of its kind, nor the zero below which there is nothing
    assert "edge" not in text


@pytest.mark.parametrize(
    ("values", "value", "noted"),
    [
        ((0.1, 0.2, 0.4), 0.4, ["`local.learning_rate` 0.4 is the largest"]),
        ((0.1, 0.2, 0.4), 0.1, ["`local.learning_rate` 0.1 is the smallest"]),
        ((0.4, 0.1, 0.2), 0.2, []),
        ((0.0, 0.1), 0.0, []),
        ((1, 2), 1, []),
        ((2, 1), 2, ["`local.learning_rate` 2 is the largest"]),
        ((0.1,), 0.1, []),
        (("sgd", "adam"), "adam", []),
        ((True, False), True, []),
    ],
)
def test_the_edge_of_a_grid(values, value, noted):
    assert at_the_edge(Trial("iid", "fedhm", {RATE: value}, 0.5, True), {RATE: values}) == noted


def test_the_config_lists_what_variants_change():
    result = made_result(("fedhm",))
    long = Variant("long", {"strategy.name": "fedhm", "local.epochs": 4})
    own = Variant("own", {"local.epochs": 2}, builder="mine.py:build")
    settings = {"iid": SimulationConfig()}
    text = comparison_markdown(
        StudyResult(replace(result.study, strategies=("fedhm", long, own), settings=settings), result.runs)
    )
    configs = section(text, "Configs")
    assert "All defaults." in configs
    # keys as they stand in a variant's table of a study file
    assert '**long**\n\n```toml\n"strategy.name" = "fedhm"\n"local.epochs" = 4\n```' in configs
    assert '**own**\n\n```toml\nbuilder = "mine.py:build"\n"local.epochs" = 2\n```' in configs
    assert "**fedhm**" not in configs


def test_same_runs_give_the_same_files(tmp_path):
    first, again = tmp_path / "first", tmp_path / "deeper" / "again"
    write_comparison(made_result(("fedhm",), (0,)), first)  # is replaced
    write_comparison(made_result(("fedhm",)), first)
    write_comparison(made_result(("fedhm",)), again)
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == ["figures/iid-curves.png", "figures/iid-tiers.png", "report.html", "report.md", "results.csv"]
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_page_holds_everything_and_asks_for_nothing(tmp_path):
    name = 'A <b>bold</b> & "quoted" name'
    description = "<script>alert(1)</script> [x](https://example.org) 3 * 4 * 5\n\n# no heading"
    settings = {"iid": CONFIG, "größe": CONFIG}
    write_comparison(made_result(("fedhm",), name=name, description=description, settings=settings), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert not {"link", "a", "b", "iframe", "img"} & set(tags)
    assert tags.count("script") == 1
    assert not {"src", "href", "xlink:href"} & {key for tag, keys in page.tags if tag != "use" for key in keys}
    assert tags.count("h1") == 1
    assert {"h2", "h3", "table", "td", "pre"} <= set(tags)
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "svg"] == ["figure"] * 4
    words = "".join(page.words)
    assert words.count(name) == 2  # title and heading
    assert "<script>alert(1)</script> [x](https://example.org) 3 * 4 * 5" in words
    assert "# no heading" in words
    for link in ("figures/iid-tiers.png", "figures/größe-curves.png"):
        assert f"]({link})" in text
        with Image.open(tmp_path / link) as image:
            assert image.width > 500


def test_a_printed_table_may_be_wrapped_and_breaks_between_rows(tmp_path, no_figures):
    write_comparison(made_result(("fedhm",)), tmp_path)
    style = (tmp_path / "report.html").read_text(encoding="utf-8").split("</style>")[0]
    on_screen, on_paper = style.split("@media print")
    assert "white-space: nowrap" in on_screen
    assert "overflow-x: auto" in on_screen
    assert re.search(r"th, td \{[^}]*white-space: normal", on_paper)
    assert re.search(r"\btable \{[^}]*display: table;[^}]*overflow: visible", on_paper)
    assert re.search(r"\btr, [^{]*\{ break-inside: avoid", on_paper)


def test_legends_leave_room_for_long_names():
    few, long = made_result(("fedhm", "heterofl")), Variant("x" * 60, {"strategy.name": "fedhm"})
    study = replace(few.study, strategies=("fedhm", "heterofl", long))
    runs = [*few.runs, made_run("x" * 60, 0)]
    for draw in (curves_drawing, tiers_drawing):
        figure = draw(StudyResult(study, runs), "iid").figure
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_more_strategies_than_colours_can_still_be_told_apart():
    names = tuple(f"v{number}" for number in range(10))
    study = replace(
        made_result(("fedhm",)).study, strategies=tuple(Variant(n, {"strategy.name": "fedhm"}) for n in names)
    )
    runs = [made_run(name, 0, final=(80, 80, 60)) for name in names]
    lines = curves_drawing(StudyResult(study, runs), "iid").figure.axes[0].get_lines()
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 10
    bars = [
        found[0]
        for found in tiers_drawing(StudyResult(study, runs), "iid").figure.axes[0].containers
        if hasattr(found, "patches")
    ]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 10


def test_results_hold_every_evaluated_round(tmp_path, no_figures):
    write_comparison(made_result(("fedhm",)), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 2 * 2 * 3  # seeds, rounds, models
    (last,) = [r for r in rows if (r["seed"], r["round"], r["model"]) == ("1", "2", "f4")]
    assert float(last["accuracy"]) == 0.76
    assert (last["setting"], last["strategy"], last["learning_rate"]) == ("iid", "fedhm", "0.05")
    assert last["total_bytes_down"] == str(8 * 2**20)


def test_results_have_a_column_for_every_field_of_a_grid(tmp_path, no_figures):
    result = made_result(("fedhm",), learning_rates=(0.05, 0.1))
    variant = Variant("fedhm", grid={"local.epochs": (4, 5), "model.hidden": ((8,), (128, 128))})
    write_comparison(StudyResult(replace(result.study, strategies=(variant,)), result.runs), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert list(rows[0])[:4] == ["setting", "strategy", "seed", "learning_rate"]
    assert list(rows[0])[-2:] == ["local.epochs", "model.hidden"]
    assert (rows[0]["local.epochs"], rows[0]["model.hidden"]) == ("5", "128, 128")


def test_curves_are_means_over_seeds():
    figure = curves_drawing(made_result(("fedhm", "heterofl")), "iid").figure
    by_round, by_bytes = figure.axes[:2]
    line = by_round.get_lines()[0]
    assert line.get_xdata() == pytest.approx([1, 2])
    assert line.get_ydata() == pytest.approx([99.5, 71.5])
    band = by_round.collections[0].get_datalim(by_round.transData)
    assert (band.y0, band.y1) == pytest.approx((70, 99.5))
    assert by_bytes.get_lines()[0].get_xdata() == pytest.approx([4.5, 9])  # MiB: mean of 4 and 5 a round
    assert [label.get_text() for label in figure.legends[0].get_texts()] == ["fedhm", "heterofl"]
    globe = figure.axes[4].get_lines()[0]
    assert globe.get_ydata() == pytest.approx([99.5, 81])


def test_bars_are_the_table_and_wear_the_curves_colours():
    result = made_result()
    bars = tiers_drawing(result, "iid").figure.axes[0].containers
    heights = {found.get_label(): [bar.get_height() for bar in found] for found in bars if hasattr(found, "patches")}
    assert heights["fedhm"] == pytest.approx([65, 71.5, 81, 75, 68])
    colours = {found.get_label(): found[0].get_facecolor()[:3] for found in bars if hasattr(found, "patches")}
    assert len(set(colours.values())) == len(FINAL)
    from matplotlib.colors import to_rgb

    lines = curves_drawing(result, "iid").figure.axes[0].get_lines()
    assert {line.get_label(): to_rgb(line.get_color()) for line in lines} == colours


def test_table_for_the_terminal():
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(made_result(), "iid"))
    text = console.file.getvalue()
    (line,) = [line for line in text.splitlines() if "heterofl" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells == ["heterofl", "53.00 ± 4.24", "57.50 ± 0.71", "62.00 ± 2.83"]
