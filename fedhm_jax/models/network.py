"""A linen module as three pure functions of its parameters: in training, in evaluation, and its batch statistics."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike

from fedhm_jax.tree import Params

P = ParamSpec("P")
R = TypeVar("R")

Statistics = Any
"""Static batch-norm statistics, a Flax collection; an empty dict for a model without them."""


class Network(NamedTuple):
    """A model as training and evaluation use it.

    Attributes:
        train: ``train(params, images, mask, key) -> logits``, in training mode; ``mask`` (batch,) is 0 for padding, or
            None.
        predict: ``predict(params, statistics, images, mask) -> logits``, in evaluation mode.
        statistics: ``statistics(params, images) -> statistics`` of one batch of training images.
    """

    train: Callable[[Params, jax.Array, jax.Array | None, jax.Array], jax.Array]
    predict: Callable[[Params, Statistics, jax.Array, jax.Array | None], jax.Array]
    statistics: Callable[[Params, jax.Array], Statistics]


def network_of(module: nn.Module, has_statistics: bool, compute_dtype: DTypeLike | None = None) -> Network:
    """The functions of a module.

    Args:
        module: called as ``module(images, mask=mask, train=train)``; dropout draws from the stream ``dropout``.
        has_statistics: its norms write the collection ``batch_stats`` in training mode.
        compute_dtype: floating type of the forward and backward pass in training. Parameters, logits and gradients keep
            their own type, and so does everything in evaluation. None computes in the parameters' type.

    Returns:
        The network.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> module, images = build_model("mlp", classes=3), jnp.ones((2, 4, 4, 1))
        >>> params = module.init(jax.random.key(0), images)["params"]
        >>> network_of(module, has_statistics=False).predict(params, {}, images, None).shape
        (2, 3)
    """

    def train(params: Params, images: jax.Array, mask: jax.Array | None, key: jax.Array) -> Any:
        if compute_dtype is None:
            return module.apply({"params": params}, images, mask=mask, train=True, rngs={"dropout": key})
        dtype = jax.tree.leaves(params)[0].dtype
        low = jax.tree.map(lambda leaf: leaf.astype(compute_dtype), params)
        # Tokens are whole numbers, and stay so.
        read = images.astype(compute_dtype) if jnp.issubdtype(images.dtype, jnp.floating) else images
        outputs: Any = module.apply({"params": low}, read, mask=mask, train=True, rngs={"dropout": key})
        return outputs.astype(dtype)

    def predict(params: Params, statistics: Statistics, images: jax.Array, mask: jax.Array | None) -> Any:
        return module.apply({"params": params, "batch_stats": statistics}, images, mask=mask, train=False)

    def statistics(params: Params, images: jax.Array) -> Statistics:
        if not has_statistics:
            return {}
        # Dropout has no part in what a norm should expect in evaluation, but training mode asks for its key.
        rngs = {"dropout": jax.random.key(0)}
        _, updated = module.apply({"params": params}, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return updated["batch_stats"]

    return Network(train, predict, statistics)


def rescaled(network: Network, layers: Collection[str], factor: float) -> Network:
    """The network with the outputs of some layers multiplied by a constant.

    Args:
        network: of a linen module.
        layers: module paths of the layers, such as ``"stage_0_block_0/conv_0"``.
        factor: what to multiply by.

    Returns:
        The network.

    Source: the scaler of HeteroFL (2010.01264), section 3, with factor 1 / width.
    """

    def rescale(next_function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        outputs = next_function(*args, **kwargs)
        is_call = context.method_name == "__call__"
        return outputs * factor if is_call and "/".join(context.module.path) in layers else outputs

    def with_rescaling(function: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with nn.intercept_methods(rescale):
                return function(*args, **kwargs)

        return call

    return Network(
        train=with_rescaling(network.train),
        predict=with_rescaling(network.predict),
        statistics=with_rescaling(network.statistics),
    )


def ensemble(network: Network) -> Network:
    """Several networks of one shape as one: its logits are the mean of theirs. They run one after another.

    Args:
        network: of one member.

    Returns:
        A network whose parameters and statistics have a leading axis, one entry a member.

    Source: Split-Mix (2203.09747), section 3.
    """

    def train(params: Params, images: jax.Array, mask: jax.Array | None, key: jax.Array) -> jax.Array:
        return lax.map(lambda member: network.train(member, images, mask, key), params).mean(0)

    def predict(params: Params, statistics: Statistics, images: jax.Array, mask: jax.Array | None) -> jax.Array:
        members = (params, statistics)
        return lax.map(lambda member: network.predict(member[0], member[1], images, mask), members).mean(0)

    def statistics(params: Params, images: jax.Array) -> Statistics:
        return lax.map(lambda member: network.statistics(member, images), params)

    return Network(train, predict, statistics)
