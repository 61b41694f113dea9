"""Draws the pictures of docs/concepts.md into docs/concepts/: ``python docs/drawings.py``. Standard library only."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "concepts"
INK, PALE = "#334155", "#e2e8f0"
TIERS = {"f1": "#1d4ed8", "f2": "#0f766e", "f4": "#b45309", "f8": "#be185d"}
PARAMETERS = {"f1": 13_706, "f2": 9_354, "f4": 5_130, "f8": 3_018}
"""Of a client of the default run; a test holds them against the run's own costs."""


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 14) -> str:
    """A line of words."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, edge: str = INK) -> str:
    """A rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" stroke="{edge}" '
        'stroke-width="1.2"/>'
    )


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A straight arrow."""
    return (
        f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{INK}" stroke-width="1.6" '
        'marker-end="url(#head)"/>'
    )


def drawing(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    """A whole file, on white, so that it can be read on a dark page."""
    head = (
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{INK}"/></marker>'
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img">\n<title>{escape(title)}</title>\n<defs>{head}</defs>\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>\n{body}\n</svg>\n'
    )


def client() -> str:
    """A device with its samples, a model that comes and what it trained that goes."""
    parts = [
        box(30, 40, 130, 90, PALE),
        text(95, 80, "server"),
        text(95, 100, "model W", size=12),
        arrow(165, 65, 355, 65),
        text(260, 55, "the model of its tier", size=12),
        arrow(355, 105, 165, 105),
        text(260, 125, "what it has trained", size=12),
        box(360, 25, 180, 120, "#fff"),
        text(450, 48, "client"),
        *(
            box(385 + 24 * column, 62 + 24 * row, 18, 18, TIERS["f2"], "none")
            for column in range(6)
            for row in range(2)
        ),
        text(450, 132, "its samples stay here", size=12),
    ]
    return drawing("A client gets a model, trains it on its own samples and sends it back", 570, 170, parts)


def cohort() -> str:
    """Who takes part in two rounds."""
    drawn = {1: {0, 3, 4, 7, 9, 12, 13, 15, 18, 19}, 2: {1, 2, 3, 6, 9, 10, 14, 15, 16, 18}}
    parts = [text(20, 30, "20 clients; 10 of them are drawn for a round", "start")]
    for row, (number, chosen) in enumerate(drawn.items()):
        y = 65 + 45 * row
        parts.append(text(20, y + 5, f"round {number}", "start"))
        for place in range(20):
            fill = TIERS["f1"] if place in chosen else "#fff"
            parts.append(f'<circle cx="{100 + 23 * place}" cy="{y}" r="9" fill="{fill}" stroke="{INK}"/>')
    return drawing("Of twenty clients, ten are drawn for each round", 570, 140, parts)


def tier() -> str:
    """The size of every tier's model."""
    parts = [text(20, 30, "parameters that a client of each tier trains", "start")]
    for row, (name, count) in enumerate(PARAMETERS.items()):
        y, width = 48 + 34 * row, 380 * count / PARAMETERS["f1"]
        parts += [text(20, y + 17, f"f = {name[1:]}", "start"), box(80, y, width, 24, TIERS[name], "none")]
        parts.append(text(90 + width, y + 17, f"{count:,}", "start", 12))
    return drawing("Bars: the model of tier f = 8 has a fifth of the parameters of f = 1", 570, 190, parts)


def rank() -> str:
    """Singular values in falling order and where each tier cuts them."""
    held = {"f8": 4, "f4": 8, "f2": 16}
    parts = [text(20, 30, "directions of a kernel by their weight, and how many a tier keeps", "start")]
    for place in range(32):
        name = next((name for name, count in held.items() if place < count), "f1")
        height = 100 / (1 + place) ** 0.55
        parts.append(box(30 + 16 * place, 160 - height, 11, height, TIERS[name], "none"))
    for name, count in held.items():
        x = 28 + 16 * count
        parts.append(f'<path d="M{x} 50V166" stroke="{INK}" stroke-dasharray="4 3"/>')
        parts.append(text(x, 182, f"f = {name[1:]}: {count}", size=12))
    parts.append(text(540, 182, "f = 1: all", "end", 12))
    return drawing("Falling bars, cut after 4, 8 and 16 of 32 directions", 570, 195, parts)


def factor() -> str:
    """A kernel as the product of two thin ones."""
    parts = [
        box(40, 40, 120, 120, TIERS["f1"], "none"),
        text(100, 30, "kernel W: i x o", size=12),
        text(100, 182, "i o numbers", size=12),
        text(205, 108, "is about", size=14),
        box(260, 40, 24, 120, TIERS["f4"], "none"),
        text(272, 30, "v: i x r", size=12),
        text(315, 108, "times", size=14),
        box(350, 88, 120, 24, TIERS["f4"], "none"),
        text(410, 78, "u: r x o", size=12),
        text(370, 182, "r (i + o) numbers: fewer, for a small rank r", size=12),
    ]
    return drawing("A square kernel beside a tall and a flat factor whose product comes near it", 570, 200, parts)


def merge() -> str:
    """Products of factors of unequal rank, averaged as matrices."""
    parts = []
    for row, (name, thick) in enumerate({"f2": 20, "f4": 12, "f8": 7}.items()):
        y = 20 + 72 * row
        parts += [
            text(30, y + 34, f"f = {name[1:]}", "start"),
            box(80, y, thick, 56, TIERS[name], "none"),
            text(122, y + 34, "x"),
            box(140, y + 28 - thick / 2, 56, thick, TIERS[name], "none"),
            text(215, y + 34, "="),
            box(235, y, 56, 56, TIERS[name], "none"),
            arrow(300, y + 28, 395, 120),
        ]
    parts += [
        box(405, 80, 80, 80, TIERS["f1"], "none"),
        text(445, 72, "the new W"),
        text(445, 180, "mean of the products", size=12),
    ]
    return drawing("Factors of three tiers are multiplied out and their products averaged", 570, 235, parts)


DRAWINGS = {"client": client, "cohort": cohort, "tier": tier, "rank": rank, "factor": factor, "merge": merge}


if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
