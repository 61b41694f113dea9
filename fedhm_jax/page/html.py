"""Markdown and figures as one HTML page: nothing is loaded beside it, it works without scripts, and prints on A4."""

from collections.abc import Mapping
from importlib.resources import files


def html_page(title: str, markdown: str, figures: Mapping[str, str]) -> str:
    """One page with its figures inside.

    Tables can be sorted by a click on a heading, series of a figure hidden by one on its legend.

    Args:
        title: of the window.
        markdown: the text.
        figures: ``<svg>`` elements by the path that the text names the images with.

    Returns:
        The HTML.

    Example:
        >>> page = html_page("Two", "# One\\n\\n![A line](line.png)", {"line.png": "<svg />"})
        >>> "<h1>One</h1>" in page, '<svg aria-label="A line" />' in page, "<img" in page
        (True, True, False)
    """
    import re
    from html import escape
    from urllib.parse import quote

    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for name, svg in figures.items():
        image = re.search(rf'<img src="{re.escape(quote(name))}" alt=("[^"]*") />', body)
        if image:
            # What is to be seen, for those who do not see it, is the image's alternative text.
            body = body.replace(image[0], svg.replace("<svg ", f"<svg aria-label={image[1]} ", 1), 1)
    style, script = (files("fedhm_jax.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )
