"""What is installed: every file that the package reads, and every library that it imports."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

import fedhm_jax

ROOT = Path(fedhm_jax.__file__).parent
REPOSITORY = ROOT.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_the_wheel_holds_every_file():
    declared = {
        path
        for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in REPOSITORY.joinpath(*package.split(".")).glob(pattern)
    }
    there = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert declared == there


def test_the_package_imports_what_it_declares():
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = [*PYPROJECT["project"]["dependencies"], *extras["privacy"], *extras["trackers"], *extras["text"]]
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


def test_changelog_and_citation_name_the_version():
    versions = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.findall(r"^version: (\S+)", (REPOSITORY / "CITATION.cff").read_text(), re.MULTILINE)
    assert versions[0] == cited[0] == PYPROJECT["project"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source distribution, made from a copy so that the repository keeps no traces."""
    copy = tmp_path_factory.mktemp("repository") / "copy"
    unversioned = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs", "shared")
    shutil.copytree(REPOSITORY, copy, ignore=unversioned)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation"], cwd=copy, check=True, capture_output=True)
    (wheel,), (source,) = (copy / "dist").glob("*.whl"), (copy / "dist").glob("*.tar.gz")
    return wheel, source


@pytest.mark.long
def test_what_is_built_holds_the_package_and_the_licences_alone(built):
    wheel, source = built
    package = {
        path.relative_to(REPOSITORY).as_posix()
        for path in ROOT.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = f"fedhm_jax-{PYPROJECT['project']['version']}.dist-info"
    licences = {f"{about}/licenses/{name}" for name in ("LICENSE", "fedhm_jax/data/images/digits.txt")}
    written = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt")}
    with ZipFile(wheel) as archive:
        assert set(archive.namelist()) == package | licences | written
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= held
    assert not {name.partition("/")[0] for name in held} & {"tests", "benchmarks", "experiments", "docs", "conftest.py"}


@pytest.mark.long
def test_the_wheel_runs_outside_of_the_repository(built, tmp_path):
    site = tmp_path / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(built[0])]
    subprocess.run([sys.executable, "-m", *install], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    flags = ["--model.name", "mlp", "--server.rounds", "1", "--output.folder", "run", "--output.no-progress"]
    program = [sys.executable, site / "bin" / "fedhm", "simulate", *flags]
    subprocess.run(program, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "run" / "models" / "f8.safetensors").exists()
    where = [sys.executable, "-c", "import fedhm_jax, sys; print(fedhm_jax.__file__, 'jax' in sys.modules)"]
    answer = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert answer.split() == [str(site / "fedhm_jax" / "__init__.py"), "False"]
