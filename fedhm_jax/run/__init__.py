"""One simulation on the host: from config to parts, rounds, checkpoints and results."""

from fedhm_jax.run.checkpoint import common_rounds
from fedhm_jax.run.local_only import simulate_alone
from fedhm_jax.run.model_file import ModelFile, write_model_file
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.run.preparation.data import with_given_clients
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.run.preparation.strategy import StrategyBuilder
from fedhm_jax.run.resumption import find_start, stored_config
from fedhm_jax.run.simulation import simulate, simulate_seeds, simulate_together
from fedhm_jax.run.trained.model_folder import load_run, stored_model
from fedhm_jax.run.trained.text_models import continue_text, is_of_text, score_of, score_text
from fedhm_jax.run.trained.trained_model import TrainedModel

__all__ = [
    "HandedOver",
    "ModelFile",
    "StrategyBuilder",
    "TrainedModel",
    "check_run",
    "common_rounds",
    "continue_text",
    "find_start",
    "is_of_text",
    "load_run",
    "score_of",
    "score_text",
    "simulate",
    "simulate_alone",
    "simulate_seeds",
    "simulate_together",
    "stored_config",
    "stored_model",
    "with_given_clients",
    "write_model_file",
]
