"""A benchmark's results: tables on the terminal, and a Markdown and a CSV file that name the machine."""

import csv
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
THREAD_SETTINGS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS")


class ResultTable(NamedTuple):
    """A table of text.

    Attributes:
        title: one line.
        columns: headings.
        rows: cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Report(NamedTuple):
    """What one benchmark found.

    Attributes:
        script: name of the benchmark's module.
        command: the command line that ran it.
        tables: to read.
        notes: paragraphs under the tables: what was measured, formulas.
        measurements: to compute with; one mapping a row of the CSV file, all with the same keys.
    """

    script: str
    command: str
    tables: Sequence[ResultTable]
    notes: Sequence[str]
    measurements: Sequence[Mapping[str, Any]]


def show(report: Report) -> None:
    """Prints a report's tables and notes to standard output.

    Args:
        report: what to print.
    """
    # Wide enough that a cell breaks between its median and its spread, and nowhere else.
    console = Console(width=max(Console().width, 15 * max(len(table.columns) for table in report.tables)))
    for table in report.tables:
        view = Table(title=table.title, title_justify="left", show_lines=True)
        for index, heading in enumerate(table.columns):
            view.add_column(heading, justify="left" if index == 0 else "right")
        for row in table.rows:
            view.add_row(*row)
        console.print(view)
    for note in report.notes:
        console.print(f"\n{note}", markup=False, highlight=False)


class Machine(NamedTuple):
    """Where something was measured.

    Attributes:
        device: ``cpu``, or the accelerator's name as a file name can hold it.
        description: one line.
    """

    device: str
    description: str


def write(report: Report, folder: Path, where: Machine | None = None) -> Path:
    """Writes ``<script>-<device>.md`` and ``.csv``, in place of the same benchmark's earlier results on such a device.

    Args:
        report: what to write.
        folder: created if missing.
        where: it was measured; here if None.

    Returns:
        The Markdown file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = where or Machine(device_slug(), machine())
    path = folder / f"{report.script}-{where.device}.md"
    lines = [
        f"# {report.script}",
        "",
        f"    {report.command}",
        "",
        f"{date.today().isoformat()}; commit {commit()}; {where.description}",
        "",
    ]
    for table in report.tables:
        lines += [f"## {table.title}", "", *_markdown_rows(table), ""]
    for note in report.notes:
        lines += [note, ""]
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(report.measurements[0]))
        writer.writeheader()
        writer.writerows(report.measurements)
    return path


def machine() -> str:
    """Processor, cores, device, versions, and the environment variables that decide on threads, in one line."""
    device = jax.devices()[0]
    settings = [f"{name}={os.environ[name]}" for name in THREAD_SETTINGS if name in os.environ]
    return "; ".join(
        (
            f"{processor()}, {os.cpu_count()} cores",
            f"device {device.platform} ({device.device_kind})",
            f"jax {jax.__version__}, Python {platform.python_version()}",
            *settings,
        )
    )


def processor() -> str:
    """Its name, as the system has it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is measured, ``-dirty`` behind it if files differ; ``unknown`` outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def device_slug() -> str:
    """``cpu``, or the accelerator's name as a file name can hold it."""
    device = jax.devices()[0]
    return "cpu" if device.platform == "cpu" else re.sub(r"[^a-z0-9]+", "-", device.device_kind.lower()).strip("-")


def _markdown_rows(table: ResultTable) -> list[str]:
    rule = ("---", *("---:" for _ in table.columns[1:]))
    return [f"| {' | '.join(cells)} |" for cells in (table.columns, rule, *table.rows)]
