"""Kernels and their factors: the decomposition, its truncation, and the product that recovers the kernel."""

from fedhm_jax.lowrank.decomposition import (
    Factors,
    RankPlan,
    factorize,
    factorize_tree,
    is_factors,
    largest_ranks,
    matrix_shape,
    recover,
    recover_tree,
    whole_shape,
    with_factors,
)
from fedhm_jax.lowrank.truncation import DecompositionMethod

__all__ = [
    "DecompositionMethod",
    "Factors",
    "RankPlan",
    "factorize",
    "factorize_tree",
    "is_factors",
    "largest_ranks",
    "matrix_shape",
    "recover",
    "recover_tree",
    "whole_shape",
    "with_factors",
]
