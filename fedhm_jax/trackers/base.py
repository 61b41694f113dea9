"""What a tracker is, and what all of them write."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from fedhm_jax.errors import ConfigError
from fedhm_jax.results import Record, RunPlan

Tracker = Callable[[RunPlan], AbstractContextManager[Callable[[Record], None]]]
"""``tracker(plan)`` is entered once all checks have passed, gives a function to call with every round's record, and is
left when the run ends, however it ends."""


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by name, those of tiers and models as ``"accuracy/f4"``.

    Args:
        record: one round's; what is unknown (None) is left out.

    Returns:
        Numbers by name.

    Example:
        >>> scalars({"round": 3, "train_loss": {"f1": 0.5, "f2": None}})
        {'round': 3.0, 'train_loss/f1': 0.5}
    """
    numbers: dict[str, float] = {}
    for name, value in record.items():
        parts = (
            {f"{name}/{part}": item for part, item in value.items()} if isinstance(value, Mapping) else {name: value}
        )
        numbers |= {part: float(item) for part, item in parts.items() if item is not None}
    return numbers


def library(name: str, tracker: str) -> Any:
    """A tracker's library.

    Args:
        name: of the module.
        tracker: who needs it.

    Returns:
        The module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        allowed = f"one whose library is installed: pip install 'fedhm-jax[trackers]', or {name} alone"
        raise ConfigError.of("output.trackers", tracker, allowed) from error
