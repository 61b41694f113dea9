"""Width ratios that cost a client what FedHM's low-rank model of its tier costs it."""

from collections.abc import Callable
from typing import Literal

import jax

from fedhm_jax.models.costs import count_bytes, count_macs, count_parameters
from fedhm_jax.models.network import Network
from fedhm_jax.tree import Params

_TOLERANCE = 0.15

Budget = Literal["parameters", "bytes", "macs"]


def model_cost(network: Network, params: Params, images: jax.ShapeDtypeStruct, budget: Budget) -> int:
    """One model's cost in the unit of a budget.

    Args:
        network: functions of the model.
        params: its parameters, or their shapes.
        images: shape and dtype of a batch.
        budget: ``parameters``; ``bytes`` as sent; ``macs`` of one sample's forward pass.

    Returns:
        The cost.
    """
    if budget == "macs":
        return forward_macs(network, params, images)
    return {"parameters": count_parameters, "bytes": count_bytes}[budget](params)


def forward_macs(network: Network, params: Params, images: jax.ShapeDtypeStruct) -> int:
    """Multiply-accumulates of one sample's forward pass.

    Args:
        network: functions of the model.
        params: its parameters, or their shapes.
        images: shape and dtype of a batch; only one image of it is counted.

    Returns:
        The count.
    """
    one_image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    # Training mode, so that no statistics are needed; it multiplies nothing that evaluation does not.
    return count_macs(lambda tree, x: network.train(tree, x, None, jax.random.key(0)), params, one_image)


def solve_width(cost: Callable[[float], int], target: int) -> float:
    """The width whose cost comes nearest to a target, by bisection.

    Channels are whole, so a small model has few widths; one that misses the target by more than 15 % is no match.

    Args:
        cost: cost of a width in (0, 1]; it does not fall with the width.
        target: the cost wanted.

    Returns:
        The width, to four decimals.

    Raises:
        ValueError: no width comes near enough.

    Example:
        >>> solve_width(lambda width: round(10_000 * width**2), target=2500)
        0.5
    """
    steps = 10_000
    if target >= cost(1.0):
        return 1.0
    low, high = 1, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle / steps) <= target else (low, middle)
    width = min(low, high, key=lambda step: abs(cost(step / steps) - target)) / steps
    if abs(cost(width) - target) > _TOLERANCE * target:
        raise ValueError(f"the nearest width costs {cost(width):,}")
    return width
