"""What was measured, at a glance: four panels."""

from collections.abc import Sequence
from typing import Any

from benchmarks.on_accelerator import decompositions, peers, side_by_side
from benchmarks.on_accelerator.measurement import Measurement, timings_of
from fedhm_jax.reporting.figures import new_figure


def overview(measurements: Sequence[Measurement], device: str) -> Any:
    """Rounds beside PyTorch's, time and memory of clients side by side, and decompositions.

    Args:
        measurements: of all parts; a panel of a part without any says so.
        device: name of the accelerator.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(11, 7)
    figure.suptitle(device)
    (rounds, decomposed), (time, memory) = figure.subplots(2, 2)
    _rounds(rounds, measurements)
    _decompositions(decomposed, measurements)
    _side_by_side(time, measurements, "seconds", 1000.0)
    time.set(ylabel="ms a client", title="Clients side by side: time")
    _side_by_side(memory, measurements, "bytes", 1 / side_by_side.MIB)
    memory.set(ylabel="MiB of the program", title="Clients side by side: memory")
    for panel in (rounds, decomposed, time, memory):
        if not panel.has_data():
            panel.text(0.5, 0.5, "not measured", ha="center", transform=panel.transAxes)
            continue
        panel.grid(alpha=0.3)
        panel.legend()
    return figure


def _rounds(panel: Any, measurements: Sequence[Measurement]) -> None:
    found = timings_of(measurements, peers.NAME)
    names = list(found)
    for offset, way in ((-0.2, peers.OURS), (0.2, peers.TORCH)):
        places = [place for place, name in enumerate(names) if way in found[name]]
        if places:
            heights = [1000 * found[names[place]][way].median for place in places]
            panel.bar([place + offset for place in places], heights, width=0.38, label=way)
    panel.set_xticks(range(len(names)), names)
    panel.set(title="Rounds of the peers' workloads", ylabel="ms a round", xlim=(-0.6, max(len(names), 1) - 0.4))


def _decompositions(panel: Any, measurements: Sequence[Measurement]) -> None:
    found = timings_of(measurements, decompositions.NAME)
    ways = dict.fromkeys(way for timings in found.values() for way in timings)
    names = list(found)
    for way in ways:
        places = [place for place, name in enumerate(names) if way in found[name]]
        panel.plot(
            places, [1000 * found[names[place]][way].median for place in places], marker="o", linestyle="", label=way
        )
    panel.set_xticks(range(len(names)), names, rotation=20)
    panel.set(title="Decompositions", ylabel="ms", yscale="log")


def _side_by_side(panel: Any, measurements: Sequence[Measurement], quantity: str, factor: float) -> None:
    lines: dict[str, list[tuple[int, float]]] = {}
    for case, ways in timings_of(measurements, side_by_side.NAME, quantity).items():
        for way, timing in ways.items():
            method, _, together = way.rpartition(", ")
            lines.setdefault(f"{case}, {method}", []).append((int(together), factor * timing.median))
    for label, points in lines.items():
        panel.plot(*zip(*points, strict=True), marker="o", label=label)
    panel.set(xlabel="clients side by side", xscale="log", yscale="log")
    numbers = sorted({together for points in lines.values() for together, _ in points})
    panel.set_xticks(numbers, [str(number) for number in numbers])
    panel.minorticks_off()
