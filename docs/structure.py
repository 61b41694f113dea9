"""Draws the package from its own imports: ``python docs/structure.py`` writes docs/structure.svg.

Every folder of `fedhm_jax` is a box with its files, every file at the root likewise. A folder stands one floor above
the highest that it imports from, so all arrows point down; those that others imply are pale. The arrows are also
written into the picture's metadata, where a test compares them with the imports.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "fedhm_jax"
PICTURE = HERE / "structure.svg"
ENTRANCES = ("__init__", "__main__")

Arrows = dict[str, set[str]]
"""By folder, the folders it imports from."""


def arrows(package: Path = PACKAGE) -> Arrows:
    """Which folder imports from which.

    Args:
        package: the package's folder.

    Returns:
        One entry a folder (or a file at the root), the entrances left out.
    """
    found: Arrows = {}
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package).with_suffix("").parts[0]
        if here in ENTRANCES:
            continue
        below = found.setdefault(here, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedhm_jax."):
                below.add(str(node.module).split(".")[1])
    return {here: below - {here} for here, below in found.items()}


def floors(below: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of each folder, one above the highest it imports from.

    Args:
        below: from `arrows`.

    Returns:
        Floors from 0.

    Raises:
        ValueError: folders import from each other in a circle.

    Example:
        >>> floors({"run": {"tree", "engine"}, "engine": {"tree"}, "tree": set()})
        {'tree': 0, 'engine': 1, 'run': 2}
    """
    placed: dict[str, int] = {}
    while len(placed) < len(below):
        ready = [name for name in below if name not in placed and below[name] <= set(placed)]
        if not ready:
            raise ValueError(f"a circle among {sorted(set(below) - set(placed))}")
        placed |= {name: max((placed[other] + 1 for other in below[name]), default=0) for name in ready}
    return placed


def as_text(below: Mapping[str, set[str]]) -> str:
    """The arrows in words, for the picture's metadata.

    Args:
        below: from `arrows`.

    Returns:
        One folder a sentence, in alphabetical order.

    Example:
        >>> as_text({"run": {"tree", "engine"}, "tree": set()})
        'run: engine tree; tree:'
    """
    return "; ".join(" ".join([f"{name}:", *sorted(below[name])]) for name in sorted(below))


def draw(below: Mapping[str, set[str]], package: Path = PACKAGE) -> Figure:
    """The picture.

    Args:
        below: from `arrows`.
        package: the package's folder, for the rooms' names.

    Returns:
        The figure.
    """
    floor = floors(below)
    top = max(floor.values())
    figure = Figure(figsize=(11, 1.25 * (top + 1)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(-0.6, top + 0.6))
    axes.axis("off")
    place: dict[str, tuple[float, float]] = {}
    for height in range(top + 1):
        names = sorted(name for name in floor if floor[name] == height)
        for index, name in enumerate(names):
            place[name] = ((index + 0.5) / len(names), height)
    for name, (x, y) in place.items():
        implied = set().union(*(_reached(below, other) for other in below[name]))
        for other in below[name]:
            end = place[other][0], place[other][1] + 0.32
            width, color, layer = (0.4, "#d3dae1", 0) if other in implied else (1.1, "#5f7f9f", 1)
            axes.add_patch(
                FancyArrowPatch(
                    (x, y - 0.32),
                    end,
                    arrowstyle="-|>",
                    mutation_scale=9,
                    connectionstyle="arc3" if layer else "arc3,rad=0.1",
                    linewidth=width,
                    color=color,
                    zorder=layer,
                )
            )
    for name, (x, y) in place.items():
        width = 0.9 / max(sum(floor[other] == y for other in floor), 2)
        box = FancyBboxPatch(
            (x - width / 2, y - 0.3),
            width,
            0.6,
            boxstyle="round,pad=0,rounding_size=0.015",
            fc="#eef4fa",
            ec="#33577b",
        )
        axes.add_patch(box)
        rooms = _rooms(package / name, int(width * 150))
        axes.text(
            x,
            y + (0.26 if rooms else 0),
            name,
            ha="center",
            va="top" if rooms else "center",
            fontsize=11,
            fontweight="bold",
            color="#1d3550",
        )
        axes.text(x, y + 0.09, rooms, ha="center", va="top", fontsize=7, linespacing=1.1)
    return figure


def _reached(below: Mapping[str, set[str]], name: str) -> set[str]:
    """Everything that a folder imports from, directly or not."""
    return below[name].union(*(_reached(below, other) for other in below[name]))


def _rooms(folder: Path, width: int) -> str:
    """Names of a folder's folders and files, in lines of so many characters."""
    if not folder.is_dir():
        return ""
    inside = sorted(f"{path.parent.name}/" for path in folder.glob("*/__init__.py"))
    inside += sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    lines = [""]
    for name in inside:
        if len(lines[-1]) + len(name) + 2 > width:
            lines.append("")
        lines[-1] += f"{'  ' if lines[-1] else ''}{name}"
    return "\n".join(lines)


def main() -> None:
    """Writes the picture."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fedhm_jax", "font.family": "sans-serif"})
    below = arrows()
    draw(below).savefig(PICTURE, metadata={"Date": None, "Creator": None, "Description": as_text(below)})
    print(f"Written to {PICTURE}: {sum(map(len, below.values()))} arrows between {len(below)} rooms")


if __name__ == "__main__":
    main()
