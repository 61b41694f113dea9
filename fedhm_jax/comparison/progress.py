"""Progress of a study: a bar on a terminal, a line whenever another group of runs begins anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedhm_jax.reporting import format_clock
from fedhm_jax.results import Record


@contextmanager
def study_progress(rounds: int, shown: bool, console: Console | None = None) -> Iterator[Callable[[str, Record], None]]:
    """Shows how far a study has come, in rounds of all its runs together.

    Args:
        rounds: rounds that are still to be run.
        shown: False shows nothing.
        console: where; standard error if None.

    Yields:
        A function to call with the title of the runs at work and each of their records.

    Example:
        >>> import sys
        >>> with study_progress(3, True, Console(file=sys.stdout, width=80)) as show:
        ...     show("iid, fedhm", {"round": 1})
        3 rounds to run
        iid, fedhm: round 1 of 3 in all, 0:00:00 elapsed
    """
    console = Console(stderr=True) if console is None else console
    if not shown:
        yield lambda title, record: None
        return
    if not console.is_terminal:
        console.print(f"{rounds} round{'' if rounds == 1 else 's'} to run", highlight=False)
        started, done, current = time.monotonic(), 0, ""

        def print_line(title: str, record: Record) -> None:
            nonlocal done, current
            done += 1
            if title != current:
                current, elapsed = title, time.monotonic() - started
                words = [f"{title}: round {done} of {rounds} in all", f"{format_clock(elapsed)} elapsed"]
                if done > 1:
                    words.append(f"about {format_clock(elapsed / done * (rounds - done))} left")
                console.print(", ".join(words), soft_wrap=True, highlight=False)

        yield print_line
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("", total=rounds)
        yield lambda title, record: bar.update(task, advance=1, description=f"{title}, round {record['round']}")
