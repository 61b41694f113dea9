"""Parameter trees: addressed by path, and with parts that are received but not trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

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


class Fixed(NamedTuple):
    """A part of a received tree that its client computes with and does not train: neither loss nor decay moves it.

    Attributes:
        value: tree of arrays.
    """

    value: Any


def is_fixed(node: object) -> bool:
    """Whether a node of a tree is not trained.

    Args:
        node: any.

    Returns:
        True for `Fixed`.
    """
    return isinstance(node, Fixed)


def trained_part(tree: Params) -> Params:
    """A tree without what is fixed in it.

    Args:
        tree: with `Fixed` anywhere.

    Returns:
        The tree, with None in each of their places.

    Example:
        >>> trained_part({"kernel": 1, "limit": Fixed(2)})
        {'kernel': 1, 'limit': None}
    """
    return jax.tree.map(lambda node: None if is_fixed(node) else node, tree, is_leaf=is_fixed)


def with_fixed(trained: Params, received: Params) -> Params:
    """The inverse of `trained_part`.

    Args:
        trained: tree with None where something is fixed.
        received: where that is taken from.

    Returns:
        Tree of the structure of ``received``.

    Example:
        >>> with_fixed({"kernel": 3, "limit": None}, {"kernel": 1, "limit": Fixed(2)})
        {'kernel': 3, 'limit': Fixed(value=2)}
    """
    return jax.tree.map(
        lambda leaf, node: node if leaf is None else leaf, trained, received, is_leaf=lambda node: node is None
    )
