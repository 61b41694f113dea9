"""A run's results as tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from fedhm_jax.reporting.privacy import privacy_text
from fedhm_jax.reporting.units import format_bytes, format_count
from fedhm_jax.results import Record, SimulationResult, TierCost


def metrics_table(result: SimulationResult) -> Table:
    """What the task measures on the test set after the last round, of the global model and of every tier's model.

    Args:
        result: the finished run.

    Returns:
        A table with a row for the global model and one per tier.
    """
    final = result.final
    rounds = len(result.history)
    table = Table(
        title=f"Test set after {rounds} round{'s' if rounds != 1 else ''}", title_justify="left", caption_justify="left"
    )
    if "worst_client" in final:
        table.caption = f"Worst client, on its own share of the test set: {_fixed(final['worst_client'], 100, 2)} %"
    table.add_column("model")
    metrics = [metric for metric, values in final.items() if isinstance(values, Mapping) and "global" in values]
    shown = {**_SHOWN, result.score.metric: (result.score.heading, result.score.factor, result.score.decimals + 1)}
    for metric in metrics:
        table.add_column(shown.get(metric, (metric, 1.0, 4))[0], justify="right")
    for name in ("global", *(cost.tier for cost in result.costs)):
        cells = [_fixed(final[metric][name], *shown.get(metric, (metric, 1.0, 4))[1:]) for metric in metrics]
        table.add_row(name, *cells, end_section=name == "global")
    return table


_SHOWN = {"accuracy": ("accuracy [%]", 100.0, 2), "top5": ("top-5 [%]", 100.0, 2), "loss": ("loss [nats]", 1.0, 4)}
"""Heading, factor and decimals of what is measured."""


def cost_table(costs: Sequence[TierCost], history: Sequence[Record] = ()) -> Table:
    """What one client of each tier carries in one round, and below it what all rounds together took.

    Args:
        costs: one per tier.
        history: the rounds that were run; without any, the totals are left out.

    Returns:
        A table with a row per tier.
    """
    table = Table(title="Costs of one client in one round", title_justify="left", caption_justify="left")
    table.add_column("tier")
    table.add_column("model of a client")
    for heading in ("clients", "parameters", "MAC per sample", "down", "up"):
        table.add_column(heading, justify="right")
    for cost in costs:
        table.add_row(
            cost.tier,
            cost.size,
            f"{cost.clients:g}",
            format_count(cost.parameters),
            format_count(cost.macs),
            format_bytes(cost.bytes_down),
            format_bytes(cost.bytes_up),
        )
    if history:
        last = history[-1]
        down, up = format_bytes(last["total_bytes_down"]), format_bytes(last["total_bytes_up"])
        table.caption = f"Whole run: {down} down, {up} up, {format_count(last['total_macs'])} forward MAC"
    return table


_FAILURES = {"stragglers": "late", "dropouts": "dropped out", "rejected": "rejected"}


def failure_table(history: Sequence[Record]) -> Table | None:
    """How many sampled clients were merged, and how many were left out and why, over all rounds.

    Args:
        history: the rounds that were run.

    Returns:
        A table with a row per tier; None if nobody was left out.
    """
    left_out = {name: [record.get(name, {}) for record in history] for name in _FAILURES}
    if not any(count for rounds in left_out.values() for counts in rounds for count in counts.values()):
        return None
    table = Table(title="Sampled clients, all rounds", title_justify="left", caption_justify="left")
    table.add_column("tier")
    for heading in ("merged", *_FAILURES.values()):
        table.add_column(heading, justify="right")
    for tier in history[-1]["clients"]:
        merged = sum(record["clients"][tier] for record in history)
        failed = [sum(counts.get(tier, 0) for counts in rounds) for rounds in left_out.values()]
        table.add_row(tier, *(str(count) for count in (merged, *failed)))
    empty = [str(record["round"]) for record in history if not any(record["clients"].values())]
    if empty:
        shown = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        table.caption = f"The model was kept in {len(empty)} round{'s' * (len(empty) > 1)} without a client: {shown}"
    return table


def print_result(result: SimulationResult) -> None:
    """Prints the tables, the privacy guarantee and the folder of a finished run to standard output.

    Args:
        result: the finished run.
    """
    console = Console()
    console.print(metrics_table(result))
    console.print(cost_table(result.costs, result.history))
    if (failures := failure_table(result.history)) is not None:
        console.print(failures)
    if (guarantee := privacy_text(result)) is not None:
        console.print(guarantee, markup=False, highlight=False)
    if result.folder is not None:
        # a path must survive copying: no wrapping, no markup
        console.print(f"Written to {result.folder}", soft_wrap=True, markup=False, highlight=False)


def _fixed(value: float | None, factor: float, decimals: int) -> str:
    return "-" if value is None else f"{factor * value:.{decimals}f}"
