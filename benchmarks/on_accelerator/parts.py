"""All parts, in the order in which they run: what is quick and tells much comes first."""

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
        *(chip, decompositions, estimates, peers, paper),
        *(side_by_side, convolutions, compute_type, server),
    )
}
