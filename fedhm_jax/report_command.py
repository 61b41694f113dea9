"""``fedhm report RUN...``: any finished runs side by side, as one page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedhm_jax.files import check_new_file, replacing, writing


def report(arguments: Sequence[str]) -> int:
    """Writes the page.

    Args:
        arguments: those after ``fedhm report``.

    Returns:
        The exit code.

    Raises:
        ConfigError: a folder is none of a finished run, or the file exists already or is no .html.
        WriteError: the file could not be written.
    """
    parser = argparse.ArgumentParser(
        prog="fedhm report",
        description="Writes one HTML page about finished runs side by side: accuracy by tier, what each took, what "
        "they differ in. Runs that differ in their seed alone become one row. The page needs nothing beside it.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs, also of studies'")
    default = Path("report.html")
    text = f"a .html file that does not exist yet (default: {default})"
    parser.add_argument("--to", type=Path, metavar="FILE", default=default, help=text)
    asked = parser.parse_args(arguments)
    check_new_file(asked.to, ".html")

    from fedhm_jax.comparison import runs_page

    text = runs_page(asked.runs)
    with writing("the report", asked.to), replacing(asked.to) as part:
        part.write_text(text, encoding="utf-8")
    print(f"Written to {asked.to}", file=sys.stderr)
    return 0
