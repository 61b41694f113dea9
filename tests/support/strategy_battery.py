"""The battery is a part of the package, for authors of strategies; its names as the tests here use them."""

from fedhm_jax.testing import (
    CHECKS,
    CLASSES,
    FULL_TIERS,
    IMAGE,
    MODELS,
    SIZES,
    Build,
    check_rounds,
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
    "check_rounds",
    "client_data",
    "cohort",
    "farthest",
    "first_params",
    "pose",
    "setting_for",
]
