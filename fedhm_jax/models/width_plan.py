"""Which axes of which parameters hold hidden channels, and what a narrower model keeps of them.

A narrower model is the same module with smaller kernels in its parameter tree. Every hidden channel axis keeps the same
share, so layers go on fitting together; the images' channels, the symbols and the classes stay whole. Behind a
flattening, an axis holds the channels of every pixel, channels varying fastest; each pixel's channels are sliced alike.
So are those of each head of attention: a narrower model has as many heads.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from fedhm_jax.layers import Conv, Embedding, LowRankConv, LowRankDense
from fedhm_jax.tree import Params, map_named, named_leaves


class ChannelAxis(NamedTuple):
    """An axis of a parameter that holds hidden channels.

    Attributes:
        pixels: how many times the channels follow one another (more than 1 behind a flattening, and in heads).
        channels: number of channels at full width.
    """

    pixels: int
    channels: int


WidthPlan = Mapping[str, tuple[ChannelAxis | None, ...]]
"""For every parameter path, what each axis holds; None for an axis that every width keeps whole."""


class _Layer(NamedTuple):
    """A layer with a kernel, and the groups of channels that its inputs and outputs say they consist of."""

    path: str
    module: nn.Module
    inputs: int
    features: int
    input_groups: int
    output_groups: int

    @property
    def outputs(self) -> ChannelAxis:
        return ChannelAxis(self.output_groups, self.features // self.output_groups)


def plan_widths(module: nn.Module, images: jax.ShapeDtypeStruct) -> WidthPlan:
    """The hidden channel axes of a model, read off a dry run.

    The layer called first reads the images and the layer called last gives the logits; everything between is hidden. An
    `Embedding` reads no channels wherever it stands.

    Args:
        module: made of this package's layers, norms, and `flax.linen.Dense` as its last layer.
        images: shape and dtype of a batch, (batch, height, width, channels).

    Returns:
        The plan.

    Raises:
        ValueError: the model holds a parameter that is neither a kernel of such a layer nor one value per channel, or
            a layer reads something else than the outputs of one layer, such as two layers' side by side.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> plan = plan_widths(build_model("cnn", classes=10), jax.ShapeDtypeStruct((1, 28, 28, 1), "float32"))
        >>> plan["stem/kernel"]
        (None, None, None, ChannelAxis(pixels=1, channels=16))
        >>> plan["dense/kernel"]
        (None, None, ChannelAxis(pixels=1, channels=32), ChannelAxis(pixels=1, channels=64))
    """
    layers, params = _layers_in_order(module, images)
    if not layers:
        raise ValueError("it has no convolution or dense layer")
    plan: dict[str, tuple[ChannelAxis | None, ...]] = {}
    for index, layer in enumerate(layers):
        outputs = None if index == len(layers) - 1 else layer.outputs
        plan[f"{layer.path}/kernel"] = (*_taps(layer), _inputs(layer, layers[:index]), outputs)
        plan[f"{layer.path}/bias"] = (outputs,)
    hidden = {layer.outputs for layer in layers[:-1]}
    for path, leaf in params.items():
        if path not in plan and leaf.ndim == 1 and ChannelAxis(1, leaf.size) in hidden:
            plan[path] = (ChannelAxis(1, leaf.size),)
        elif path not in plan:
            kernel = params.get(f"{path.rpartition('/')[0]}/kernel")
            instead = "" if kernel is None or kernel.ndim < 4 else "; fedhm_jax.Conv in place of nn.Conv does"
            raise ValueError(f"it does not say which axes of {path} are hidden channels{instead}")
    return {path: plan[path] for path in params}


def _taps(layer: _Layer) -> tuple[None, ...]:
    return (None, None) if _is_convolution(layer) else ()


def _inputs(layer: _Layer, earlier: Sequence[_Layer]) -> ChannelAxis | None:
    """What the inputs of a layer are: channels of an earlier one, or nothing that could be sliced."""
    if not earlier or isinstance(layer.module, Embedding):
        return None
    before = earlier[-1]
    flattened = _is_convolution(before) and not _is_convolution(layer) and layer.inputs % before.features == 0
    pixels = layer.inputs // before.features if flattened else 1
    channels = ChannelAxis(layer.input_groups, layer.inputs // pixels // layer.input_groups)
    if channels not in {one.outputs for one in earlier}:
        raise ValueError(f"the {layer.inputs} inputs of {layer.path} are not the outputs of one layer")
    return channels._replace(pixels=pixels * channels.pixels)


def _is_convolution(layer: _Layer) -> bool:
    return isinstance(layer.module, Conv | LowRankConv)


def hidden_layers(plan: WidthPlan) -> frozenset[str]:
    """Module paths of the layers whose outputs are hidden channels.

    Args:
        plan: of a model.

    Returns:
        Paths such as ``"stage_0_block_0/conv_0"``.
    """
    kernels = {path: axes for path, axes in plan.items() if path.endswith("/kernel")}
    return frozenset(path.removesuffix("/kernel") for path, axes in kernels.items() if axes[-1] is not None)


def _layers_in_order(module: nn.Module, images: jax.ShapeDtypeStruct) -> tuple[list[_Layer], dict[str, Any]]:
    """Layers with a kernel in the order of their calls, and all parameters by path."""
    calls: dict[str, nn.Module] = {}

    def note(next_function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = isinstance(context.module, Conv | Embedding | LowRankConv | LowRankDense | nn.Dense)
        if layer and context.method_name == "__call__":
            calls["/".join(context.module.path)] = context.module
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
    params = named_leaves(variables["params"])
    return [_layer(path, layer, params[f"{path}/kernel"].shape) for path, layer in calls.items()], params


def _layer(path: str, module: nn.Module, kernel_shape: tuple[int, ...]) -> _Layer:
    inputs, features = kernel_shape[-2:]
    groups = getattr(module, "input_groups", 1), getattr(module, "output_groups", 1)
    return _Layer(path, module, inputs, features, *groups)


def kept_channels(channels: int, width: float) -> int:
    """How many channels a width keeps, ``max(round(width * channels), 1)``, halves rounded up.

    Args:
        channels: at full width.
        width: share in (0, 1].

    Returns:
        The number.

    Example:
        >>> [kept_channels(64, width) for width in (1.0, 0.64, 0.35, 0.001)]
        [64, 41, 22, 1]
    """
    return max(int(width * channels + 0.5), 1)


def slice_width(params: Params, plan: WidthPlan, width: float) -> Params:
    """The narrower model: the leading channels of every hidden axis.

    Args:
        params: full-width parameter tree.
        plan: its hidden axes.
        width: share of the channels to keep, in (0, 1]; 1 gives ``params`` itself.

    Returns:
        Parameter tree.

    Example:
        >>> plan = {"kernel": (None, ChannelAxis(1, 4))}
        >>> slice_width({"kernel": jnp.arange(8).reshape(2, 4)}, plan, 0.5)["kernel"].tolist()
        [[0, 1], [4, 5]]

    Source: HeteroFL (2010.01264), section 3.
    """
    if width == 1:
        return params
    return _map_axes(
        lambda leaf, at, axis: lax.slice_in_dim(leaf, 0, kept_channels(axis.channels, width), axis=at), params, plan
    )


def pad_width(params: Params, plan: WidthPlan) -> Params:
    """Back to full width, zeros where the narrower model holds nothing.

    Args:
        params: a tree of any width.
        plan: the hidden axes at full width.

    Returns:
        Full-width tree.

    Example:
        >>> pad_width({"bias": jnp.ones(2)}, {"bias": (ChannelAxis(1, 4),)})["bias"].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """

    def pad(leaf: jax.Array, at: int, axis: ChannelAxis) -> jax.Array:
        missing = [(0, 0)] * leaf.ndim
        missing[at] = (0, axis.channels - leaf.shape[at])
        return jnp.pad(leaf, missing)

    return _map_axes(pad, params, plan)


def roll_width(params: Params, plan: WidthPlan, shift: jax.Array) -> Params:
    """Turns every hidden axis by the same number of channels; the model's function stays the same, unless it has norms
    over groups of neighbouring channels.

    Args:
        params: full-width tree.
        plan: its hidden axes.
        shift: channels to move towards the end, an int32 scalar; those at the end come round to the front.

    Returns:
        Tree of the same shapes.

    Example:
        >>> roll_width({"bias": jnp.arange(3)}, {"bias": (ChannelAxis(1, 3),)}, jnp.int32(-1))["bias"].tolist()
        [1, 2, 0]
    """
    return _map_axes(lambda leaf, at, axis: jnp.roll(leaf, shift % axis.channels, axis=at), params, plan)


def _map_axes(function: Callable[[jax.Array, int, ChannelAxis], jax.Array], params: Params, plan: WidthPlan) -> Params:
    """Applies ``function(array, position, axis)`` along every hidden axis, its channels alone on that position."""

    def along_axes(path: str, leaf: jax.Array) -> jax.Array:
        for at, axis in enumerate(plan[path]):
            if axis is not None:
                before, after = leaf.shape[:at], leaf.shape[at + 1 :]
                split = leaf.reshape(*before, axis.pixels, -1, *after)
                leaf = function(split, at + 1, axis).reshape(*before, -1, *after)
        return leaf

    return map_named(along_axes, params)
