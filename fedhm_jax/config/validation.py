"""Checks of a config that need neither data nor a model. Standard library only, so that they cost no import time."""

import os
from pathlib import Path

from fedhm_jax.config.clients import check_clients, number_of_clients
from fedhm_jax.config.field_types import check_types
from fedhm_jax.config.relations import RELATIONS, value_at
from fedhm_jax.config.rules import RULES
from fedhm_jax.config.schema import SimulationConfig
from fedhm_jax.errors import ConfigError


def check_config(config: SimulationConfig) -> None:
    """Raises one sentence about the first value that the simulator cannot run with.

    Types come first, then ranges, then relations between fields, and last the output folder. Checks that need the
    data, the model or the optimizer library are made where those are built.

    Args:
        config: the config to check.

    Raises:
        ConfigError: naming the field, its value and what is allowed.

    Example:
        >>> from fedhm_jax.config import LocalConfig
        >>> check_config(SimulationConfig())
        >>> check_config(SimulationConfig(local=LocalConfig(epochs=0)))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: local.epochs is 0, but must be an integer of at least 1
    """
    check_types(config)
    for rule in RULES:
        value = value_at(config, rule.field)
        if value is not None and not rule.holds(value):
            raise ConfigError.of(rule.field, value, rule.allowed)
    for relation in RELATIONS:
        if not relation.holds(config):
            allowed = relation.allowed.format(config=config)
            raise ConfigError.of(relation.field, value_at(config, relation.field), allowed)
    if (clients := number_of_clients(config.partition)) is not None:
        check_clients(config, clients)
    if config.output.folder is not None:
        _check_new_folder("output.folder", config.output.folder)


def _check_new_folder(field: str, folder: Path) -> None:
    """A run's folder must be new, for nothing is ever overwritten, and it must be possible to make it."""
    if os.path.lexists(folder):
        raise ConfigError.of(field, str(folder), "a folder that does not exist yet")
    # parents of an absolute path end at the root, which exists
    ancestor = next(parent for parent in folder.absolute().parents if os.path.exists(parent))
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigError.of(field, str(folder), f"in a place that can be written to, which {ancestor} is not")
