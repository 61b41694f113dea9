"""The pages, as far as that can be known without building them: names, links, pictures, drawings."""

import re
import runpy
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType

import pytest

import fedhm_jax
from fedhm_jax import SimulationConfig
from fedhm_jax.run import check_run
from fedhm_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PUBLIC = ["client", "comparison", "config", "data", "layers", "lowrank", "models", "server", "strategies"]
PUBLIC += ["tasks", "testing", "trackers"]
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
        *(ROOT / "experiments").rglob("*.md"),
        *ROOT.glob("*.md"),
    ]
)


def described():
    """Full names of all that the reference describes: one by one, or as a module's without those that are left out."""
    names = set()
    for page in (DOCS / "reference").glob("*.md"):
        home = ""
        for kind, name, options in re.findall(
            r"^\.\. ([\w:]+):: ([\w.]+).*\n((?:   .*\n)*)", page.read_text(), re.MULTILINE
        ):
            if kind == "currentmodule":
                home = name
            elif kind == "automodule":
                left_out = re.findall(r"[\w.]+", "".join(re.findall(":exclude-members:(.*)", options)))
                module = import_module(name)
                # Of what a folder hands on, Sphinx describes classes and functions alone.
                members = {member for member, thing in vars(module).items() if isclass(thing) or isfunction(thing)}
                members &= set(getattr(module, "__all__", ())) - set(left_out)
                names |= {name, *(f"{name}.{member}" for member in members)}
            else:
                names |= {name, f"{home}.{name}"}
    return names


def test_every_public_name_is_in_the_reference():
    there = described()
    for name in fedhm_jax.__all__:
        thing = getattr(fedhm_jax, name)
        assert (thing.__name__ if isinstance(thing, ModuleType) else f"fedhm_jax.{name}") in there
    for folder in PUBLIC:
        module = import_module(f"fedhm_jax.{folder}")
        for name in module.__all__:
            at_the_top = getattr(fedhm_jax, name, None) is getattr(module, name)
            assert at_the_top or f"fedhm_jax.{folder}.{name}" in there, f"{folder}.{name}"


def test_every_method_has_its_page():
    listed = (DOCS / "methods" / "index.md").read_text()
    for name in STRATEGIES:
        assert f'`strategy.name = "{name}"`' in (DOCS / "methods" / f"{name}.md").read_text()
        assert f"| [{name}]({name}.md) |" in listed


def without_code(text):
    return re.sub(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]*`|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Of every heading, as repository hosts and the pages make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_pictures_have_words(page):
    for picture, words, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", without_code(page.read_text())):
        assert words.strip() or not picture, f"{target} has no alternative text"
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_the_drawings_are_those_of_their_script():
    drawings = runpy.run_path(str(DOCS / "drawings.py"))
    for name, draw in drawings["DRAWINGS"].items():
        assert (DOCS / "concepts" / f"{name}.svg").read_text(encoding="utf-8") == draw(), "run python docs/drawings.py"


def test_the_drawing_of_the_tiers_has_the_default_runs_parameters():
    costs = check_run(SimulationConfig()).plan.costs
    assert {cost.tier: cost.parameters for cost in costs} == runpy.run_path(str(DOCS / "drawings.py"))["PARAMETERS"]
