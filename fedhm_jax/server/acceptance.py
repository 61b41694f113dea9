"""Which clients' updates enter the merge, and at what length.

A client is judged by what it adds to the merge, against what it would have added had it sent back what it received. For
a low-rank client both are products of factors, so its update is ``u_k v_k`` minus the product that it was sent: an
update of the full-rank model, comparable between tiers, and free of what the tier's truncation left out.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.server.aggregation import Contribution, merge
from fedhm_jax.tree import Params, pack, unpack

Merge = Literal["mean", "median", "trimmed_mean"]


class MergeRule(NamedTuple):
    """How updates are judged and merged; static, closed over by the compiled round.

    Attributes:
        merge: ``mean``: the strategy's own. ``median``, ``trimmed_mean``: by coordinate, see `fedhm_jax.server.robust`.
        trim: share of the clients that ``trimmed_mean`` cuts off at each end.
        clip: longest update, in the L2 norm over all parameters; longer ones are shortened to it. None for no limit.
        reject: clients with a longer update than this are left out. None for no limit.
        noise: standard deviation of the noise on the sum of updates, see `fedhm_jax.server.privacy`. None for none.
    """

    merge: Merge = "mean"
    trim: float = 0.1
    clip: float | None = None
    reject: float | None = None
    noise: float | None = None

    @property
    def measures(self) -> bool:
        """Whether the length of updates matters."""
        return self.clip is not None or self.reject is not None


PLAIN_MEAN = MergeRule()
"""Every finite update as it is, merged by the strategy's own mean."""


def accepted_contribution(
    rule: MergeRule, sent: Contribution, unchanged: Callable[[], Contribution], eligible: jax.Array
) -> tuple[Contribution, jax.Array]:
    """A client's contribution as it enters the merge: exactly zero if it is not accepted, clipped if it is too long.

    Accepted are the eligible clients whose contribution is finite, and whose update has a finite length that is not
    above ``rule.reject``. With ``rule.clip`` an update d becomes ``d min(1, clip / ||d||)``.

    Args:
        rule: the limits.
        sent: what the client contributes.
        unchanged: gives what it would have contributed with what it received; called if the update is measured.
        eligible: scalar bool, False for a client that cannot be accepted.

    Returns:
        The contribution, and whether it was accepted.

    Example:
        >>> sent, before = Contribution(jnp.array([3.0, 4.0]), jnp.ones(())), Contribution(jnp.zeros(2), jnp.ones(()))
        >>> clipped, accepted = accepted_contribution(MergeRule(clip=0.5), sent, lambda: before, jnp.bool_(True))
        >>> [round(float(value), 6) for value in clipped.total], bool(accepted)
        ([0.3, 0.4], True)
    """
    accepted = eligible & all_finite(sent)
    total = sent.total
    if rule.measures:
        start = unchanged().total
        change = jax.tree.map(jnp.subtract, sent.total, start)
        length = update_length(Contribution(change, sent.weight))
        accepted &= jnp.isfinite(length)
        if rule.reject is not None:
            accepted &= length <= rule.reject
        if (clip := rule.clip) is not None:
            clipped = clip_change(change, length, clip)
            # What is not too long keeps its bits.
            total = jax.tree.map(
                lambda before, shorter, now: jnp.where(length > clip, before + shorter, now), start, clipped, total
            )
    return _only_if(accepted, Contribution(total, sent.weight)), accepted


def private_contribution(
    rule: MergeRule, sent: Contribution, unchanged: Contribution, present: jax.Array, eligible: jax.Array
) -> tuple[Contribution, jax.Array]:
    """A client's clipped update, of length zero if it is not accepted; its weight is 1 whatever its data are.

    Args:
        rule: its ``clip`` is the length that no update exceeds.
        sent: what the client contributes.
        unchanged: what it would have contributed with what it received.
        present: scalar bool, whether the client is in the cohort.
        eligible: scalar bool, False for a client that cannot be accepted.

    Returns:
        The contribution, and whether the update was accepted.
    """
    change = jax.tree.map(jnp.subtract, sent.total, unchanged.total)
    length = update_length(Contribution(change, sent.weight))
    accepted = eligible & all_finite(sent) & jnp.isfinite(length)
    assert rule.clip is not None
    update = _only_if(accepted, clip_change(change, length, rule.clip))
    return Contribution(update, jax.tree.map(lambda leaf: present.astype(leaf.dtype), sent.weight)), accepted


def clip_change(change: Params, length: jax.Array, clip: float) -> Params:
    """``change min(1, clip / length)``.

    Args:
        change: tree of arrays.
        length: its norm.
        clip: longest length.

    Returns:
        Tree like ``change``.
    """
    scale = jnp.where(length > clip, clip / jnp.where(length > clip, length, jnp.ones_like(length)), 1)
    return jax.tree.map(lambda leaf: leaf * scale.astype(leaf.dtype), change)


def update_length(change: Contribution) -> jax.Array:
    """L2 norm over all parameters of a weighted change, its weights divided out.

    Args:
        change: of one client; where its weight is zero nothing counts.

    Returns:
        Scalar.

    Example:
        >>> float(update_length(Contribution({"w": jnp.array([6.0, 8.0])}, {"w": jnp.array(2.0)})))
        5.0
    """
    update = merge(jax.tree.map(jnp.zeros_like, change.total), change)
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(update)))


def all_finite(tree: Params) -> jax.Array:
    """Whether every number of a tree is finite.

    Args:
        tree: floating arrays.

    Returns:
        Scalar bool.

    Example:
        >>> bool(all_finite({"a": jnp.ones(2), "b": jnp.array(jnp.inf)}))
        False
    """
    # A number less itself is 0, or NaN if it is not finite: on a CPU six times faster than asking every number.
    return jnp.stack([(vector - vector).sum() == 0 for vector in pack(tree).values()]).all()


def _only_if(accepted: jax.Array, tree: Any) -> Any:
    """The tree or zeros; a product with zero would keep what is not finite."""
    # One choice: the compiler would repeat the question of all leaves for every leaf.
    vectors = {dtype: jnp.where(accepted, vector, jnp.zeros_like(vector)) for dtype, vector in pack(tree).items()}
    return unpack(vectors, tree)
