"""Federated learning with heterogeneous low-rank models (FedHM), simulated fast in JAX.

Example:
    >>> from fedhm_jax import ModelConfig, ServerConfig, SimulationConfig, simulate
    >>> result = simulate(SimulationConfig(model=ModelConfig("mlp"), server=ServerConfig(rounds=1)))
    >>> len(result.history)
    1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedhm_jax.comparison import Study, Variant, read_study
from fedhm_jax.config import (
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
    read_config,
    write_config,
)
from fedhm_jax.errors import (
    CallbackError,
    ConfigError,
    DivergedError,
    Interrupted,
    OutOfMemoryError,
    StopSimulation,
)
from fedhm_jax.files import WriteError
from fedhm_jax.results import SimulationResult

if TYPE_CHECKING:
    from fedhm_jax.comparison import compare
    from fedhm_jax.data import (
        ArrayData,
        Dataset,
        Text,
        data_from_arrays,
        dataset_from_arrays,
        load_dataset,
        load_text,
        text_from_strings,
        text_from_tokens,
    )
    from fedhm_jax.layers import Conv, LowRankConv, LowRankDense, norms
    from fedhm_jax.lowrank import Factors, factorize, recover
    from fedhm_jax.models import build_model
    from fedhm_jax.run import TrainedModel, continue_text, load_run, score_text, simulate, simulate_seeds
    from fedhm_jax.tasks import Task

# Loaded at first use: JAX takes a second to import, and a mistyped command line should not wait for it.
_HOME = {
    "ArrayData": "data",
    "Conv": "layers",
    "Dataset": "data",
    "Factors": "lowrank",
    "LowRankConv": "layers",
    "LowRankDense": "layers",
    "Task": "tasks",
    "Text": "data",
    "TrainedModel": "run",
    "build_model": "models",
    "compare": "comparison",
    "continue_text": "run",
    "data_from_arrays": "data",
    "dataset_from_arrays": "data",
    "factorize": "lowrank",
    "load_dataset": "data",
    "load_run": "run",
    "load_text": "data",
    "norms": "layers",
    "recover": "lowrank",
    "score_text": "run",
    "simulate": "run",
    "simulate_seeds": "run",
    "text_from_strings": "data",
    "text_from_tokens": "data",
}

__all__ = [
    "AggregationConfig",
    "ArrayData",
    "CallbackError",
    "CheckpointConfig",
    "ConfigError",
    "Conv",
    "DataConfig",
    "Dataset",
    "DevicesConfig",
    "DivergedError",
    "EvaluationConfig",
    "Factors",
    "Interrupted",
    "LocalConfig",
    "LowRankConv",
    "LowRankDense",
    "ModelConfig",
    "OutOfMemoryError",
    "OutputConfig",
    "PartitionConfig",
    "PrivacyConfig",
    "ServerConfig",
    "SimulationConfig",
    "SimulationResult",
    "StopSimulation",
    "StrategyConfig",
    "Study",
    "Task",
    "Text",
    "TiersConfig",
    "TrainedModel",
    "Variant",
    "WriteError",
    "build_model",
    "compare",
    "continue_text",
    "data_from_arrays",
    "dataset_from_arrays",
    "factorize",
    "load_dataset",
    "load_run",
    "load_text",
    "norms",
    "read_config",
    "read_study",
    "recover",
    "score_text",
    "simulate",
    "simulate_seeds",
    "text_from_strings",
    "text_from_tokens",
    "write_config",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"fedhm_jax.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fedhm_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
