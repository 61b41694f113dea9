"""Which defaults of the package do the measurements contradict?"""

from collections.abc import Sequence

from benchmarks.on_accelerator.measurement import Measurement, timings_of
from benchmarks.on_accelerator.part import Choice, Part
from benchmarks.timing import Timing

ASSUMED_SERVER_SECONDS = 0.1
"""The server's step of ResNet-18 in docs/scaling.md, assumed before there was a GPU."""


def verdicts(parts: Sequence[Part], measurements: Sequence[Measurement]) -> list[str]:
    """One sentence a default that the measurements contradict, confirm, or say nothing of.

    Args:
        parts: that have run.
        measurements: of all parts.

    Returns:
        The sentences.
    """
    chosen = [(part, part.choice) for part in parts if part.choice is not None]
    return [*(verdict(choice, part.name, measurements) for part, choice in chosen), *assumptions(measurements)]


def verdict(choice: Choice, part: str, measurements: Sequence[Measurement]) -> str:
    """What the measurements say of one default.

    A case contradicts it if another way that is allowed was faster in its slowest repetition than the default in its
    fastest.

    Args:
        choice: the default.
        part: where its alternatives were measured.
        measurements: of all parts.

    Returns:
        A sentence.
    """
    defaults = {(one.case, one.way) for one in measurements if one.part == part and one.default and not one.failure}
    compared, better = [], []
    for case, ways in timings_of(measurements, part).items():
        own = next(((way, timing) for way, timing in ways.items() if (case, way) in defaults), None)
        rivals = {way: timing for way, timing in ways.items() if (case, way) not in defaults and choice.is_allowed(way)}
        if own is None or not rivals:
            continue
        compared.append(case)
        way, fastest = min(rivals.items(), key=lambda rival: rival[1].median)
        if max(fastest.values) < min(own[1].values):
            better.append(_against(case, *own, way, fastest))
    if not compared:
        return f"{choice.name}: nothing was measured to compare."
    if not better:
        return f"{choice.name} is not contradicted in any of {len(compared)} cases."
    return f"{choice.name} is contradicted in {len(better)} of {len(compared)} cases: {'; '.join(better)}."


def _against(case: str, own: str, taken: Timing, way: str, fastest: Timing) -> str:
    return (
        f"for {case}, {way} takes {fastest.median / taken.median:.2f} of the time of {own} "
        f"({1000 * fastest.median:.3g} against {1000 * taken.median:.3g} ms)"
    )


def assumptions(measurements: Sequence[Measurement]) -> list[str]:
    """Figures that the documentation assumes, beside what was measured.

    Args:
        measurements: of all parts.

    Returns:
        Sentences; none where nothing was measured.
    """
    found = timings_of(measurements, "server").get("resnet18", {}).get("gram")
    if found is None:
        return []
    return [
        f"docs/scaling.md assumes {ASSUMED_SERVER_SECONDS:g} s for the server's step of ResNet-18 by Gram matrices; "
        f"it takes {found.median:.3g} s."
    ]
