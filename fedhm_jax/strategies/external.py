"""Strategies from outside of the package, by file and name: ``"mine.py:build"``."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from fedhm_jax.errors import ConfigError
from fedhm_jax.strategies.base import Setting, State, Strategy


def load_builder(name: str, field: str, folder: Path | None = None) -> Callable[[Setting], Strategy[State]]:
    """Loads the builder of a strategy from a Python file.

    The file runs once in a process, whatever it is asked for; it is loaded anew when its text has changed.

    Args:
        name: file and name in it, such as ``"mine.py:build"``.
        field: what sentences call it, such as ``"strategy.builder"``.
        folder: where a relative path starts; the working directory if None.

    Returns:
        ``build(setting) -> Strategy``, from `checked_builder`.

    Raises:
        ConfigError: there is no such file or name, the file fails, or what is there does not take a setting alone.
    """
    path, _, attribute = name.rpartition(":")
    module = _module((folder or Path()) / path, name, field)
    build = getattr(module, attribute, None)
    if not callable(build):
        there = ", ".join(_functions_of(module)) or "none"
        raise ConfigError.of(field, name, f"a file and a function in it; of functions there are {there}")
    return checked_builder(build, field, name)


def checked_builder(build: Callable[..., Any], field: str, shown: str) -> Callable[[Setting], Strategy[State]]:
    """A builder that answers with one sentence if it returns anything else than a strategy.

    Args:
        build: should take a setting alone.
        field: what sentences call it, such as ``"strategy.builder"``.
        shown: its name in them.

    Returns:
        ``build(setting) -> Strategy``.

    Raises:
        ConfigError: it cannot be called with a setting alone.
    """
    try:
        inspect.signature(build).bind(None)
    except (TypeError, ValueError) as error:
        raise ConfigError.of(field, shown, f"a function of a Setting alone ({error})") from error

    def checked(setting: Setting) -> Strategy[State]:
        strategy = build(setting)
        if not isinstance(strategy, Strategy):
            kind = type(strategy).__name__
            raise ConfigError.of(field, shown, f"a function that returns a Strategy; this one returned a {kind}")
        return strategy

    # By this name it stands in the files of runs.
    checked.__module__, _, checked.__qualname__ = shown.replace(".py:", ".").rpartition(".")
    return checked


def _module(file: Path, shown: str, field: str) -> ModuleType:
    try:
        text = file.read_bytes()
    except (OSError, ValueError) as error:  # a null character in its name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError.of(field, shown, f"a Python file that can be read, and a name in it ({reason})") from error
    name = f"_fedhm_jax_{sha256(str(file.absolute()).encode() + text).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError.of(field, shown, "a file whose name ends in .py, and a name in it")
    module = importlib.util.module_from_spec(spec)
    # While it runs as well: its dataclasses and modules look their home up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError.of(field, shown, f"a file that Python can run ({reason})") from error
    return module


def _functions_of(module: ModuleType) -> list[str]:
    """Those that the file itself defines."""
    own: list[tuple[str, Any]] = inspect.getmembers(module, inspect.isfunction)
    return [name for name, function in own if function.__module__ == module.__name__ and not name.startswith("_")]
