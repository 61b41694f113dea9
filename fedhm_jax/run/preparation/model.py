"""The model of a run: built by name, or handed over and checked by a dry run on shapes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedhm_jax.config import ModelConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.layers import ConvMethod
from fedhm_jax.lowrank import is_factors, recover_tree
from fedhm_jax.models import RESNETS, build_model, network_of
from fedhm_jax.run.model_file import read_model_file, whole_kernels
from fedhm_jax.tree import Params, map_named, misfit, named_leaves


def built_in_model(
    model: ModelConfig, inputs: jax.ShapeDtypeStruct, outputs: int, convolution: ConvMethod
) -> nn.Module:
    """The module that a config names.

    Args:
        model: its section of the config.
        inputs: shape and dtype of a batch.
        outputs: how many it has.
        convolution: how convolutions are computed.

    Returns:
        The module.

    Raises:
        ConfigError: a model of images for text or the other way round, or more full-rank blocks than the model has.
    """
    is_text = jnp.issubdtype(inputs.dtype, jnp.integer)
    if is_text and model.name != "decoder":
        raise ConfigError.of("model.name", model.name, "'decoder' for text")
    if not is_text and model.name == "decoder":
        raise ConfigError.of("model.name", model.name, "a model of images for images, such as 'cnn'")
    if model.full_rank_blocks is not None and model.full_rank_blocks > (most := sum(RESNETS[model.name][0])):
        raise ConfigError.of("model.full_rank_blocks", model.full_rank_blocks, f"from 0 to {most} for {model.name}")
    return build_model(
        model.name,
        outputs,
        norm=model.norm,
        full_rank_blocks=model.full_rank_blocks,
        hidden=model.hidden,
        width=model.width,
        depth=model.depth,
        heads=model.heads,
        window=inputs.shape[1],
        convolution=convolution,
        classifier=model.classifier,
    )


def check_model(model: nn.Module, inputs: jax.ShapeDtypeStruct, outputs: int | None) -> Params:
    """Shapes of a model's variables, after a dry run on a batch of the right shape.

    Args:
        model: any linen module.
        inputs: shape and dtype of a batch.
        outputs: length that the last axis of what it answers must have, behind those of the samples' places; None
            for any answer.

    Returns:
        The shapes by collection: ``params``, and ``batch_stats`` if there are static norms.

    Raises:
        ConfigError: it cannot be trained on such inputs.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError.of("model", model, "an instance of flax.linen.Module")
    what = _in_words(inputs)
    called: list[nn.Module] = []
    try:
        with nn.intercept_methods(partial(_note, called)):
            variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
        for path, leaf in named_leaves(variables["params"]).items():
            if leaf.size == 0:
                raise ValueError(f"{path} would be empty, its shape is {leaf.shape}")
            if leaf.size >= 2**31:
                raise ValueError(f"{path} would hold 2**31 numbers or more, its shape is {leaf.shape}")
        mask = jax.ShapeDtypeStruct(inputs.shape[:1], jnp.float32)
        train = network_of(model, "batch_stats" in variables).train
        logits = jax.eval_shape(
            lambda params, x, m: train(params, x, m, jax.random.key(0)), variables["params"], inputs, mask
        )
    except Exception as error:
        _refuse_running_averages(model, called)
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"model is {type(model).__name__}, but must be a module that maps {what} with "
            f"module(inputs, mask=mask, train=train) ({type(error).__name__}: {first_line})"
        ) from error
    _refuse_running_averages(model, called)
    if not isinstance(logits, jax.ShapeDtypeStruct):
        allowed = f"a module with one array as output, not {type(logits).__name__}"
        raise ConfigError.of("model", type(model).__name__, allowed)
    places = inputs.shape[1:] if jnp.issubdtype(inputs.dtype, jnp.integer) else ()
    if outputs is not None and logits.shape != (inputs.shape[0], *places, outputs):
        wanted = ", ".join(map(str, ("batch", *places, outputs)))
        raise ConfigError.of(
            "model", type(model).__name__, f"a module with output ({wanted}); its output is {logits.shape}"
        )
    if any(map(is_factors, jax.tree.leaves(variables["params"], is_leaf=is_factors))):
        raise ConfigError.of(
            "model", type(model).__name__, "a module whose layers have rank=None; the tiers set the ranks"
        )
    if set(variables) - {"params", "batch_stats"}:
        raise ConfigError.of(
            "model", type(model).__name__, "a module without variables other than 'params' and 'batch_stats'"
        )
    return variables


def _in_words(inputs: jax.ShapeDtypeStruct) -> str:
    shape = " x ".join(map(str, inputs.shape[1:]))
    if len(inputs.shape) == 4:
        return f"images of {shape} pixels"
    return f"samples of {shape or 'one'} {'tokens' if jnp.issubdtype(inputs.dtype, jnp.integer) else 'numbers'}"


def _note(called: list[nn.Module], function: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    called.append(context.module)
    return function(*args, **kwargs)


def _refuse_running_averages(model: nn.Module, called: list[nn.Module]) -> None:
    if any(isinstance(module, nn.BatchNorm) for module in called):
        instead = "fedhm_jax.norms has StaticBatchNorm()(x, mask=mask, train=train) in its place"
        reason = f"a module without nn.BatchNorm, whose running averages mean nothing in a merged model; {instead}"
        raise ConfigError.of("model", type(model).__name__, reason)


def initial_params(model: ModelConfig, given: Params | None, like: Params) -> Params | None:
    """The parameters that a run starts from, if it does not initialise its own.

    Args:
        model: its section of the config.
        given: a parameter tree in place of the file that the config names; factorized kernels are multiplied out.
        like: shapes and dtypes of the model's parameters.

    Returns:
        The parameters in the model's dtypes, or None.

    Raises:
        ConfigError: they do not fit the model, naming the first path that differs.
    """
    if given is None and model.init is None:
        return None
    if given is None:
        assert model.init is not None
        what = f"model.init is {str(model.init)!r}, which"
        params: Params = whole_kernels(read_model_file(model.init, "model.init").tensors)
    elif model.init is not None:
        raise ConfigError.of("model.init", str(model.init), "unset when parameters are handed over (init=...)")
    else:
        what, params = "init", _whole_tree(given)
    if (difference := misfit(params, like)) is not None:
        raise ConfigError(f"{what} {difference}")
    held = named_leaves(params)
    for path, leaf in held.items():
        if not np.isfinite(leaf).all():
            raise ConfigError(f"{what} has numbers at {path} that are not finite, but must have finite ones there")
    return map_named(lambda path, leaf: jnp.asarray(held[path], leaf.dtype), like)


def _whole_tree(given: Any) -> Params:
    """A tree that was handed over, as arrays."""
    try:
        tree = jax.tree.map(np.asarray, recover_tree(given))
        numeric = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(tree))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"init must be a tree of parameters, such as result.params ({error})") from error
    if not isinstance(tree, dict) or not numeric:
        raise ConfigError.of("init", type(given).__name__, "a tree of parameters, such as result.params")
    return tree
