"""What is installed: every file that the package reads, and every library that it imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import fedhm_jax

ROOT = Path(fedhm_jax.__file__).parent
PYPROJECT = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())


def test_the_wheel_holds_every_file():
    declared = {
        path
        for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.parent.joinpath(*package.split(".")).glob(pattern)
    }
    there = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert declared == there


def test_the_package_imports_what_it_declares():
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = [*PYPROJECT["project"]["dependencies"], *extras["privacy"], *extras["trackers"]]
    declared = {re.match(r"[\w-]+", requirement)[0].replace("_", "-") for requirement in requirements}
    homes = packages_distributions()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"fedhm_jax"}:
                # What an extra asks for need not be installed.
                known = {home.replace("_", "-") for home in homes.get(name, [name, f"{name}-skinny"])}
                assert known & declared, f"{path.name} imports {name}"
