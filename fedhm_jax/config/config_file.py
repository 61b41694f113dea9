"""Configs as TOML files: one table per section, one key per field; what is left out keeps its default."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from fedhm_jax.config.field_types import check_types
from fedhm_jax.config.schema import SimulationConfig
from fedhm_jax.config.suggestions import meant_by
from fedhm_jax.errors import ConfigError

HANDED_OVER = "handed_over"
"""Table of a run's config.toml that names what was handed over in Python, in place of what the other tables say."""


def config_from_dict(values: Mapping[str, Any], defaults: SimulationConfig | None = None) -> SimulationConfig:
    """Builds a config from nested mappings, such as a parsed TOML or JSON file.

    Lists become tuples and strings become paths where the field asks for it. Types are checked here, ranges are not
    (see `fedhm_jax.config.validation.check_config`).

    Args:
        values: sections, each a mapping from field name to value.
        defaults: where fields that are left out come from; ``SimulationConfig()`` if None.

    Returns:
        The config.

    Raises:
        ConfigError: for a section or key that does not exist (naming the closest that do) or a value of the wrong type.

    Example:
        >>> config = config_from_dict({"local": {"epochs": 2}, "tiers": {"rank_factors": [1, 4]}})
        >>> config.local.epochs, config.tiers.rank_factors, config.server.rounds
        (2, (1, 4), 30)
        >>> config_from_dict({"local": {"epoch": 2}})
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: local.epoch is no config key; did you mean local.epochs?
    """
    config = SimulationConfig() if defaults is None else defaults
    sections = get_type_hints(SimulationConfig)
    for section, given in values.items():
        if section not in sections:
            raise _unknown(section)
        if not isinstance(given, Mapping):
            raise ConfigError.of(section, given, f"a table, with keys such as {_keys(section)[0]}")
        known = get_type_hints(sections[section])
        for key in given:
            if key not in known:
                raise _unknown(f"{section}.{key}")
        # TOML knows no tuples; everything else stays as it is, for the type check to judge
        changes = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        config = replace(config, **{section: replace(getattr(config, section), **changes)})
    check_types(config)
    return config


def read_config(path: Path | str, defaults: SimulationConfig | None = None) -> SimulationConfig:
    """Reads a config from a TOML file.

    Args:
        path: the file; its name ends in ``.toml``.
        defaults: where fields that are left out come from; ``SimulationConfig()`` if None.

    Returns:
        The config; what the table ``[handed_over]`` names is not in it, see `read_handed_over`.

    Raises:
        ConfigError: if the file cannot be read, is not TOML, or does not fit the config.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "short.toml"
        ...     _ = path.write_text("[server]\\nrounds = 3\\n")
        ...     read_config(path).server.rounds
        3
    """
    values = read_toml(path, "config file")
    values.pop(HANDED_OVER, None)
    return config_from_dict(values, defaults)


def read_handed_over(path: Path | str) -> dict[str, str]:
    """What was handed over in Python to the run whose config a file holds; the config alone is not the run.

    Args:
        path: the TOML file.

    Returns:
        Names by argument of `fedhm_jax.simulate`, such as ``{"strategy": "mine.build"}``; empty for most files.

    Raises:
        ConfigError: if the file cannot be read, is not TOML, or its table is not one of names.
    """
    given = read_toml(path, "config file").get(HANDED_OVER, {})
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given.values()):
        raise ConfigError.of(HANDED_OVER, given, "a table of names")
    return dict(given)


def read_toml(path: Path | str, field: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: the file; its name ends in ``.toml``.
        field: what an error message calls it.

    Returns:
        Its tables.

    Raises:
        ConfigError: if the file cannot be read or is not TOML.
    """
    path = Path(path)
    if path.suffix != ".toml":
        raise ConfigError.of(field, str(path), "a file whose name ends in .toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError.of(field, str(path), f"a readable file ({error.strerror})") from error
    except ValueError as error:  # not UTF-8, or not TOML: then the text ends with the line
        raise ConfigError.of(field, str(path), f"TOML in UTF-8 ({error})") from error


def refuse_handed_over(path: Path | str) -> None:
    """Raises one sentence for a config that is not all there is to its run.

    Args:
        path: the TOML file.

    Raises:
        ConfigError: the run was given a data set, model, strategy or parameters in Python.
    """
    if names := read_handed_over(path):
        parts = ", ".join(f"{argument} {name}" for argument, name in names.items())
        arguments = ", ".join(f"{argument}=..." for argument in names)
        raise ConfigError(
            f"config file is {str(path)!r}, of a run that was given {parts} in Python: "
            f"simulate(read_config({str(path)!r}), {arguments}) runs it again; without its table [{HANDED_OVER}] the "
            "file runs without them"
        )


def config_to_dict(config: SimulationConfig) -> dict[str, dict[str, Any]]:
    """A config as nested dicts that `config_from_dict` turns back into it; unset fields (None) are left out.

    Args:
        config: the config.

    Returns:
        Sections, each a mapping from field name to value, paths as strings.

    Example:
        >>> config_to_dict(SimulationConfig())["partition"]["alpha"]
        0.5
    """
    return {
        section: {
            key: str(value) if isinstance(value, Path) else value for key, value in keys.items() if value is not None
        }
        for section, keys in asdict(config).items()
    }


def config_to_toml(config: SimulationConfig, handed_over: Mapping[str, str] | None = None) -> str:
    """A config as the text of a TOML file.

    Args:
        config: the config; its unset fields (None) are left out.
        handed_over: names of what a run takes besides its config, for the table ``[handed_over]``.

    Returns:
        The text.
    """
    import tomli_w

    return tomli_w.dumps(config_to_dict(config) | ({HANDED_OVER: dict(handed_over)} if handed_over else {}))


def write_config(config: SimulationConfig, path: Path | str, handed_over: Mapping[str, str] | None = None) -> None:
    """Writes a config to a TOML file that `read_config` turns back into the same config.

    Args:
        config: the config; its unset fields (None) are left out.
        path: the file to write.
        handed_over: as in `config_to_toml`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_config(SimulationConfig(), Path(folder) / "default.toml")
        ...     read_config(Path(folder) / "default.toml") == SimulationConfig()
        True
    """
    Path(path).write_text(config_to_toml(config, handed_over), encoding="utf-8")


def all_keys() -> list[str]:
    """The names of all sections and of all fields, dotted.

    Returns:
        Such as ``"local"`` and ``"local.epochs"``.
    """
    sections = list(get_type_hints(SimulationConfig))
    return [*sections, *(key for section in sections for key in _keys(section))]


def _keys(section: str) -> list[str]:
    return [f"{section}.{entry.name}" for entry in fields(get_type_hints(SimulationConfig)[section])]


def _unknown(path: str) -> ConfigError:
    sections = list(get_type_hints(SimulationConfig))
    if meant := meant_by(path, all_keys()):
        return ConfigError(f"{path} is no config key; did you mean {' or '.join(meant)}?")
    section = path.rpartition(".")[0]
    return ConfigError(f"{path} is no config key; there are {', '.join(_keys(section) if section else sections)}")
