"""All parts, in the order in which they run: what is sure to end in its time comes first, and what may need all that is
left comes last."""

from benchmarks.on_accelerator import (
    chip,
    compute_type,
    convolutions,
    decompositions,
    estimates,
    paper,
    peers,
    server,
    side_by_side,
)
from benchmarks.on_accelerator.part import Part

PARTS: dict[str, Part] = {
    module.PART.name: module.PART
    for module in (
        *(chip, decompositions, estimates, peers, side_by_side),
        *(convolutions, compute_type, server, paper),
    )
}
