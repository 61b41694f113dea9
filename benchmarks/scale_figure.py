"""The curves of `benchmarks.scale` as one figure: memory and throughput against cohort and registered clients."""

from collections.abc import Sequence
from typing import Any

from fedhm_jax.reporting.figures import new_figure

AXES = {"cohort": "clients of a round", "registered": "registered clients"}
"""Curves and what their points differ in."""


def scale_figure(rows: Sequence[tuple[Any, Any]]) -> Any:
    """Peak memory and clients a second, against the number of clients in a round and of registered ones.

    Args:
        rows: points and what was measured, as `benchmarks.scale` has them.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(9, 6)
    panels = figure.subplots(2, len(AXES), sharex="col", sharey="row")
    for column, (curve, label) in enumerate(AXES.items()):
        own = [(point, found) for point, found in rows if point.curve == curve]
        clients = [getattr(point, curve) for point, _ in own]
        memory, speed = panels[:, column]
        memory.plot(clients, [found.peak for _, found in own], marker="o", label="process, at its peak")
        memory.plot(clients, [found.data for _, found in own], marker=".", linestyle=":", label="images")
        speed.plot(clients, [point.cohort / found.last for point, found in own], marker="o")
        speed.set(xlabel=label, xscale="log")
        for panel in (memory, speed):
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("MiB")
    panels[1, 0].set_ylabel("clients trained per second")
    panels[0, 0].legend()
    return figure
