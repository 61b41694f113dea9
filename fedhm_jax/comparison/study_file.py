"""Studies as TOML files: strategies, seeds, a base config, and what each setting changes in it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fedhm_jax.comparison.study import Study, Variant
from fedhm_jax.comparison.study_checks import check_study
from fedhm_jax.comparison.variants import BUILT_IN
from fedhm_jax.config import SimulationConfig, config_from_dict, config_to_dict, read_toml
from fedhm_jax.errors import ConfigError

_PLAIN = {entry.name for entry in fields(Study)} - {"settings", "strategies", "grid", "folder"}


def read_study(path: Path | str, data_dir: Path | None = None) -> Study:
    """Reads a study; docs/studies.md has every key.

        name = "Small study"
        strategies = ["fedhm", "heterofl"]
        seeds = [0, 1, 2]
        learning_rates = [0.03, 0.1]
        [base.server]
        rounds = 20
        [settings.iid]
        [settings.skewed.partition]
        method = "dirichlet"

    Args:
        path: the file; its name ends in ``.toml``.
        data_dir: in place of every setting's ``data.data_dir``.

    Returns:
        The study.

    Raises:
        ConfigError: if the file cannot be read, a key does not exist, or a value cannot be.
    """
    return study_from_dict(read_toml(path, "study"), data_dir, Path(path).parent)


def study_from_dict(values: Mapping[str, Any], data_dir: Path | None = None, folder: Path = Path()) -> Study:
    """Builds a study from nested mappings, such as a parsed TOML file.

    Args:
        values: keys as in `read_study`.
        data_dir: in place of every setting's ``data.data_dir``.
        folder: where the paths of builders start.

    Returns:
        The study.

    Raises:
        ConfigError: a key does not exist, or a value cannot be.

    Example:
        >>> study = study_from_dict({"name": "Tiny", "strategies": ["fedhm"], "settings": {"iid": {}}})
        >>> list(study.settings), study.seeds
        (['iid'], (0, 1, 2))
    """
    known = {*_PLAIN, "strategies", "grid", "base", "settings"}
    for key in values:
        if key not in known:
            raise ConfigError(f"{key} is no key of a study; there are {', '.join(sorted(known))}")
    base = config_from_dict(_table(values, "base"))
    if data_dir is not None:
        base = replace(base, data=replace(base.data, data_dir=data_dir))
    settings = _table(values, "settings") or {"default": {}}
    plain: dict[str, Any] = {"name": "Comparison", "seeds": (0, 1, 2)}
    plain |= {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in _PLAIN}
    study = Study(
        settings={name: config_from_dict(_table(settings, name), base) for name in settings},
        strategies=_strategies(values.get("strategies", ["fedhm"])),
        grid=_grid(_table(values, "grid")),
        folder=folder,
        **plain,
    )
    check_study(study)
    return study


def _strategies(given: Any) -> Any:
    """A list of names as it is, a table as variants; anything else is left to the checks."""
    if not isinstance(given, Mapping):
        return tuple(given) if isinstance(given, list) else given
    variants = [_variant(name, _table(given, name, "strategies.")) for name in given]
    return tuple(v.name if v == Variant(v.name) and v.name in BUILT_IN else v for v in variants)


def _variant(name: str, table: Mapping[str, Any]) -> Variant:
    changes = _flat({key: value for key, value in table.items() if key not in ("builder", "grid")})
    return Variant(name, changes, table.get("builder"), _grid(_table(table, "grid", f"strategies.{name}.")))


def _grid(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _as_tuple(value) for key, value in _flat(table).items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """``local.epochs`` is one key or two, with quotes or without: here it is one."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= {f"{key}.{inner}": own for inner, own in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def study_to_toml(study: Study) -> str:
    """A study as the text of a TOML file that `read_study` turns back into it, places on this machine left out.

    Args:
        study: the study; a builder that is a function is written as its name, which cannot be read back.

    Returns:
        The text.
    """
    import tomli_w

    written = {name: getattr(study, name) for name in sorted(_PLAIN) if getattr(study, name) is not None}
    plain = all(variant == Variant(variant.name) for variant in study.variants)
    written["strategies"] = (
        study.names if plain else {variant.name: _variant_table(variant) for variant in study.variants}
    )
    if study.grid:
        written["grid"] = {field: _plain(values) for field, values in study.grid.items()}
    settings = {name: config_to_dict(portable(config)) for name, config in study.settings.items()}
    return tomli_w.dumps({**{name: written[name] for name in sorted(written)}, "settings": settings})


def _variant_table(variant: Variant) -> dict[str, Any]:
    table: dict[str, Any] = {field: _plain(value) for field, value in variant.changes.items()}
    if variant.builder is not None:
        table["builder"] = builder_name(variant.builder)
    if variant.grid:
        table["grid"] = {field: _plain(values) for field, values in variant.grid.items()}
    return table


def _plain(value: Any) -> Any:
    """TOML knows no paths."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def builder_name(builder: Any) -> str:
    """What a builder is called in files: as it was written, or a function by its module and name.

    Args:
        builder: as in `Variant`.

    Returns:
        The name, such as ``mine.py:build``.

    Example:
        >>> builder_name("mine.py:build"), builder_name(read_study)
        ('mine.py:build', 'fedhm_jax.comparison.study_file:read_study')
    """
    if isinstance(builder, str):
        return builder
    return f"{getattr(builder, '__module__', '?')}:{getattr(builder, '__qualname__', type(builder).__qualname__)}"


def portable(config: SimulationConfig) -> SimulationConfig:
    """A config without the places that it has on this machine.

    Args:
        config: the config.

    Returns:
        The config with the folders of data, cache and output unset.
    """
    data = replace(config.data, data_dir=None, cache_dir=None)
    return replace(config, data=data, output=replace(config.output, folder=None))


def _table(values: Mapping[str, Any], key: str, before: str = "") -> Mapping[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, Mapping):
        raise ConfigError.of(before + key, table, "a table")
    return table
