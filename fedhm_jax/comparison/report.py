"""The report of a comparison as Markdown and as one self-contained HTML page, and its table for the terminal."""

import base64
import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedhm_jax.comparison import numbers
from fedhm_jax.comparison.figures import curves_figure, tiers_figure
from fedhm_jax.comparison.study import StudyResult
from fedhm_jax.comparison.study_file import portable
from fedhm_jax.config import SimulationConfig, config_to_toml, number_of_clients
from fedhm_jax.reporting import format_bytes, format_count

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
"""


def write_comparison(result: StudyResult, folder: Path) -> None:
    """Writes report.md, report.html, results.csv and figures/ into a study's folder, in place of older ones.

    Args:
        result: the study; settings without a finished run are left out.
        folder: where.
    """
    from fedhm_jax.reporting import save_figure

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figures = {}
    for setting in _settings(result):
        for name, draw in (("curves", curves_figure), ("tiers", tiers_figure)):
            file = folder / "figures" / f"{setting}-{name}.png"
            part = file.with_name(f"{file.name}.part")
            save_figure(draw(result, setting), part, dpi=90)
            os.replace(part, file)
            figures[f"figures/{setting}-{name}.png"] = file
    text = comparison_markdown(result)
    _replace(folder / "report.md", text)
    _replace(folder / "report.html", _html(result.study.name, text, figures))
    _replace(folder / "results.csv", _csv(result))


def print_comparison(result: StudyResult) -> None:
    """Prints the table of accuracy of every setting, and where the report is, to standard output.

    Args:
        result: the study.
    """
    console = Console()
    for setting in _settings(result):
        console.print(comparison_table(result, setting))
    if result.folder is not None:
        console.print(f"Report: {result.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)


def comparison_table(result: StudyResult, setting: str) -> Table:
    """Accuracy after the last round of every strategy in one setting; the report has that of every tier.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        A table with a row per strategy.
    """
    columns = [name for name in numbers.accuracy_columns(result, setting) if name in numbers.COMPARED]
    table = Table(title=f"{setting}: test accuracy after the last round [%]", title_justify="left")
    table.add_column("strategy")
    for column in columns:
        table.add_column(column, justify="right")
    for strategy, spreads in numbers.accuracy_spreads(result, setting).items():
        table.add_row(strategy, *(spreads[column].text() for column in columns))
    return table


def comparison_markdown(result: StudyResult) -> str:
    """The whole report as Markdown; figures are named by their paths beside it.

    Args:
        result: the study.

    Returns:
        The text. It holds no date, so that the same runs give the same report.
    """
    study = result.study
    wanted = len(study.settings) * len(study.strategies) * len(study.seeds)
    unfinished = [] if len(result.runs) == wanted else [f"**{len(result.runs)} of {wanted} runs finished.**"]
    blocks = [f"# {_plain(study.name)}", *unfinished, _plain(study.description)]
    blocks.append(
        f"Accuracy on the test set after the last round, not the best one; mean ± sample standard deviation over "
        f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''} ({', '.join(map(str, study.seeds))})."
    )
    for setting in _settings(result):
        blocks += _setting_blocks(result, setting)
    if result.trials:
        blocks += ["## Learning rates", *_grid_blocks(result)]
    blocks += ["## Configs", *_config_blocks(result), "## Made with", _environment(result)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _settings(result: StudyResult) -> list[str]:
    return [setting for setting in result.study.settings if any(run.setting == setting for run in result.runs)]


def _setting_blocks(result: StudyResult, setting: str) -> list[str]:
    return [
        f"## {setting}",
        _in_words(result.study.settings[setting]),
        _accuracy(result, setting),
        "*fedavg* trains the full model on every client, which no weak device could: an upper bound, not a rival."
        if numbers.UPPER_BOUND in numbers.strategies_run(result, setting)
        else "",
        f"![Accuracy of every tier](figures/{setting}-tiers.png)",
        f"![Accuracy against rounds, bytes, work and time](figures/{setting}-curves.png)",
        *_verdict_blocks(result, setting),
        "### What a whole run took",
        _totals(result, setting),
        "### Budgets",
        "What one client carries; in brackets the ratio to FedHM's client of the same tier.",
        _budgets(result, setting),
    ]


def _in_words(config: SimulationConfig) -> str:
    deal = config.partition
    skew = f", alpha {deal.alpha:g}" if deal.method in ("dirichlet", "dirichlet_equal", "quantity") else ""
    work = f"{config.local.steps} steps" if config.local.steps else f"{config.local.epochs} local epochs"
    clients, share = number_of_clients(deal), config.server.participation
    sampled = f"{share:g} of them" if clients is None else max(round(share * clients), 1)
    return (
        f"{config.data.name}, {config.model.name}, {'all' if clients is None else clients} clients "
        f"({deal.method}{skew}), {config.server.cohort_size or sampled} a round, "
        f"{config.server.rounds} rounds of {work}, batch {config.local.batch_size}."
    )


def _accuracy(result: StudyResult, setting: str) -> str:
    columns, best = numbers.accuracy_columns(result, setting), numbers.best_strategies(result, setting)

    def cell(strategy: str, column: str, value: numbers.Spread) -> str:
        return f"**{value.text()}**" if best.get(column) == strategy else value.text()

    rows = [
        [_named(strategy), *(cell(strategy, column, spreads[column]) for column in columns)]
        for strategy, spreads in numbers.accuracy_spreads(result, setting).items()
    ]
    return _table(["strategy", *columns], rows)


def _verdict_blocks(result: StudyResult, setting: str) -> list[str]:
    found = numbers.verdicts(result, setting)
    if not found:
        return []
    rivals = list(dict.fromkeys(verdict.rival for verdict in found))
    by_rival = {rival: [verdict for verdict in found if verdict.rival == rival] for rival in rivals}
    columns = [verdict.column for verdict in by_rival[rivals[0]]]
    rows = [
        [rival, *(f"{verdict.difference.text()} ({_word(verdict)})" for verdict in by_rival[rival])] for rival in rivals
    ]
    sentences = []
    for column in columns:
        groups: dict[str, list[str]] = {"fedhm": [], "rival": [], "tie": []}
        for verdict in found:
            if verdict.column == column:
                groups[verdict.winner].append(verdict.rival + (" (one seed)" if verdict.seeds == 1 else ""))
        words = {"fedhm": "beats", "rival": "loses to", "tie": "is level with"}
        parts = [f"{words[winner]} {_list(names)}" for winner, names in groups.items() if names]
        sentences.append(f"On the {column if column != 'global' else 'global model'} FedHM {'; it '.join(parts)}.")
    return [
        "### Does FedHM win?",
        "FedHM minus rival in points, paired by seed; level if the mean is within one standard deviation of zero.",
        _table(["rival", *columns], rows),
        " ".join(sentences),
    ]


def _word(verdict: numbers.Verdict) -> str:
    word = {"fedhm": "FedHM", "rival": "rival", "tie": "level"}[verdict.winner]
    return f"{word}, one seed" if verdict.seeds == 1 else word


def _totals(result: StudyResult, setting: str) -> str:
    rows = [
        [
            _named(strategy),
            *(
                numbers.spread([value(run) for run in numbers.runs_of(result, setting, strategy)]).text(1)
                for _, value in numbers.TOTALS.values()
            ),
        ]
        for strategy in numbers.strategies_run(result, setting)
    ]
    return _table(["strategy", *(heading for heading, _ in numbers.TOTALS.values())], rows)


def _budgets(result: StudyResult, setting: str) -> str:
    def beside(text: str, ratio: float | None) -> str:
        return text if ratio is None else f"{text} ({ratio:.2f})"

    rows = [
        [
            strategy,
            cost.tier,
            cost.size,
            beside(format_count(cost.parameters), ratios["parameters"]),
            beside(format_bytes(cost.bytes_down), ratios["bytes_down"]),
            beside(format_count(cost.macs), ratios["macs"]),
            format_count(cost.train_macs),
        ]
        for strategy, costs in numbers.relative_costs(result, setting).items()
        for cost, ratios in costs
    ]
    heading = ["strategy", "tier", "model of a client", "parameters", "one way", "MAC of a prediction"]
    return _table([*heading, "forward MAC of a training sample"], rows)


def _grid_blocks(result: StudyResult) -> Iterable[str]:
    yield (
        "Every strategy's learning rate is the best of the same grid in each setting, by the mean of the tiers on "
        f"{result.study.tuning_samples} held-out training samples, in percent; the test set has no part in it."
    )
    for setting in _settings(result):
        rows = []
        for strategy in result.study.strategies:
            trials = [t for t in result.trials if (t.setting, t.strategy) == (setting, strategy)]
            cells = ["diverged" if t.accuracy is None else f"{100 * t.accuracy:.1f}" for t in trials]
            rows.append([strategy, *(f"**{c}**" if t.chosen else c for t, c in zip(trials, cells, strict=True))])
        yield _table([setting, *(f"{rate:g}" for rate in result.study.learning_rates)], rows)


def _config_blocks(result: StudyResult) -> Iterable[str]:
    yield "The config of each setting; strategies differ in `strategy.name` and the learning rate, runs in the seed."
    for setting, config in result.study.settings.items():
        yield f"**{setting}**"
        yield f"```toml\n{config_to_toml(portable(config)).strip()}\n```"


def _environment(result: StudyResult) -> str:
    found: dict[str, set[str]] = {}
    for run in result.runs:
        for name, value in run.environment.items():
            found.setdefault(name, set()).add(value)
    return ", ".join(f"{name}: {' and '.join(sorted(values))}" for name, values in found.items())


def _named(strategy: str) -> str:
    return f"*{strategy}*" if strategy == numbers.UPPER_BOUND else strategy


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _plain(text: str) -> str:
    """Text of the user's as one paragraph of text: no markup of it is read as Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|&~])", r"\\\1", " ".join(text.split()))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    alignment = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, alignment, *rows))


def _html(title: str, markdown: str, figures: dict[str, Path]) -> str:
    """One page with its figures inside."""
    from html import escape
    from urllib.parse import quote

    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for name, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode("ascii")
        body = body.replace(f'src="{quote(name)}"', f'src="data:image/png;base64,{data}"')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _csv(result: StudyResult) -> str:
    """One row for each run and evaluated round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("total_bytes_down", "total_bytes_up", "total_macs", "total_simulated_seconds")
    writer.writerow(["setting", "strategy", "seed", "learning_rate", "round", "model", "accuracy", "loss", *names])
    for run in result.runs:
        rate = run.config.local.learning_rate
        for record in run.history:
            for model, accuracy in record.get("accuracy", {}).items():
                totals = [record[name] for name in names]
                metrics = [model, accuracy, record["loss"][model]]
                writer.writerow([run.setting, run.strategy, run.seed, rate, record["round"], *metrics, *totals])
    return text.getvalue()


def _replace(file: Path, text: str) -> None:
    """A file that is there whole, the old one or the new one."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
