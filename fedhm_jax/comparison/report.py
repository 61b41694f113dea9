"""The report of a comparison as Markdown and as one self-contained HTML page, and its table for the terminal."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedhm_jax.comparison import numbers
from fedhm_jax.comparison.centralised import CENTRALISED
from fedhm_jax.comparison.figures import curves_drawing, tiers_drawing
from fedhm_jax.comparison.local_only import LOCAL_ONLY
from fedhm_jax.comparison.provenance import config_blocks, environment, grid_blocks
from fedhm_jax.comparison.study import RATE, StudyResult
from fedhm_jax.comparison.variants import grid_of, value_name
from fedhm_jax.config import SimulationConfig, number_of_clients
from fedhm_jax.page import Drawing, as_svg, html_page, listed, plain, table
from fedhm_jax.reporting import format_bytes, format_count
from fedhm_jax.score import Score


def write_comparison(result: StudyResult, folder: Path) -> None:
    """Writes report.md, report.html, results.csv and figures/ into a study's folder, in place of older ones; and
    worst_clients.csv where runs were asked for their worst client.

    Args:
        result: the study; settings without a finished run are left out.
        folder: where.
    """
    from fedhm_jax.reporting import save_figure

    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawings = {name: drawing for setting in settings_run(result) for name, drawing in drawn(result, setting).items()}
    for name, drawing in drawings.items():
        file = folder / name
        part = file.with_name(f"{file.name}.part")
        save_figure(drawing.figure, part, dpi=90)
        os.replace(part, file)
    text = comparison_markdown(result)
    _replace(folder / "report.md", text)
    _replace(folder / "report.html", report_page(result.study.name, text, drawings))
    _replace(folder / "results.csv", _csv(result))
    if any(_with_worst_client(result, setting) for setting in settings_run(result)):
        _replace(folder / "worst_clients.csv", _worst_clients_csv(result))


def print_comparison(result: StudyResult) -> None:
    """Prints the table of every setting, and where the report is, to standard output.

    Args:
        result: the study.
    """
    console = Console()
    for setting in settings_run(result):
        console.print(comparison_table(result, setting))
    if result.folder is not None:
        console.print(f"Report: {result.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)


def comparison_table(result: StudyResult, setting: str) -> Table:
    """What every strategy has reached in one setting after the last round; the report has that of every tier.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        A table with a row per strategy.
    """
    shown_here, score = (*numbers.COMPARED, numbers.WORST_CLIENT), numbers.score_of(result, setting)
    unit = f" [{score.unit}]" if score.unit else ""
    columns = [name for name in numbers.score_columns(result, setting) if name in shown_here]
    shown = Table(title=f"{setting}: test {score.name} after the last round{unit}", title_justify="left")
    shown.add_column("strategy")
    for column in columns:
        shown.add_column(column, justify="right")
    for strategy, spreads in numbers.score_spreads(result, setting).items():
        shown.add_row(strategy, *(spreads[column].text(score.decimals + 1) for column in columns))
    return shown


def comparison_markdown(result: StudyResult) -> str:
    """The whole report as Markdown; figures are named by their paths beside it.

    Args:
        result: the study.

    Returns:
        The text. It holds no date, so that the same runs give the same report.
    """
    study = result.study
    wanted = len(study.settings) * len(study.names) * len(study.seeds)
    unfinished = [] if len(result.runs) == wanted else [f"**{len(result.runs)} of {wanted} runs finished.**"]
    blocks = [f"# {plain(study.name)}", *unfinished, plain(study.description)]
    blocks.append(
        f"{_metrics(result)} on the test set after the last round, not the best one; mean ± sample standard deviation "
        f"over {len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''} ({', '.join(map(str, study.seeds))})."
    )
    for setting in settings_run(result):
        blocks += setting_blocks(result, setting)
    if result.trials:
        blocks += ["## Tuning", *grid_blocks(result, settings_run(result))]
    blocks += ["## Configs", *config_blocks(result), "## Made with", environment(result)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _metrics(result: StudyResult) -> str:
    found = dict.fromkeys(run.score for run in result.runs)
    words = [score.name if score.higher_is_better else f"{score.name} (less is better)" for score in found]
    return listed(words).capitalize() if words else "Accuracy"


def settings_run(result: StudyResult) -> list[str]:
    """Settings with at least one finished run, in the study's order."""
    return [setting for setting in result.study.settings if any(run.setting == setting for run in result.runs)]


def drawn(result: StudyResult, setting: str) -> dict[str, Drawing]:
    """The figures of a setting.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Drawings by the paths that `setting_blocks` names them with.
    """
    draws = {"curves": curves_drawing, "tiers": tiers_drawing}
    return {f"figures/{setting}-{name}.png": draw(result, setting) for name, draw in draws.items()}


def report_page(title: str, markdown: str, drawings: Mapping[str, Drawing]) -> str:
    """A report as one HTML page.

    Args:
        title: of the window.
        markdown: the report.
        drawings: its figures, by the paths that it names them with.

    Returns:
        The HTML.
    """
    figures = {name: as_svg(drawing, f"figure-{index}") for index, (name, drawing) in enumerate(drawings.items())}
    return html_page(title, markdown, figures)


def setting_blocks(result: StudyResult, setting: str) -> list[str]:
    """What a report says of one setting.

    Args:
        result: the study.
        setting: one of its settings.

    Returns:
        Blocks of Markdown.
    """
    shown = numbers.score_of(result, setting).name.capitalize()
    return [
        f"## {setting}",
        _in_words(result.study.settings[setting], _handed_over(result, setting)),
        _reached(result, setting),
        "Bold is the best of a column; strategies in italics are frames, and left out.",
        *_bounds(result, setting),
        *_worst_client(result, setting),
        f"![{shown} of every tier](figures/{setting}-tiers.png)",
        f"![{shown} against rounds, bytes, work and time](figures/{setting}-curves.png)",
        *_verdict_blocks(result, setting),
        "### What a whole run took",
        _totals(result, setting),
        "### Budgets",
        f"What one client carries; in brackets the ratio to {numbers.reference(result)}'s client of the same tier.",
        _budgets(result, setting),
    ]


def _bounds(result: StudyResult, setting: str) -> list[str]:
    shown = [name for name in numbers.strategies_run(result, setting) if name in numbers.bounds(result, setting)]
    full = [f"*{name}*" for name in shown if name not in (CENTRALISED, LOCAL_ONLY)]
    sentences = []
    if full:
        sentences.append(
            f"{listed(full)} train{'s' if len(full) == 1 else ''} the full model on every client, which no weak device "
            "could: an upper bound, not a rival."
        )
    if CENTRALISED in shown:
        sentences.append(
            f"*{CENTRALISED}* trains the full model on all data in one place, for as many rounds, each with as many "
            "samples as a cohort trains on in the mean, in batches of the same size and with the same optimizer. Its "
            "costs are those of one device of the strongest tier that holds all data."
        )
    if LOCAL_ONLY in shown:
        sentences.append(
            f"*{LOCAL_ONLY}* trains every client alone on its own samples, from the first model of its tier, for as "
            "many rounds as a client takes part in on average. The accuracy of a tier is the mean over its clients, "
            "each with its own model; there is no global one, and nothing is sent."
        )
    return sentences


def _with_worst_client(result: StudyResult, setting: str) -> bool:
    return numbers.WORST_CLIENT in numbers.score_columns(result, setting)


def _worst_client(result: StudyResult, setting: str) -> list[str]:
    if not _with_worst_client(result, setting):
        return []
    return [
        "Worst client: the lowest accuracy of a client on its own share of the test set, which is the test set in the "
        "mix of classes that the client trains on; each client is judged by the model of its tier."
    ]


def _handed_over(result: StudyResult, setting: str) -> Mapping[str, str]:
    return next(run.handed_over for run in result.runs if run.setting == setting)


def _in_words(config: SimulationConfig, handed_over: Mapping[str, str]) -> str:
    deal = config.partition
    data = plain(handed_over.get("data", config.data.name))
    model = plain(handed_over.get("model", config.model.name).rpartition(".")[2])
    skew = f", alpha {deal.alpha:g}" if deal.method in ("dirichlet", "dirichlet_equal", "quantity") else ""
    work = f"{config.local.steps} steps" if config.local.steps else f"{config.local.epochs} local epochs"
    clients, share = number_of_clients(deal), config.server.participation
    sampled = f"{share:g} of them" if clients is None else max(round(share * clients), 1)
    return (
        f"{data}, {model}, {'all' if clients is None else clients} clients "
        f"({deal.method}{skew}), {config.server.cohort_size or sampled} a round, "
        f"{config.server.rounds} rounds of {work}, batch {config.local.batch_size}."
    )


def _reached(result: StudyResult, setting: str) -> str:
    columns, best = numbers.score_columns(result, setting), numbers.best_strategies(result, setting)

    decimals = numbers.score_of(result, setting).decimals + 1

    def cell(strategy: str, column: str, value: numbers.Spread) -> str:
        return f"**{value.text(decimals)}**" if best.get(column) == strategy else value.text(decimals)

    rows = [
        [_named(result, setting, strategy), *(cell(strategy, column, spreads[column]) for column in columns)]
        for strategy, spreads in numbers.score_spreads(result, setting).items()
    ]
    return table(["strategy", *columns], rows)


def _verdict_blocks(result: StudyResult, setting: str) -> list[str]:
    found, score = numbers.verdicts(result, setting), numbers.score_of(result, setting)
    decimals = score.decimals + 1
    if not found:
        return []
    rivals = list(dict.fromkeys(verdict.rival for verdict in found))
    by_rival = {rival: [verdict for verdict in found if verdict.rival == rival] for rival in rivals}
    columns = [verdict.column for verdict in by_rival[rivals[0]]]
    rows = [
        [rival, *(_difference(numbers.reference(result), verdict, decimals) for verdict in by_rival[rival])]
        for rival in rivals
    ]
    decided = [verdict for verdict in found if verdict.winner is not None]
    ours = numbers.reference(result)
    return [
        f"### Does {ours} win?",
        f"{ours} minus rival in {_difference_in(score)}, paired by seed: mean ± half the width of the "
        f"{100 * numbers.CONFIDENCE:g} % interval of Student's t; level if the interval holds zero. With fewer than "
        f"{numbers.FEWEST_SEEDS} seeds there is no interval and no verdict. Every cell is a test of its own: of twenty "
        "that are level in truth, one is expected to come out otherwise.",
        table(["rival", *columns], rows),
        " ".join(_sentence(ours, column, decided) for column in columns if decided),
    ]


def _sentence(ours: str, column: str, decided: list[numbers.Verdict]) -> str:
    words = {"reference": "beats", "rival": "loses to", "tie": "is level with"}
    groups = {
        winner: [verdict.rival for verdict in decided if (verdict.column, verdict.winner) == (column, winner)]
        for winner in words
    }
    parts = [f"{words[winner]} {listed(names)}" for winner, names in groups.items() if names]
    return f"On the {column if column != 'global' else 'global model'} {ours} {'; it '.join(parts)}."


def _difference_in(score: Score) -> str:
    in_words = "points" if score.unit == "%" else score.heading
    return in_words if score.higher_is_better else f"{in_words}, of which less is better"


def _difference(ours: str, verdict: numbers.Verdict, decimals: int) -> str:
    if verdict.margin is None:
        return f"{verdict.difference.mean:.{decimals}f} ({verdict.seeds} seed{'s' if verdict.seeds > 1 else ''})"
    word = {"reference": ours, "rival": "rival", "tie": "level"}[verdict.winner or "tie"]
    return f"{verdict.difference.mean:.{decimals}f} ± {verdict.margin:.{decimals}f} ({word})"


def _totals(result: StudyResult, setting: str) -> str:
    def cell(values: list[float]) -> str:
        found = numbers.spread(values)
        return found.text(1 if found.mean >= 1 else 4)

    rows = []
    for strategy in numbers.strategies_run(result, setting):
        runs = numbers.runs_of(result, setting, strategy)
        cells = [cell([value(run) for run in runs]) for _, value in numbers.TOTALS.values()]
        rows.append([_named(result, setting, strategy), *cells])
    return table(["strategy", *(heading for heading, _ in numbers.TOTALS.values())], rows)


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
    return table([*heading, "forward MAC of a training sample"], rows)


def _named(result: StudyResult, setting: str, strategy: str) -> str:
    return f"*{strategy}*" if strategy in numbers.bounds(result, setting) else strategy


def _csv(result: StudyResult) -> str:
    """One row for each run and evaluated round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("total_bytes_down", "total_bytes_up", "total_macs", "total_simulated_seconds")
    measured = list(dict.fromkeys([*(run.score.metric for run in result.runs), "loss"]))
    searched = {field: None for variant in result.study.variants for field in grid_of(result.study, variant)}
    fields = [field for field in searched if field != RATE]
    heading = ["setting", "strategy", "seed", "learning_rate", "round", "model", *measured, *names, *fields]
    writer.writerow(heading)
    for run in result.runs:
        rate = run.config.local.learning_rate
        chosen = [value_name(_value(run.config, field)) for field in fields]
        for record in run.history:
            for model in record.get("loss", ()):
                totals = [record[name] for name in names]
                metrics = [model, *(record[name][model] if name in record else "" for name in measured)]
                writer.writerow(
                    [run.setting, run.strategy, run.seed, rate, record["round"], *metrics, *totals, *chosen]
                )
    return text.getvalue()


def _worst_clients_csv(result: StudyResult) -> str:
    """One row for each run and evaluated round."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", "strategy", "seed", "round", "worst_client"])
    writer.writerows(
        [run.setting, run.strategy, run.seed, record["round"], record["worst_client"]]
        for run in result.runs
        for record in run.history
        if "worst_client" in record
    )
    return text.getvalue()


def _value(config: SimulationConfig, field: str) -> object:
    section, _, key = field.partition(".")
    return getattr(getattr(config, section), key)


def _replace(file: Path, text: str) -> None:
    """A file that is there whole, the old one or the new one."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
