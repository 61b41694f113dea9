"""Progress of the rounds: a bar and a curve on a terminal, about ten lines anywhere else."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fedhm_jax.results import Record
from fedhm_jax.score import ACCURACY, Score

_GLOBAL, _WORST, _LOSS = "global", "worst", "loss"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_LONGEST_CURVE = 30


@contextmanager
def round_progress(
    rounds: int, console: Console | None = None, score: Score = ACCURACY
) -> Iterator[Callable[[Record], None]]:
    """Shows how far a run has come.

    That is rounds, elapsed and remaining time, the metric of the global model and of the tier that is worst off, and
    training loss; on a terminal also rounds a minute and the global model's metric as a curve.

    Args:
        rounds: number of rounds of the run.
        console: where to show it; standard error if None, so that standard output holds results alone.
        score: the metric.

    Yields:
        A function to call with every round's record.

    Example:
        >>> import sys
        >>> with round_progress(2, Console(file=sys.stdout, width=80)) as show:
        ...     show({"round": 1, "seconds": 3.0, "clients": {"f1": 2}, "train_loss": {"f1": 0.5}})
        round 1/2, training loss 0.500, 0:00:00 elapsed
    """
    console = Console(stderr=True) if console is None else console
    latest: dict[str, str] = {}
    if not console.is_terminal:
        started = time.monotonic()
        ends: list[float] = []

        def print_line(record: Record) -> None:
            done = record["round"]
            latest.update(_metrics(record, score))
            ends.append(time.monotonic())
            # one line per tenth of the run: print when this round enters a new tenth
            if done in (1, rounds) or done * 10 // rounds > (done - 1) * 10 // rounds:
                words = [f"round {done}/{rounds}", *_in_words(latest), f"{format_clock(ends[-1] - started)} elapsed"]
                if len(ends) > 1:  # the first round compiles, so its time says nothing about the others
                    words.append(f"{format_clock((ends[-1] - ends[0]) / (len(ends) - 1) * (rounds - done))} left")
                console.print(", ".join(words), soft_wrap=True, highlight=False)

        yield print_line
        return

    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.description}"), console=console)
    task = bar.add_task("", total=rounds)
    reached: list[float] = []
    below = Text("compiling")
    speaks_unicode = console.encoding.lower().startswith("utf")
    # The bar is not started by itself: it is shown by what shows the line below it too.
    with Live(Group(bar, below), console=console, refresh_per_second=4):

        def move_bar(record: Record) -> None:
            done = record["round"]
            latest.update(_metrics(record, score))
            # A curve has no place for what is no number.
            if math.isfinite((shown := record.get(score.metric, {})).get("global", math.nan)):
                reached.append(shown["global"])
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, description="" if speed is None else f"{60 * speed:.3g} rounds a minute")
            curve = f"  {sparkline(reached[-_LONGEST_CURVE:])}" if speaks_unicode and len(reached) > 1 else ""
            below.plain = ", ".join(_in_words(latest)) + curve

        yield move_bar


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a curve of one line, from the smallest to the largest of them.

    Args:
        values: the numbers.

    Returns:
        A character a number.

    Example:
        >>> sparkline([0.0, 0.5, 1.0, 1.0]), sparkline([2.0, 2.0])
        ('▁▅██', '▁▁')
    """
    low, high = min(values, default=0.0), max(values, default=0.0)
    step = (high - low) / (len(_HEIGHTS) - 1) or 1.0
    return "".join(_HEIGHTS[int((value - low) / step + 0.5)] for value in values)


def print_notice(notice: str) -> None:
    """Says something that a run decided for itself, in a line on standard error; a bar that is shown stays below it.

    Args:
        notice: what.
    """
    print(f"fedhm: {notice}", file=sys.stderr)


def mean_train_loss(record: Record) -> float | None:
    """Mean training loss over the clients that a round trained.

        sum_tiers clients * train_loss / sum_tiers clients

    Args:
        record: the round.

    Returns:
        The loss in nats, or None if nobody trained.

    Example:
        >>> mean_train_loss({"clients": {"f1": 1, "f2": 3}, "train_loss": {"f1": 2.0, "f2": 1.0}})
        1.25
    """
    trained = {tier: count for tier, count in record["clients"].items() if record["train_loss"][tier] is not None}
    clients = sum(trained.values())
    return sum(count * record["train_loss"][tier] for tier, count in trained.items()) / clients if clients else None


def _metrics(record: Record, score: Score) -> dict[str, str]:
    """What the round has to tell; a round without evaluation leaves the metric of the last one standing."""
    metrics = {}
    tiers = dict(record.get(score.metric, {}))
    if "global" in tiers:
        metrics[_GLOBAL] = f"global {score.name} {score.shown(tiers.pop('global'))}"
    if tiers:
        name = score.worst(tiers)
        metrics[_WORST] = f"worst tier {score.shown(tiers[name])} ({name})"
    loss = mean_train_loss(record)
    if loss is not None:
        metrics[_LOSS] = f"training loss {loss:.3f}"
    return metrics


def _in_words(metrics: dict[str, str]) -> list[str]:
    return [metrics[name] for name in (_GLOBAL, _WORST, _LOSS) if name in metrics]


def format_clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    Args:
        seconds: a duration.

    Returns:
        The text.

    Example:
        >>> format_clock(3725)
        '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
