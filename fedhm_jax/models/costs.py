"""What a model costs a client: parameters, multiply-accumulates, bytes. Counted from the arrays and the traced program
themselves."""

import math
from collections.abc import Callable
from typing import Any

import jax

from fedhm_jax.tree import Params


def count_parameters(params: Params) -> int:
    """Number of parameters in a tree.

    Args:
        params: arrays, or their shapes and dtypes.

    Returns:
        The count.

    Example:
        >>> count_parameters({"kernel": jax.ShapeDtypeStruct((3, 4), "float32")})
        12
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_bytes(params: Params) -> int:
    """Bytes of a tree as it is sent, each array in its own dtype.

    Args:
        params: arrays, or their shapes and dtypes.

    Returns:
        The count.

    Example:
        >>> count_bytes({"kernel": jax.ShapeDtypeStruct((3, 4), "bfloat16")})
        24
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))


def count_macs(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of the matrix products and convolutions that a call performs.

    A product of (m, k) and (k, n) counts ``m k n``; a convolution its output elements times kernel taps times input
    channels per group, padding included. Everything else (norms, activations, pooling) counts nothing, as is usual in
    the literature.

    Args:
        function: any traceable function.
        *args: its arguments, arrays or their shapes and dtypes.

    Returns:
        The count, loops of known length multiplied out, and the mean over the branches of a conditional, as if they
        were equally likely.

    Raises:
        ValueError: the function has a while loop, whose length is not known.

    Example:
        >>> import jax.numpy as jnp
        >>> count_macs(jnp.dot, jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32"))
        30
    """
    return _macs(jax.make_jaxpr(function)(*args))


def bodies(equation: Any) -> list[Any]:
    """The programs inside of one step of a traced program: what a call or a loop does, every branch of a conditional.

    Args:
        equation: of ``jax.make_jaxpr(function)(*args).eqns``, or of a body's.

    Returns:
        The bodies, each with its equations as ``eqns``.

    Example:
        >>> [inner] = bodies(jax.make_jaxpr(jax.jit(abs))(-1.0).eqns[0])
        >>> [equation.primitive.name for equation in inner.eqns]
        ['abs']
    """
    values = equation.params.values()
    parts = [part for value in values for part in (value if isinstance(value, tuple | list) else (value,))]
    # by what they hold: the classes of traced programs differ between versions of JAX
    return [part for part in parts if hasattr(part, "eqns")]


def _macs(program: Any) -> int:
    return sum(_equation_macs(equation) for equation in program.eqns)


def _equation_macs(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    shapes = [getattr(variable.aval, "shape", ()) for variable in (*equation.invars, *equation.outvars)]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return math.prod(shapes[-1]) * math.prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        out_features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        return math.prod(shapes[-1]) * math.prod(shapes[1]) // out_features
    macs = [_macs(body) for body in bodies(equation)]
    if params.get("name") == "depthwise_conv2d":  # of `fedhm_jax.layers`: its products are of numbers
        products = [inner for body in bodies(equation) for inner in body.eqns if inner.primitive.name == "mul"]
        return sum(macs) + sum(math.prod(product.outvars[0].aval.shape) for product in products)
    if name == "while" and any(macs):
        raise ValueError("multiply-accumulates inside a while loop cannot be counted: its length is not known")
    if name == "cond":
        return round(sum(macs) / len(macs))
    return sum(macs) * (params["length"] if name == "scan" else 1)
