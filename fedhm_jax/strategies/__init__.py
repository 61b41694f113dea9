"""Federated methods: one paper, one file."""

from fedhm_jax.strategies.base import Strategy
from fedhm_jax.strategies.fedhm import fedhm

__all__ = ["Strategy", "fedhm"]
