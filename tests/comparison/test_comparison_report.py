"""The report of a comparison, from made-up runs of two rounds and two tiers; all numbers worked out by hand."""

import csv
import io
import math
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from fedhm_jax.comparison.figures import curves_figure, tiers_figure
from fedhm_jax.comparison.numbers import accuracy_spreads, best_strategies, relative_costs, spread, verdicts
from fedhm_jax.comparison.report import comparison_markdown, comparison_table, write_comparison
from fedhm_jax.comparison.study import Study, StudyResult, StudyRun, Trial
from fedhm_jax.config.schema import LocalConfig, PartitionConfig, ServerConfig, SimulationConfig
from fedhm_jax.results import TierCost

CONFIG = SimulationConfig(
    partition=PartitionConfig(clients=10), server=ServerConfig(rounds=2), local=LocalConfig(learning_rate=0.05)
)

# percent after the last round by strategy: one (global, f1, f4) a seed
FINAL = {
    "fedhm": [(80, 80, 60), (82, 70, 76)],  # mean of tiers 70, 73; worst tier 60, 70
    "heterofl": [(60, 64, 50), (64, 60, 56)],  # 57, 58; 50, 56
    "fedrolex": [(70, 90, 80), (72, 90, 82)],  # 85, 86; 80, 82
    "splitmix": [(81.5, 75, 75), (79.5, 75, 67)],  # 75, 71; 75, 67
    "fedavg": [(99, 99, 99), (97, 97, 97)],
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
    final = FINAL[strategy][seed] if final is None else final
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
    found = accuracy_spreads(made_result(), "iid")["fedhm"]
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


def test_verdicts_are_paired_by_seed():
    result = made_result()
    backwards = StudyResult(result.study, result.runs[::-1])
    root = math.sqrt(2)
    expected = {
        ("heterofl", "mean of tiers"): (14, 2 / root, "fedhm"),  # 13, 15
        ("heterofl", "worst tier"): (12, 4 / root, "fedhm"),  # 10, 14
        ("heterofl", "global"): (19, 2 / root, "fedhm"),  # 20, 18
        ("fedrolex", "mean of tiers"): (-14, 2 / root, "rival"),  # -15, -13
        ("fedrolex", "worst tier"): (-16, 8 / root, "rival"),  # -20, -12
        ("fedrolex", "global"): (10, 0, "fedhm"),  # 10, 10
        ("splitmix", "mean of tiers"): (-1.5, 7 / root, "tie"),  # -5, 2
        ("splitmix", "worst tier"): (-6, 18 / root, "tie"),  # -15, 3
        ("splitmix", "global"): (0.5, 4 / root, "tie"),  # -1.5, 2.5
    }
    for given in (result, backwards):
        found = {(v.rival, v.column): (*v.difference, v.winner) for v in verdicts(given, "iid")}
        assert found.keys() == expected.keys()
        for key, (mean, deviation, winner) in expected.items():
            assert found[key][:2] == pytest.approx((mean, deviation), abs=1e-9), key
            assert found[key][2] == winner, key


def test_only_seeds_that_both_have_run_are_compared():
    study = made_result(("fedhm", "heterofl", "fedrolex")).study
    runs = [made_run("fedhm", 0), made_run("fedhm", 1), made_run("heterofl", 1)]
    found = verdicts(StudyResult(study, runs), "iid")
    assert found[0].difference == pytest.approx((73 - 58, None))
    apart = StudyResult(study, [made_run("fedhm", 0), made_run("heterofl", 1)])
    assert verdicts(apart, "iid") == []


def test_one_seed_is_named_as_such():
    text = comparison_markdown(made_result(("fedhm", "heterofl"), (0,)))
    assert "1 seed (0)" in text
    assert row(section(text, "iid"), "fedhm") == [
        "fedhm",
        "**80.00**",
        "**80.00**",
        "**60.00**",
        "**70.00**",
        "**60.00**",
    ]
    assert "13.00 (FedHM, one seed)" in text
    assert "heterofl (one seed)" in text


def test_costs_are_set_against_the_same_tier_of_fedhm():
    (_, strong), (cost, weak) = relative_costs(made_result(), "iid")["heterofl"]
    assert cost.tier == "f4"
    assert strong == {"parameters": 1.0, "bytes_down": 1.0, "macs": 1.0}
    assert weak == pytest.approx({"parameters": 1.05, "bytes_down": 1.05, "macs": 1.05})
    alone = relative_costs(made_result(("heterofl",)), "iid")["heterofl"][0][1]
    assert set(alone.values()) == {None}


def test_report_says_what_there_is():
    text = comparison_markdown(made_result(description="Made up."))
    assert text.startswith("# Small study\n\nMade up.\n")
    assert "finished" not in text
    assert "2 seeds (0, 1)" in text
    accuracy = section(text, "iid")
    assert "digits, cnn, 10 clients (iid), 5 a round, 2 rounds" in accuracy
    assert row(accuracy, "strategy") == ["strategy", "global", "f1", "f4", "mean of tiers", "worst tier"]
    assert row(accuracy, "fedhm") == [
        "fedhm", "**81.00 ± 1.41**", "75.00 ± 7.07", "68.00 ± 11.31", "71.50 ± 2.12", "65.00 ± 7.07"
    ]  # fmt: skip
    assert row(accuracy, "*fedavg*")[1] == "98.00 ± 1.41"
    assert "upper bound" in accuracy
    totals = section(text, "What a whole run took")  # (3 + 1) and (4 + 1) MiB a round, two rounds
    assert row(totals, "fedhm") == ["fedhm", "9.0 ± 1.4", "8.0 ± 0.0", "60.0 ± 0.0", "5.5 ± 0.7"]
    assert row(section(text, "Budgets"), "heterofl", "f4") == [
        "heterofl", "f4", "ranks / 4", "210 (1.05)", "840 B (1.05)", "2,100 (1.05)", "4,200"
    ]  # fmt: skip
    assert "device: cpu, jax: 0.10.2" in text
    assert 'method = "iid"' in text


def test_report_is_honest_in_both_directions():
    found = section(comparison_markdown(made_result()), "Does FedHM win?")
    assert row(found, "fedrolex") == [
        "fedrolex",
        "-14.00 ± 1.41 (rival)",
        "-16.00 ± 5.66 (rival)",
        "10.00 ± 0.00 (FedHM)",
    ]
    assert "On the mean of tiers FedHM beats heterofl; it loses to fedrolex; it is level with splitmix." in found
    assert "On the global model FedHM beats heterofl and fedrolex; it is level with splitmix." in found


def test_no_verdict_without_fedhm():
    text = comparison_markdown(made_result(("heterofl", "fedavg")))
    assert "Does FedHM win?" not in text
    assert row(text, "heterofl", "f4")[3] == "210"


def test_unfinished_study_says_so(tmp_path):
    full = made_result(("fedhm", "heterofl"), settings={"iid": CONFIG, "skewed": CONFIG})
    text = comparison_markdown(StudyResult(full.study, full.runs[:3]))  # of 2 settings x 2 strategies x 2 seeds
    assert "3 of 8 runs finished" in text
    assert "## iid\n" in text
    assert "## skewed\n" not in text
    write_comparison(StudyResult(full.study, []), tmp_path)
    assert "0 of 8 runs finished" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert list((tmp_path / "figures").iterdir()) == []


@pytest.mark.parametrize("missing", [None, math.nan])
def test_numbers_that_are_none_do_not_stop_the_report(tmp_path, missing):
    result = made_result(("fedhm", "heterofl"))
    for record in result.runs[0].history:
        record["accuracy"] = dict.fromkeys(record["accuracy"], missing)
        record["loss"] = dict.fromkeys(record["loss"])
    write_comparison(result, tmp_path)
    accuracy = section((tmp_path / "report.md").read_text(encoding="utf-8"), "iid")
    assert row(accuracy, "fedhm")[1] == "41.00 ± 57.98"  # 0 and 82


def test_learning_rates():
    trials = (Trial("iid", "fedhm", 0.05, 0.625, True), Trial("iid", "fedhm", 1.0, None, False))
    result = made_result(("fedhm",), learning_rates=(0.05, 1.0))
    text = comparison_markdown(StudyResult(result.study, result.runs, trials))
    grid = section(text, "Learning rates")
    assert row(grid, "iid") == ["iid", "0.05", "1"]
    assert row(grid, "fedhm") == ["fedhm", "**62.5**", "diverged"]
    assert "Learning rates" not in comparison_markdown(result)


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
    assert not {"script", "link", "a", "b", "iframe"} & set(tags)
    assert tags.count("h1") == 1
    assert {"h2", "h3", "table", "td", "pre"} <= set(tags)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 4
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    words = "".join(page.words)
    assert words.count(name) == 2  # title and heading
    assert "<script>alert(1)</script> [x](https://example.org) 3 * 4 * 5" in words
    assert "# no heading" in words
    for link in ("figures/iid-tiers.png", "figures/größe-curves.png"):
        assert f"]({link})" in text
        with Image.open(tmp_path / link) as image:
            assert image.width > 500


def test_results_hold_every_evaluated_round(tmp_path):
    write_comparison(made_result(("fedhm",)), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 2 * 2 * 3  # seeds, rounds, models
    (last,) = [r for r in rows if (r["seed"], r["round"], r["model"]) == ("1", "2", "f4")]
    assert float(last["accuracy"]) == 0.76
    assert (last["setting"], last["strategy"], last["learning_rate"]) == ("iid", "fedhm", "0.05")
    assert last["total_bytes_down"] == str(8 * 2**20)


def test_curves_are_means_over_seeds():
    figure = curves_figure(made_result(("fedhm", "heterofl")), "iid")
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
    bars = tiers_figure(result, "iid").axes[0].containers
    heights = {found.get_label(): [bar.get_height() for bar in found] for found in bars if hasattr(found, "patches")}
    assert heights["fedhm"] == pytest.approx([81, 75, 68, 71.5, 65])
    colours = {found.get_label(): found[0].get_facecolor()[:3] for found in bars if hasattr(found, "patches")}
    assert len(set(colours.values())) == len(FINAL)
    from matplotlib.colors import to_rgb

    lines = curves_figure(result, "iid").axes[0].get_lines()
    assert {line.get_label(): to_rgb(line.get_color()) for line in lines} == colours


def test_table_for_the_terminal():
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(made_result(), "iid"))
    text = console.file.getvalue()
    (line,) = [line for line in text.splitlines() if "heterofl" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells == ["heterofl", "62.00 ± 2.83", "57.50 ± 0.71", "53.00 ± 4.24"]
