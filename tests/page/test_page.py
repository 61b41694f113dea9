"""Pages: what a pointer finds in a figure, and that nothing in one figure is taken for a part of another."""

import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from fedhm_jax.page import Drawing, Spot, as_svg, html_page, series_of

SVG = "{http://www.w3.org/2000/svg}"


def lines(dpi: float = 100.0) -> Drawing:
    """Two lines and a bar in a panel that fills a figure of 4 x 2 inches, whose data are inches."""
    figure = Figure(figsize=(4, 2), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 4), ylim=(0, 2))
    axes.plot([1, 2], [0.5, 1.5], label="one", gid=series_of(0))
    axes.fill_between([1, 2], [0.4, 1.4], [0.6, 1.6], gid=series_of(0))
    axes.plot([1, 2], [1, 1], label="two", gid=series_of(1))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels)
    spots = [Spot(axes, (1, 1), (0.5, 0.5), 0, "one & <more>"), Spot(axes, (2, 3), (0, 1.5), 1, "a bar")]
    return Drawing(figure, spots, {"one": 0, "two": 1})


@pytest.mark.parametrize("dpi", [72, 100, 150])
def test_boxes_lie_over_points_and_bars(dpi):
    root = ElementTree.fromstring(as_svg(lines(dpi), "a"))
    point, bar = [element for element in root.iter(f"{SVG}rect") if element.get("class") == "spot"]

    def box(element):
        return [pytest.approx(float(element.get(key)), abs=0.1) for key in ("x", "y", "width", "height")]

    # 72 an inch, from the top, and a point is 10 wide and high
    assert box(point) == [72 - 5, 144 - 36 - 5, 10, 10]
    assert box(bar) == [144, 144 - 108, 72, 108]
    assert [element.find(f"{SVG}title").text for element in (point, bar)] == ["one & <more>", "a bar"]


def test_series_and_legend_can_be_found():
    root = ElementTree.fromstring(as_svg(lines(), "a"))
    series = [element.get("data-series") for element in root.iter() if element.get("data-series")]
    assert sorted(series) == ["0", "0", "0", "1", "1"]  # line, band and box of the one, line and box of the other
    legend = [element.get("data-legend") for element in root.iter() if element.get("data-legend")]
    assert sorted(legend) == ["0", "0", "1", "1"]


def test_what_a_figure_refers_to_is_its_own():
    first, second = (as_svg(lines(), name) for name in ("a", "b"))
    for svg, name in ((first, "a"), (second, "b")):
        ids = re.findall(r' id="([^"]+)"', svg)
        assert len(ids) == len(set(ids)) > 0
        assert all(found.startswith(f"{name}-") for found in ids)
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) <= {(i, "") for i in ids} | {
            ("", i) for i in ids
        }
    assert first == as_svg(lines(), "a")


def test_a_figure_takes_the_place_of_its_image_alone():
    text = "![A](figures/a b.png) ![B](figures/b.png)".replace("a b", "größe")
    page = html_page("T", text, {"figures/größe.png": "<svg >1</svg>"})
    assert '<p><svg aria-label="A" >1</svg> <img' in page
    assert page.count("<img") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read the script")
def test_the_script_can_be_read(tmp_path):
    script = html_page("T", "", {}).split("<script>")[1].split("</script>")[0]
    (tmp_path / "page.js").write_text(script)
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)
