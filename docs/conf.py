"""The pages: ``make docs``. Every Markdown file of the repository keeps its place, so that one link serves both."""

import sys
from importlib import import_module
from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "fedhm_jax"
author = "The fedhm_jax maintainers"
copyright = f"{author}, Apache-2.0"
version = release = installed("fedhm-jax")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source folder is the repository's.
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/*.md",
    "benchmarks/*/*.md",
    "benchmarks/results/*/*.md",
    "experiments/*.md",
    "experiments/*/*.md",
    "experiments/*/*/*.md",
]
include_patterns += ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]
exclude_patterns = ["build", "dist", "runs", "shared", ".*", "**/__pycache__"]

html_theme = "furo"
html_title = f"fedhm_jax {version}"
html_extra_path = ["front"]
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["pages.css"]

# Tables that commands write have no title, or begin with the heading of a part.
suppress_warnings = ["myst.header", "toc.no_title"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_render_markdown_format = "gfm"

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]

nitpicky = True
# Other people's names have their pages elsewhere; what lies deeper than a folder's face is nobody's to link to.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!fedhm_jax\.).*"),
    (r"py:.*", r"fedhm_jax(\.\w+){3,}"),
    (r"py:.*", r"fedhm_jax\.[a-z_]+\.[a-z_]+"),
]
# A word in back quotes may be two fields at once.
suppress_warnings += ["ref.python"]


def _documented(env: BuildEnvironment, target: str) -> str | None:
    """The documented name of an object that a reference gives by another module that has it too."""
    module, _, name = target.rpartition(".")
    try:
        wanted = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
    for known in env.domains.python_domain.objects:
        place, _, last = known.rpartition(".")
        if last == name and place in sys.modules and getattr(sys.modules[place], name, None) is wanted:
            return known
    return None


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> Any:
    """Links ``fedhm_jax.run.simulation.simulate`` to where ``fedhm_jax.simulate`` is described."""
    if node.get("refdomain") != "py":
        return None
    module = node.get("py:module") or "fedhm_jax"
    target = node["reftarget"]
    known = _documented(env, target) or _documented(env, f"{module}.{target}")
    if known is None:
        return None
    entry = env.domains.python_domain.objects[known]
    reference = nodes.reference("", "", content, internal=True)
    reference["refuri"] = app.builder.get_relative_uri(env.current_document.docname or node["refdoc"], entry.docname)
    reference["refuri"] += f"#{entry.node_id}"
    return reference


_as_written: dict[str, list[str]] = {}


def _keep_text(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    _as_written[name] = list(lines)


def _put_back(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A field's text is a sentence, in which napoleon takes what stands before a colon for a type."""
    if what == "attribute":
        lines[:] = _as_written[name]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _keep_text, priority=1)
    app.connect("autodoc-process-docstring", _put_back, priority=999)
