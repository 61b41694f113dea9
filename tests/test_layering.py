"""Imports point one way: a folder imports only from floors below its own, and enters another folder by its face."""

import ast
import runpy
from pathlib import Path

import fedhm_jax

ROOT = Path(fedhm_jax.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
FLOORS = [
    {"errors"},
    {"files", "page", "score", "tree"},
    {"config", "data", "lowrank", "server"},
    {"layers", "results"},
    {"models", "reporting", "tasks", "trackers"},
    {"client"},
    {"strategies"},
    {"engine"},
    {"run", "testing"},
    {"comparison", "flags", "model_commands"},
    {"report_command"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
SEE_THE_CONFIG = {"config", "results", "reporting", "trackers", "run", "comparison", "flags", "cli", "__init__"}


def arrows():
    """Every import of the package by the package: (module, what is imported from)."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fedhm_jax":
                inside = node.module.removeprefix("fedhm_jax").removeprefix(".")
                yield from [(module, inside)] if inside else [(module, alias.name) for alias in node.names]
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{module} imports by a relative path"


def test_every_file_and_folder_has_a_floor():
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == set(FLOOR)


def test_imports_point_downward():
    for module, imported in arrows():
        here, there = module.split(".")[0], imported.split(".")[0]
        assert here == there or FLOOR[there] < FLOOR[here], f"{module} imports {imported}"


def test_another_folder_is_entered_by_its_face():
    for module, imported in arrows():
        assert imported.split(".")[0] in (module.split(".")[0], imported), f"{module} imports {imported}"


def test_the_drawing_shows_the_imports():
    structure = runpy.run_path(str(DOCS / "structure.py"))
    assert structure["as_text"](structure["arrows"]()) in (DOCS / "structure.svg").read_text()


def test_numeric_code_does_not_see_the_config():
    for module, imported in arrows():
        assert imported.split(".")[0] != "config" or module.split(".")[0] in SEE_THE_CONFIG, module
