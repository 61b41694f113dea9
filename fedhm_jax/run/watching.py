"""Who watches a run: told in turn, and what follows when one of them asks for the end or fails."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, TypeVar

from fedhm_jax.errors import CallbackError, StopSimulation
from fedhm_jax.results import Record, RunPlan
from fedhm_jax.trackers import Tracker

Told = TypeVar("Told")


def tell(callbacks: Sequence[Callable[[Told], object]], news: Told, when: str) -> bool:
    """Calls everyone with the news, also after one of them has asked for the end.

    Args:
        callbacks: who.
        news: what.
        when: in words, for the sentence about one that fails.

    Returns:
        Whether anyone has raised `StopSimulation`.

    Raises:
        CallbackError: one has raised another exception, which is its cause.

    Example:
        >>> tell([dict], 3, "in round 3")
        Traceback (most recent call last):
        fedhm_jax.errors.CallbackError: the callback dict of builtins raised TypeError in round 3: 'int' object is not \
iterable
    """
    stop = False
    for callback in callbacks:
        try:
            callback(news)
        except StopSimulation:
            stop = True
        except Exception as error:
            raise CallbackError.of(_name(callback), when, error) from error
    return stop


def enter(stack: ExitStack, tracker: Tracker, plan: RunPlan) -> Callable[[Record], None]:
    """Starts a tracker.

    Args:
        stack: ends it.
        tracker: the tracker.
        plan: of the run.

    Returns:
        To be called with every record.

    Raises:
        CallbackError: it could not start.
    """
    try:
        return stack.enter_context(tracker(plan))
    except Exception as error:
        raise CallbackError.of(_name(tracker), "before the first round", error) from error


def end_early(blocks: Generator[Any, None, None], reason: StopSimulation | CallbackError) -> None:
    """Ends the rounds of a run; those who pass them on learn why, and may write a checkpoint.

    Args:
        blocks: from `fedhm_jax.run.host_loop.run_rounds`, at a block.
        reason: raised there.
    """
    with suppress(type(reason)):
        blocks.throw(reason)


def _name(callback: Callable[..., object]) -> str:
    if isinstance(callback, partial):
        return _name(callback.func)
    kind = type(callback)
    name, home = getattr(callback, "__qualname__", kind.__qualname__), getattr(callback, "__module__", kind.__module__)
    return f"{name} of {home}"
