"""Progress of a study: a bar on a terminal, a line whenever another group of runs begins anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedhm_jax.reporting import format_clock
from fedhm_jax.results import Record


class StudyProgress(NamedTuple):
    """What to tell as a study goes on.

    Attributes:
        record: ``record(title, record)``, with the title of the runs at work and each of their records.
        more: ``more(rounds)``, when there is more to be run than was known.
    """

    record: Callable[[str, Record], None]
    more: Callable[[int], None]


@contextmanager
def study_progress(rounds: int, shown: bool, console: Console | None = None) -> Iterator[StudyProgress]:
    """Shows how far a study has come, in rounds of all its runs together.

    Args:
        rounds: rounds that are still to be run.
        shown: False shows nothing.
        console: where; standard error if None.

    Yields:
        What to call.

    Example:
        >>> import sys
        >>> with study_progress(3, True, Console(file=sys.stdout, width=80)) as progress:
        ...     progress.record("iid, fedhm", {"round": 1})
        3 rounds to run
        iid, fedhm: round 1 of 3 in all, 0:00:00 elapsed
    """
    console = Console(stderr=True) if console is None else console
    if not shown:
        yield StudyProgress(lambda title, record: None, lambda rounds: None)
        return
    if not console.is_terminal:
        console.print(f"{rounds} round{'' if rounds == 1 else 's'} to run", highlight=False)
        started, done, current = time.monotonic(), 0, ""

        def print_line(title: str, record: Record) -> None:
            nonlocal done, current, rounds
            done += 1
            rounds = max(rounds, done)  # runs that could not go on after all have begun anew
            if title != current:
                current, elapsed = title, time.monotonic() - started
                words = [f"{title}: round {done} of {rounds} in all", f"{format_clock(elapsed)} elapsed"]
                if done > 1:
                    words.append(f"about {format_clock(elapsed / done * (rounds - done))} left")
                console.print(", ".join(words), soft_wrap=True, highlight=False)

        def more(added: int) -> None:
            nonlocal rounds
            rounds += added

        yield StudyProgress(print_line, more)
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("", total=rounds)
        yield StudyProgress(
            lambda title, record: bar.update(task, advance=1, description=f"{title}, round {record['round']}"),
            lambda added: bar.update(task, total=(bar.tasks[task].total or 0) + added),
        )
