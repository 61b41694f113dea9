"""Whether every field of a config holds what its annotation says. Standard library only, as `validation`."""

import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fedhm_jax.config.schema import SimulationConfig
from fedhm_jax.errors import ConfigError


def check_types(config: SimulationConfig) -> None:
    """Raises one sentence about the first field whose value is not of the annotated type.

    An integer passes for a float, a bool passes for neither, and floats must be finite.

    Args:
        config: the config to check.

    Raises:
        ConfigError: naming the field, its value and the type it should have.

    Example:
        >>> from fedhm_jax.config import ServerConfig
        >>> check_types(SimulationConfig(server=ServerConfig(rounds=2.5)))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: server.rounds is 2.5, but must be an integer
    """
    if not isinstance(config, SimulationConfig):
        raise ConfigError.of("config", config, "a SimulationConfig")
    for section, section_type in get_type_hints(SimulationConfig).items():
        part = getattr(config, section)
        if not isinstance(part, section_type):
            raise ConfigError.of(section, part, f"a {section_type.__name__}")
        hints = get_type_hints(section_type)
        for entry in fields(part):
            value = getattr(part, entry.name)
            if not _is_of_type(value, hints[entry.name]):
                raise ConfigError.of(f"{section}.{entry.name}", value, _in_words(hints[entry.name]))


def _is_of_type(value: object, annotation: Any) -> bool:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_is_of_type(value, argument) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of_type(item, arguments[0]) for item in value)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


_WORDS = {
    bool: ("True or False", ""),
    int: ("an integer", "integers"),
    float: ("a finite number", "finite numbers"),
    str: ("a string", "strings"),
    Path: ("a path", ""),
    type(None): ("None", ""),
}
"""How a type is called, one of it and several."""


def _in_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin is tuple and get_origin(arguments[0]) is Literal:
        return f"a tuple, each entry {_in_words(arguments[0])}"
    if origin is tuple:
        return f"a tuple of {_WORDS[arguments[0]][1]}"
    return _WORDS[annotation][0]
