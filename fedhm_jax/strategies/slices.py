"""What the width-slicing methods share: each tier's width, and the merge of models of unequal width."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fedhm_jax.errors import ConfigError
from fedhm_jax.lowrank import factorize_tree, with_factors
from fedhm_jax.models import (
    Budget,
    Network,
    WidthPlan,
    hidden_layers,
    model_cost,
    pad_width,
    plan_widths,
    rescaled,
    slice_width,
    solve_width,
)
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, rank_plans, sum_tiers
from fedhm_jax.tree import Params


@dataclass(frozen=True)
class Slices:
    """How a model is cut for the tiers.

    Attributes:
        plan: its hidden axes.
        widths: share of the channels that each tier holds, strongest first.
    """

    plan: WidthPlan
    widths: tuple[float, ...]


def plan_slices(setting: Setting, widths: Sequence[float] | None, budget: Budget) -> Slices:
    """Widths of the tiers, given or solved, and what they cut.

    Args:
        setting: what to build for.
        widths: share of the channels of each tier; None to spend what FedHM's model of the tier costs.
        budget: in which unit that is counted.

    Returns:
        The slices.

    Raises:
        ConfigError: the model cannot be sliced, or no width meets a tier's budget.
    """
    name = type(setting.module).__name__
    try:
        plan = plan_widths(setting.module, setting.inputs)
        for width in widths or (0.5,):
            _dry_run(setting, plan, width)
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError.of(
            "model", name, f"a model whose width can be sliced, as this strategy does: {first_line}"
        ) from error
    if widths is None:
        widths = [_matched_width(setting, plan, tier, budget) for tier in range(len(setting.rank_factors))]
    return Slices(plan, tuple(widths))


def fedhm_budget(setting: Setting, tier: int, budget: Budget) -> int:
    """What FedHM's model of a tier costs a client.

    Args:
        setting: what to build for.
        tier: which tier.
        budget: unit of the cost.

    Returns:
        The cost.
    """
    ranks = rank_plans(setting)[tier]
    shapes = jax.eval_shape(lambda params: with_factors(params, factorize_tree(params, ranks), ranks), setting.shapes)
    return model_cost(setting.network, shapes, setting.inputs, budget)


def sliced_shapes(setting: Setting, plan: WidthPlan, width: float) -> Params:
    """Shapes of the parameters of a narrower model.

    Args:
        setting: what to build for.
        plan: the hidden axes.
        width: share of the channels.

    Returns:
        Tree of shapes.
    """
    return jax.eval_shape(lambda params: slice_width(params, plan, width), setting.shapes)


def _matched_width(setting: Setting, plan: WidthPlan, tier: int, budget: Budget) -> float:
    target = fedhm_budget(setting, tier, budget)

    def cost(width: float) -> int:
        return model_cost(setting.network, sliced_shapes(setting, plan, width), setting.inputs, budget)

    try:
        return solve_width(cost, target)
    except ValueError as error:
        factor = setting.rank_factors[tier]
        raise ConfigError.of(
            "strategy.budget",
            budget,
            f"a budget that a width can meet; at f = {factor:g} it is {target:,}, and {error}",
        ) from error


def _dry_run(setting: Setting, plan: WidthPlan, width: float) -> None:
    """Raises whatever the narrower model raises on shapes alone."""
    shapes = sliced_shapes(setting, plan, width)
    key = jax.random.key(0)
    logits = jax.eval_shape(lambda params, x: setting.network.train(params, x, None, key), shapes, setting.inputs)
    classes = jax.eval_shape(
        lambda params, x: setting.network.train(params, x, None, key), setting.shapes, setting.inputs
    )
    if logits.shape != classes.shape:
        raise ValueError(f"its sliced output has shape {logits.shape} instead of {classes.shape}")


def sliced_networks(network: Network, slices: Slices) -> tuple[Network, ...]:
    """Each tier's network, the outputs of its hidden layers scaled by 1 / width (HeteroFL's scaler).

    The scaler stays on in evaluation of the tier's own model, which was trained with it. Behind a batch norm it makes
    no difference.

    Args:
        network: functions of the module.
        slices: the tiers' widths.

    Returns:
        One network a tier.
    """
    layers = hidden_layers(slices.plan)
    return tuple(network if width == 1 else rescaled(network, layers, 1 / width) for width in slices.widths)


def merge_slices(old: Params, contributions: Sequence[Contribution], plan: WidthPlan) -> Params:
    """Mean of every element over the clients that hold it; an element that nobody trained keeps its value.

    Args:
        old: the full-width model.
        contributions: one a tier, in the tier's own shapes, of leading slices.
        plan: the hidden axes.

    Returns:
        Full-width tree.

    Source: HeteroFL (2010.01264), section 3.
    """

    def at_full_width(contribution: Contribution) -> Contribution:
        weights = jax.tree.map(jnp.broadcast_to, contribution.weight, jax.tree.map(jnp.shape, contribution.total))
        return Contribution(pad_width(contribution.total, plan), pad_width(weights, plan))

    return merge(old, sum_tiers([at_full_width(contribution) for contribution in contributions]))


def widths_in_words(slices: Slices) -> tuple[str, ...]:
    """Each tier's model in words.

    Args:
        slices: the tiers' widths.

    Returns:
        One text a tier.
    """
    return tuple("full model" if width == 1 else f"width {width:.3f}" for width in slices.widths)
