"""Studies as TOML files: strategies, seeds, a base config, and what each setting changes in it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fedhm_jax.comparison.study import Study
from fedhm_jax.config import SimulationConfig, StrategyConfig, config_from_dict, config_to_dict, read_toml
from fedhm_jax.errors import ConfigError

_STRATEGIES = get_args(get_type_hints(StrategyConfig)["name"])
_PLAIN = {entry.name for entry in fields(Study)} - {"settings"}


def read_study(path: Path | str, data_dir: Path | None = None) -> Study:
    """Reads a study.

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
    return study_from_dict(read_toml(path, "study"), data_dir)


def study_from_dict(values: Mapping[str, Any], data_dir: Path | None = None) -> Study:
    """Builds a study from nested mappings, such as a parsed TOML file.

    Args:
        values: keys as in `read_study`.
        data_dir: in place of every setting's ``data.data_dir``.

    Returns:
        The study.

    Raises:
        ConfigError: a key does not exist, or a value cannot be.

    Example:
        >>> study = study_from_dict({"name": "Tiny", "strategies": ["fedhm"], "settings": {"iid": {}}})
        >>> list(study.settings), study.seeds
        (['iid'], (0, 1, 2))
    """
    known = {*_PLAIN, "base", "settings"}
    for key in values:
        if key not in known:
            raise ConfigError(f"{key} is no key of a study; there are {', '.join(sorted(known))}")
    base = config_from_dict(_table(values, "base"))
    if data_dir is not None:
        base = replace(base, data=replace(base.data, data_dir=data_dir))
    settings = _table(values, "settings") or {"default": {}}
    plain: dict[str, Any] = {"name": "Comparison", "strategies": ("fedhm",), "seeds": (0, 1, 2)}
    plain |= {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in _PLAIN}
    study = Study(settings={name: config_from_dict(_table(settings, name), base) for name in settings}, **plain)
    check_study(study)
    return study


def study_to_toml(study: Study) -> str:
    """A study as the text of a TOML file that `read_study` turns back into it, places on this machine left out.

    Args:
        study: the study.

    Returns:
        The text.
    """
    import tomli_w

    plain = {name: getattr(study, name) for name in sorted(_PLAIN) if getattr(study, name) is not None}
    return tomli_w.dumps(
        {**plain, "settings": {name: config_to_dict(portable(config)) for name, config in study.settings.items()}}
    )


def portable(config: SimulationConfig) -> SimulationConfig:
    """A config without the places that it has on this machine.

    Args:
        config: the config.

    Returns:
        The config with the folders of data, cache and output unset.
    """
    data = replace(config.data, data_dir=None, cache_dir=None)
    return replace(config, data=data, output=replace(config.output, folder=None))


def check_study(study: Study) -> None:
    """Raises one sentence about the first value that a study cannot have.

    Args:
        study: the study.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    for key in ("name", "description"):
        if not isinstance(getattr(study, key), str):
            raise ConfigError.of(key, getattr(study, key), "a string")
    if not _are(study.strategies, str) or not study.strategies or not set(study.strategies) <= set(_STRATEGIES):
        raise ConfigError.of("strategies", study.strategies, f"a list of names among {', '.join(_STRATEGIES)}")
    if not _are(study.seeds, int) or not study.seeds or min(study.seeds) < 0:
        raise ConfigError.of("seeds", study.seeds, "a list of one or more integers of at least 0")
    for key in ("strategies", "seeds", "learning_rates"):
        if len(set(getattr(study, key))) < len(getattr(study, key)):
            raise ConfigError.of(key, getattr(study, key), "a list without repetitions")
    if not _are(study.learning_rates, int | float) or not all(rate > 0 for rate in study.learning_rates):
        raise ConfigError.of("learning_rates", study.learning_rates, "a list of numbers above 0")
    for key in ("tuning_rounds", "tuning_samples"):
        value = getattr(study, key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError.of(key, value, "an integer of at least 1")
    for name, config in study.settings.items():
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
            raise ConfigError.of("settings", name, "a name of letters, digits, '-', '_' and '.'")
        if config.output.folder is not None:
            raise ConfigError.of(f"settings.{name}.output.folder", str(config.output.folder), "unset in a study")


def _are(values: Any, kind: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, Mapping):
        raise ConfigError.of(key, table, "a table")
    return table
