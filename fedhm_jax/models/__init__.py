"""Linen modules, and what can be read off one: pure functions, rank and width plans, costs.

A model is a Flax linen module called as ``module(images, mask=mask, train=train)``. Kernels of its `LowRankDense` and
`LowRankConv` layers are what tiers factorize; everything else is kept whole and averaged.
"""

from fedhm_jax.models.budgets import Budget, forward_macs, model_cost, solve_width
from fedhm_jax.models.build import RESNETS, build_model
from fedhm_jax.models.costs import count_bytes, count_macs, count_parameters
from fedhm_jax.models.depth import DepthNet, Exit, exits_of
from fedhm_jax.models.network import Network, Statistics, ensemble, network_of, rescaled
from fedhm_jax.models.rank_plan import factorizable_kernels, nominal_rank, plan_ranks
from fedhm_jax.models.resnet import ResNet
from fedhm_jax.models.width_plan import WidthPlan, hidden_layers, pad_width, plan_widths, roll_width, slice_width

__all__ = [
    "RESNETS",
    "Budget",
    "DepthNet",
    "Exit",
    "Network",
    "ResNet",
    "Statistics",
    "WidthPlan",
    "build_model",
    "count_bytes",
    "count_macs",
    "count_parameters",
    "ensemble",
    "exits_of",
    "factorizable_kernels",
    "forward_macs",
    "hidden_layers",
    "model_cost",
    "network_of",
    "nominal_rank",
    "pad_width",
    "plan_ranks",
    "plan_widths",
    "rescaled",
    "roll_width",
    "slice_width",
    "solve_width",
]
