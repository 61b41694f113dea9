"""What may be asked for: frozen dataclasses, their ranges, and their form as TOML.

Standard library only, so that a typo is answered before JAX is loaded.
"""

from fedhm_jax.config.clients import check_clients, number_of_clients
from fedhm_jax.config.config_file import (
    all_keys,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    read_config,
    read_handed_over,
    read_toml,
    refuse_handed_over,
    write_config,
)
from fedhm_jax.config.field_types import check_types
from fedhm_jax.config.schema import (
    AggregationConfig,
    CheckpointConfig,
    DataConfig,
    DevicesConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
)
from fedhm_jax.config.suggestions import meant_by
from fedhm_jax.config.validation import check_config

__all__ = [
    "AggregationConfig",
    "CheckpointConfig",
    "DataConfig",
    "DevicesConfig",
    "EvaluationConfig",
    "LocalConfig",
    "ModelConfig",
    "OutputConfig",
    "PartitionConfig",
    "PrivacyConfig",
    "ServerConfig",
    "SimulationConfig",
    "StrategyConfig",
    "TiersConfig",
    "all_keys",
    "check_clients",
    "check_config",
    "check_types",
    "config_from_dict",
    "config_to_dict",
    "config_to_toml",
    "meant_by",
    "number_of_clients",
    "read_config",
    "read_handed_over",
    "read_toml",
    "refuse_handed_over",
    "write_config",
]
