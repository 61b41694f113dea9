"""A figure as SVG of which every point tells what it is, and every series can be hidden from the legend.

What is drawn is Matplotlib's; added are transparent boxes with a ``<title>``, which browsers show under the pointer
without any script, and ``data-series`` and ``data-legend`` for the page's script.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_SMALLEST = 10.0
"""Points that a box is wide and high at least, so that a pointer can hit it."""


class Spot(NamedTuple):
    """What is told where the pointer rests on a point or a bar.

    Attributes:
        axes: the panel.
        x: from and to, in its data's units.
        y: likewise.
        series: index of the series that it belongs to.
        text: what is told.
    """

    axes: "Axes"
    x: tuple[float, float]
    y: tuple[float, float]
    series: int
    text: str


class Drawing(NamedTuple):
    """A figure, and what can be asked of it.

    Attributes:
        figure: whose artists of a series have the group id `series_of` its index.
        spots: what its points and bars are.
        series: the indices of the series by their names in the figure's legend.
    """

    figure: "Figure"
    spots: Sequence[Spot]
    series: Mapping[str, int]


def series_of(index: int) -> str:
    """The group id of a series' artists.

    Args:
        index: of the series.

    Returns:
        The id, which several artists may have.

    Example:
        >>> series_of(3)
        'series-3'
    """
    return f"series-{index}"


def as_svg(drawing: Drawing, name: str) -> str:
    """The drawing as an ``<svg>`` element to stand in a page.

    Args:
        drawing: the figure; its legend, if it has one, is marked so that a script can find its entries.
        name: unlike that of every other figure of the page.

    Returns:
        The element as text.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> axes = figure.subplots()
        >>> _ = axes.plot([1, 2], [3, 4], gid=series_of(0))
        >>> svg = as_svg(Drawing(figure, [Spot(axes, (1, 1), (3, 3), 0, "one: 3")], {}), "a")
        >>> svg.count('data-series="0"'), "<title>one: 3</title>" in svg
        (2, True)
    """
    import matplotlib

    figure = drawing.figure
    _mark_legends(drawing)
    file = io.BytesIO()
    # Text stays text: it can be searched and selected, and the file is small.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    for child in list(root):  # what made it, in RDF
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    root.append(_boxes(drawing, float(root.get("viewBox", "0 0 1 1").split()[3])))
    _name_apart(root, name)
    root.attrib.update({"role": "img", "class": "figure"})
    for size in ("width", "height"):  # as wide as the page allows
        root.attrib.pop(size, None)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK[1:].split("}")[0])
    return ElementTree.tostring(root, encoding="unicode")


def _mark_legends(drawing: Drawing) -> None:
    for legend in drawing.figure.legends:
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            index = drawing.series.get(text.get_text())
            if index is not None and handle is not None:
                text.set_gid(f"legend-{index}")
                handle.set_gid(f"legend-{index}")


def _boxes(drawing: Drawing, height: float) -> ElementTree.Element:
    """Boxes over points and bars, in the order of the figure, so that what is drawn last is hit first."""
    group = ElementTree.Element(f"{{{_SVG}}}g")
    # Figures are laid out in dots, and SVG counts in 72 an inch from the top.
    scale = 72 / drawing.figure.dpi
    for spot in drawing.spots:
        corners = spot.axes.transData.transform(list(zip(spot.x, spot.y, strict=True))) * scale
        (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
        wide, high = max(right - left, _SMALLEST), max(top - bottom, _SMALLEST)
        place = {
            "x": (left + right - wide) / 2,
            "y": height - (bottom + top + high) / 2,
            "width": wide,
            "height": high,
        }
        box = ElementTree.SubElement(group, f"{{{_SVG}}}rect", {key: f"{value:.1f}" for key, value in place.items()})
        box.attrib.update({"class": "spot", "data-series": str(spot.series)})
        ElementTree.SubElement(box, f"{{{_SVG}}}title").text = spot.text
    return group


def _name_apart(root: ElementTree.Element, name: str) -> None:
    """Ids that are referred to get the figure's name in front, marked groups data attributes; all others go."""
    elements = list(root.iter())
    texts = [value for element in elements for value in element.attrib.values()]
    used = {found for text in texts for found in re.findall(r"(?:url\(|^)#([^)]+)", text)}
    for element in elements:
        own = element.attrib.pop("id", "")
        if own in used:
            element.set("id", f"{name}-{own}")
        elif match := re.fullmatch(r"(series|legend)-(\d+)", own):
            element.set(f"data-{match[1]}", match[2])
        for key, text in element.attrib.items():
            if key == _LINK and text.startswith("#"):
                element.set(key, f"#{name}-{text[1:]}")
            elif "url(#" in text:
                element.set(key, text.replace("url(#", f"url(#{name}-"))
