"""A round as a pure function of state, data, cohort and key, on one device or many."""

from fedhm_jax.engine.alone import build_alone
from fedhm_jax.engine.cores import show_cores
from fedhm_jax.engine.distributed import is_first, join, keep_watch, watch_first
from fedhm_jax.engine.evaluation import EvaluationData, Metrics, deal_batches, pick_rows, static_statistics
from fedhm_jax.engine.round import Engine, RoundStep, build_engine
from fedhm_jax.engine.sharding import client_mesh, replicate
from fedhm_jax.engine.shards import shard_clients, shard_evaluation

__all__ = [
    "Engine",
    "EvaluationData",
    "Metrics",
    "RoundStep",
    "build_alone",
    "build_engine",
    "client_mesh",
    "deal_batches",
    "is_first",
    "join",
    "keep_watch",
    "pick_rows",
    "replicate",
    "shard_clients",
    "shard_evaluation",
    "show_cores",
    "static_statistics",
    "watch_first",
]
