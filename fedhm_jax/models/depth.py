"""Models cut in depth: the first stages of a model, with a classifier behind each of them.

A module takes part by a method ``stages()``: the functions that lead from images to what its last layer reads, a dense
one named ``classifier``; where that is an image, the layer reads the mean over its pixels. A stage makes its layers in
the module that calls it, so that they have the same names in a prefix as in the whole model.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.layers import NORMS, DepthwiseConv


class Stage(Protocol):
    """A part of a model, from one hidden value to the next."""

    def __call__(self, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """Images or (batch, ...) to (batch, ...); ``mask`` (batch,) is 0 for padded samples."""
        ...


class Step(NamedTuple):
    """A separable convolution of a head, in place of a stage that it goes without and that changes an image's shape.

    Attributes:
        features: output channels.
        stride: of its first convolution.
    """

    features: int
    stride: int


class Exit(NamedTuple):
    """A stage and the head behind it.

    Attributes:
        stage: the stage.
        head: name of the head; the last one's is the model's own ``classifier``.
        steps: what stands in the head before its classifier.
    """

    stage: Stage
    head: str
    steps: tuple[Step, ...]


def exits_of(module: nn.Module, images: jax.ShapeDtypeStruct) -> tuple[Exit, ...]:
    """The stages of a model, each with the head of its depth.

    Args:
        module: has a method ``stages()``.
        images: shape and dtype of a batch.

    Returns:
        One exit a stage.

    Raises:
        ValueError: the module has no such method, or no stage.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> for exit in exits_of(build_model("cnn", classes=10), jax.ShapeDtypeStruct((1, 8, 8, 1), "float32")):
        ...     print(exit.head, *exit.steps)
        head_0 Step(features=32, stride=2)
        head_1
        classifier
    """
    if not callable(getattr(module, "stages", None)):
        raise ValueError("it has no such method")
    stages: Sequence[Stage] = module.stages()
    if not stages:
        raise ValueError("it has no stage")
    shapes, _ = jax.eval_shape(_Trunk(tuple(stages)).init_with_output, jax.random.key(0), images)
    last = len(stages) - 1

    def steps(position: int) -> tuple[Step, ...]:
        pairs = zip(shapes[position:], shapes[position + 1 :], strict=False)
        return tuple(
            Step(after.shape[-1], 2 if after.shape[1] < before.shape[1] else 1)
            for before, after in pairs
            if after.ndim == 4 and after.shape != before.shape
        )

    return tuple(
        Exit(stage, "classifier" if position == last else f"head_{position}", steps(position))
        for position, stage in enumerate(stages)
    )


class _Trunk(nn.Module):
    stages: tuple[Stage, ...]

    @nn.compact
    def __call__(self, images: jax.Array) -> list[jax.Array]:
        found: list[jax.Array] = []
        for stage in self.stages:
            found.append(stage(found[-1] if found else images, mask=None, train=True))
        return found


class DepthNet(nn.Module):
    """Some first stages of a model and their heads.

    Attributes:
        exits: the stages, from the first on.
        classes: number of outputs.
        norm: a name in `fedhm_jax.layers.norms.NORMS`, for the heads.
    """

    exits: tuple[Exit, ...]
    classes: int
    norm: str = "none"

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Class scores of every head.

        Args:
            images: (batch, height, width, channels).
            mask: (batch,), 0 for padded samples, or None.
            train: training mode of the norms.

        Returns:
            (heads, batch, classes).
        """
        hidden, logits = images, []
        for exit in self.exits:
            hidden = exit.stage(hidden, mask=mask, train=train)
            if exit.head == "classifier":
                logits.append(nn.Dense(self.classes, name="classifier")(_mean_over_pixels(hidden)))
            else:
                head = _Head(exit.steps, self.classes, self.norm, name=exit.head)
                logits.append(head(hidden, mask=mask, train=train))
        return jnp.stack(logits)


class _Head(nn.Module):
    steps: tuple[Step, ...]
    classes: int
    norm: str

    @nn.compact
    def __call__(self, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        for position, step in enumerate(self.steps):
            halves = ((hidden.shape[-1], step.stride), (step.features, 1))
            for half, (features, stride) in enumerate(halves):
                name = f"{position}_{half}"
                hidden = DepthwiseConv(stride, name=f"depthwise_{name}")(hidden)
                pointwise = nn.Dense(
                    features, use_bias=False, kernel_init=nn.initializers.he_normal(), name=f"pointwise_{name}"
                )
                hidden = pointwise(hidden)
                hidden = nn.relu(NORMS[self.norm](name=f"norm_{name}")(hidden, mask=mask, train=train))
        return nn.Dense(self.classes, name="classifier")(_mean_over_pixels(hidden))


def _mean_over_pixels(hidden: jax.Array) -> jax.Array:
    return hidden.mean((1, 2)) if hidden.ndim == 4 else hidden
