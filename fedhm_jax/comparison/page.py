"""A report's Markdown as one self-contained HTML page that also prints on A4."""

import base64
from pathlib import Path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
@page { size: A4; margin: 14mm 12mm; }
@media print {
  body { font-size: 9.5pt; line-height: 1.4; max-width: none; margin: 0; padding: 0; color: #000; }
  h1, h2, h3, p:has(+ table), p:has(+ pre) { break-after: avoid; }
  table { display: table; width: 100%; overflow: visible; font-size: 7.5pt; }
  thead { display: table-header-group; }
  tr, img, pre { break-inside: avoid; }
  th, td { padding: 0.15rem 0.25rem; white-space: normal; vertical-align: top; }
  td:first-child { overflow-wrap: anywhere; }
  pre { overflow: visible; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 7.5pt; }
}
"""


def html_page(title: str, markdown: str, figures: dict[str, Path]) -> str:
    """One page with its figures inside.

    Args:
        title: of the window.
        markdown: the text.
        figures: files of the images by the path that the text names them with.

    Returns:
        The HTML.
    """
    from html import escape
    from urllib.parse import quote

    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for name, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode("ascii")
        body = body.replace(f'src="{quote(name)}"', f'src="data:image/png;base64,{data}"')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
