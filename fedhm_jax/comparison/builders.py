"""Builders of one's own strategies: loaded from files, and the text that a study's folder keeps of them."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fedhm_jax.comparison.study import Study, Variant
from fedhm_jax.comparison.study_file import builder_name
from fedhm_jax.errors import ConfigError
from fedhm_jax.strategies import Setting, Strategy

StrategyBuilder = Callable[[Setting], Strategy[Any]]


def load_builder(variant: Variant, folder: Path) -> StrategyBuilder | None:
    """The builder of a variant, from its file if it names one.

    Args:
        variant: the variant.
        folder: where relative paths start.

    Returns:
        The builder, which answers with one sentence if it returns something else than a strategy; None for a built-in
        strategy.

    Raises:
        ConfigError: there is no such file or no such name in it, the file cannot be loaded, or what is there cannot be
            called with a setting alone.
    """
    if variant.builder is None:
        return None
    field, shown = f"strategies.{variant.name}.builder", builder_name(variant.builder)
    build: Any = variant.builder
    if isinstance(build, str):
        path, _, name = build.rpartition(":")
        file = folder / Path(path)
        module = _module(file, field, shown)
        if not hasattr(module, name):
            found = ", ".join(_functions_of(module)) or "none"
            raise ConfigError.of(field, shown, f"a name that {file.name} defines; it has the functions {found}")
        build = getattr(module, name)
    try:
        inspect.signature(build).bind(None)
    except (TypeError, ValueError) as error:
        raise ConfigError.of(field, shown, f"a function of a Setting alone ({_line(error)})") from error

    def checked(setting: Setting) -> Strategy[Any]:
        strategy = build(setting)
        if not isinstance(strategy, Strategy):
            raise ConfigError.of(field, shown, f"a function that returns a Strategy, not a {type(strategy).__name__}")
        return strategy

    return checked


def builder_source(study: Study, variant: Variant) -> str | None:
    """The text that tells one builder from another: its file, or the source of a function.

    Args:
        study: the study, which says where paths start.
        variant: one of its variants.

    Returns:
        The text; None for a built-in strategy, and for a builder without source, such as a callable object.
    """
    build = variant.builder
    try:
        if isinstance(build, str):
            return (study.folder / Path(build.rpartition(":")[0])).read_text(encoding="utf-8")
        return None if build is None else inspect.getsource(build)
    except (OSError, TypeError):
        return None


def _module(file: Path, field: str, shown: str) -> ModuleType:
    if file.suffix != ".py" or not file.is_file():
        raise ConfigError.of(field, shown, f"a Python file and a name in it; there is no {file}")
    name = f"_fedhm_builder_{hashlib.sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # as for any file whose name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and linen modules look themselves up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ConfigError.of(field, shown, f"a file that Python can load ({reason})") from error
    return module


def _functions_of(module: ModuleType) -> list[str]:
    own = inspect.getmembers(module, lambda value: getattr(value, "__module__", None) == module.__name__)
    return [name for name, value in own if callable(value) and not name.startswith("_")]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
