"""A document in one file that answers to a pointer: Markdown and figures in, HTML out."""

from fedhm_jax.page.html import html_page
from fedhm_jax.page.markdown import listed, plain, table
from fedhm_jax.page.svg import Drawing, Spot, as_svg, series_of

__all__ = ["Drawing", "Spot", "as_svg", "html_page", "listed", "plain", "series_of", "table"]
