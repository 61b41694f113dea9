"""Checks that every strategy passes, for authors of one: ``check_strategy(build)``."""

from fedhm_jax.testing.battery import (
    CHECKS,
    check_a_server_rate_of_one_is_the_plain_merge,
    check_batching_does_not_matter,
    check_equals_fedavg_when_all_tiers_are_full,
    check_rounds,
    check_strategy,
)
from fedhm_jax.testing.problems import (
    CLASSES,
    FULL_TIERS,
    IMAGE,
    MODELS,
    SIZES,
    Build,
    Problem,
    client_data,
    cohort,
    farthest,
    first_params,
    pose,
    setting_for,
)

__all__ = [
    "CHECKS",
    "CLASSES",
    "FULL_TIERS",
    "IMAGE",
    "MODELS",
    "SIZES",
    "Build",
    "Problem",
    "check_a_server_rate_of_one_is_the_plain_merge",
    "check_batching_does_not_matter",
    "check_equals_fedavg_when_all_tiers_are_full",
    "check_rounds",
    "check_strategy",
    "client_data",
    "cohort",
    "farthest",
    "first_params",
    "pose",
    "setting_for",
]
