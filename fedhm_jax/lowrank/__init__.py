"""Kernels and their factors: the decomposition, its truncation, and the product that recovers the kernel."""

from fedhm_jax.lowrank.decomposition import (
    Adapted,
    Factors,
    RankPlan,
    balanced,
    factorize,
    factorize_tree,
    is_factors,
    largest_ranks,
    matrix_shape,
    pad_rank,
    recover,
    recover_tree,
    truncate,
    whole_shape,
    with_factors,
)
from fedhm_jax.lowrank.segments import Segment, input_basis, rank_segments, restrict, segment_of, split
from fedhm_jax.lowrank.spectral import spectral_norm
from fedhm_jax.lowrank.truncation import DecompositionMethod, fastest_decomposition

__all__ = [
    "Adapted",
    "DecompositionMethod",
    "Factors",
    "RankPlan",
    "Segment",
    "balanced",
    "factorize",
    "factorize_tree",
    "fastest_decomposition",
    "input_basis",
    "is_factors",
    "largest_ranks",
    "matrix_shape",
    "pad_rank",
    "rank_segments",
    "recover",
    "recover_tree",
    "restrict",
    "segment_of",
    "spectral_norm",
    "split",
    "truncate",
    "whole_shape",
    "with_factors",
]
