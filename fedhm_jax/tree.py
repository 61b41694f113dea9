"""Parameter trees addressed by path."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Params = Any
"""A Flax parameter tree: nested dicts with arrays (or other pytrees) as leaves."""


def map_named(
    function: Callable[..., Any], tree: Params, *rest: Params, is_leaf: Callable[[Any], bool] | None = None
) -> Params:
    """Maps ``function(path, leaf, ...)`` over a tree, the path written as in ``"dense_1/kernel"``.

    Args:
        function: takes the path and one leaf of each tree.
        tree: decides the structure.
        *rest: trees of the same structure.
        is_leaf: what to treat as a leaf, as in `jax.tree.map`.

    Returns:
        The tree of results.

    Example:
        >>> map_named(lambda path, leaf: f"{path}={leaf}", {"a": {"b": 1}})
        {'a': {'b': 'a/b=1'}}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves),
        tree,
        *rest,
        is_leaf=is_leaf,
    )


def named_leaves(tree: Params, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Leaves by path, in tree order.

    Args:
        tree: any nesting of dicts.
        is_leaf: what to treat as a leaf, as in `jax.tree.map`.

    Returns:
        Mapping from path to leaf.

    Example:
        >>> named_leaves({"a": {"b": 1, "c": 2}})
        {'a/b': 1, 'a/c': 2}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def pack(tree: Any) -> dict[str, jax.Array]:
    """A tree as one vector of each dtype, for loops and collectives that take their time per array.

    Args:
        tree: arrays.

    Returns:
        Vectors by dtype, the leaves one after another.

    Example:
        >>> {dtype: vector.tolist() for dtype, vector in pack((jnp.ones((1, 2)), jnp.int32(3))).items()}
        {'float32': [1.0, 1.0], 'int32': [3]}
    """
    vectors: dict[str, list[jax.Array]] = {}
    for leaf in jax.tree.leaves(tree):
        vectors.setdefault(leaf.dtype.name, []).append(leaf.reshape(-1))
    return {dtype: jnp.concatenate(leaves) for dtype, leaves in vectors.items()}


def unpack(vectors: dict[str, jax.Array], like: Any) -> Any:
    """The reverse of `pack`.

    Args:
        vectors: by dtype.
        like: tree of arrays, or of their shapes and dtypes.

    Returns:
        The tree.

    Example:
        >>> unpack({"float32": jnp.arange(3.0)}, {"a": jnp.ones(2), "b": jnp.ones(())})["a"].tolist()
        [0.0, 1.0]
    """
    leaves, structure = jax.tree.flatten(like)
    begun = dict.fromkeys(vectors, 0)
    unpacked = []
    for leaf in leaves:
        dtype = leaf.dtype.name
        begin, begun[dtype] = begun[dtype], begun[dtype] + leaf.size
        unpacked.append(vectors[dtype][begin : begun[dtype]].reshape(leaf.shape))
    return jax.tree.unflatten(structure, unpacked)


def misfit(tree: Params, like: Params) -> str | None:
    """Where a tree first differs in shape from another, in words that follow what it is.

    Args:
        tree: any nesting of dicts.
        like: what it should be; arrays, or their shapes and dtypes.

    Returns:
        The words, or None if the trees fit.

    Example:
        >>> import numpy as np
        >>> misfit({"a": np.zeros(3), "b": np.zeros(2)}, {"a": np.zeros(3), "b": np.zeros(4)})
        'has shape (2,) at b, but must have (4,) there'
        >>> misfit({}, {"a": np.zeros(3)}), misfit({"a": np.zeros(3)}, {})
        ('has nothing at a, but must have shape (3,) there', 'has shape (3,) at a, but must have nothing there')
    """
    held, wanted = named_leaves(tree), named_leaves(like)
    for path in (*wanted, *(path for path in held if path not in wanted)):
        has, must = (f"shape {tuple(leaves[path].shape)}" if path in leaves else "nothing" for leaves in (held, wanted))
        if has != must:
            return f"has {has} at {path}, but must have {must.removeprefix('shape ') if path in held else must} there"
    return None
