"""Adapters of unequal rank on a base that every device holds: what their methods share.

A kernel is ``W0 + (alpha / r) v u`` with W0 frozen, and clients train and send v and u alone (Hu et al.: "LoRA:
Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685). What adapters of different ranks have in
common is the product ``(alpha / r) v u``, so the server deals in products: what it averages, decomposes and cuts has
the scale in it, and a device divides its own scale out of the u that it receives. Everything that is no factorizable
kernel stays as the base has it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedhm_jax.client import Objective, supervised
from fedhm_jax.errors import ConfigError
from fedhm_jax.lowrank import Adapted, Factors, RankPlan, factorize_tree, matrix_shape
from fedhm_jax.models import count_parameters, factorizable_kernels, nominal_rank
from fedhm_jax.strategies.base import Setting
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params, map_named

Adapters = Mapping[str, Factors]
"""Factors by the path of the kernel that they stand beside."""


class AdapterPlan(NamedTuple):
    """What the tiers' adapters are.

    Attributes:
        ranks: of each tier, by the path of the kernel.
        sizes: each tier's in words, with the number of parameters of the base, which is sent once and not counted.
        alpha: of the scale alpha / r.
    """

    ranks: tuple[RankPlan, ...]
    sizes: tuple[str, ...]
    alpha: float


def plan_adapters(setting: Setting, ranks: Sequence[int] | None, alpha: float) -> AdapterPlan:
    """Adapters beside all factorizable kernels, of a rank for each tier, at most the kernel's own.

    Args:
        setting: what to build for.
        ranks: of each tier, the same for all kernels; FedHM's rank of each kernel at the tier's rank factor if None.
        alpha: of the scale.

    Returns:
        The plan.

    Raises:
        ConfigError: the module has no factorizable kernel.

    Example:
        >>> from fedhm_jax.models import build_model
        >>> module, images = build_model("mlp", classes=2, hidden=(6,)), jnp.ones((1, 2, 2, 1))
        >>> params = module.init(jax.random.key(0), images)["params"]
        >>> setting = Setting(module, images, params, has_statistics=False, rank_factors=(1.0, 2.0))
        >>> plan_adapters(setting, None, 16.0).ranks, plan_adapters(setting, (8, 3), 16.0).ranks
        (({'dense_0/kernel': 2}, {'dense_0/kernel': 1}), ({'dense_0/kernel': 4}, {'dense_0/kernel': 3}))

    Source: arXiv 2106.09685, section 4.1; FedHM (arXiv 2111.14655) for the ranks of its tiers.
    """
    kernels = factorizable_kernels(setting.module, setting.inputs)
    if not kernels:
        name = type(setting.module).__name__
        raise ConfigError.of("model", name, "a model with a low-rank layer, beside whose kernel an adapter can stand")

    def rank_of(tier: int, shape: tuple[int, ...]) -> int:
        wanted = nominal_rank(shape, setting.rank_factors[tier]) if ranks is None else ranks[tier]
        return min(wanted, *matrix_shape(shape))

    tiers = range(len(setting.rank_factors))
    words = [f"ranks / {f:g}" for f in setting.rank_factors] if ranks is None else [f"rank {rank}" for rank in ranks]
    base = f"{count_parameters(setting.shapes):,}"
    return AdapterPlan(
        ranks=tuple({path: rank_of(tier, shape) for path, shape in kernels.items()} for tier in tiers),
        sizes=tuple(f"adapters of {size} on a base of {base}" for size in words),
        alpha=float(alpha),
    )


def scaled(adapters: Adapters, alpha: float) -> dict[str, Factors]:
    """Adapters as the server deals in them, the scale alpha / r multiplied into u.

    Args:
        adapters: of a device, each of rank r.
        alpha: of the scale.

    Returns:
        Factors whose product is ``(alpha / r) v u``.

    Example:
        >>> (kernel,) = scaled({"a": Factors(v=jnp.ones((3, 2)), u=jnp.ones((2, 1)))}, alpha=8.0).values()
        >>> kernel.u.tolist()
        [[4.0], [4.0]]

    Source: arXiv 2106.09685, section 4.1.
    """
    return {path: Factors(v, (alpha / u.shape[-2]) * u) for path, (v, u) in adapters.items()}


def begun(adapters: Adapters, start: Mapping[str, jax.Array], alpha: float) -> dict[str, Factors]:
    """What a device trains: the server's factors with the scale divided out of u, and a direction in which both sides
    are zero begun as LoRA begins, v drawn at random and u zero; for where both are zero no gradient ever comes.

    Args:
        adapters: as the server deals in them.
        start: v of directions that have nothing yet, of at least the rank of the adapters.
        alpha: of the scale.

    Returns:
        Adapters, of the same products after `scaled`.

    Source: arXiv 2106.09685, section 4.1.
    """

    def begin(path: str, factors: Factors) -> Factors:
        v, u = factors
        empty = squared_lengths(v) + squared_lengths(u.mT) == 0
        return Factors(jnp.where(empty, start[path][..., : factors.rank], v), u / (alpha / factors.rank))

    return {path: begin(path, factors) for path, factors in adapters.items()}


def one_sided(adapters: Adapters) -> dict[str, Factors]:
    """Factors of a decomposition with all of each singular value in u, so that v is orthonormal, as long as LoRA's own
    first v: with the values split evenly, a difference that is still small would hardly move.

    Args:
        adapters: with columns of v of any length; one of zeros stays zero.

    Returns:
        Factors of the same products.

    Example:
        >>> (kernel,) = one_sided({"a": Factors(v=jnp.array([[3.0], [4.0]]), u=jnp.ones((1, 1)))}).values()
        >>> [round(float(value), 6) for value in kernel.v[:, 0]], kernel.u.tolist()
        ([0.6, 0.8], [[5.0]])
    """

    def turn(factors: Factors) -> Factors:
        v, u = factors
        lengths = jnp.sqrt(squared_lengths(v))
        return Factors(v / jnp.where(lengths == 0, 1, lengths), u * lengths.mT)

    return {path: turn(factors) for path, factors in adapters.items()}


def settled(adapters: Adapters) -> dict[str, Factors]:
    """Factors of a decomposition without what rounding decides: directions far down, and the sign of each direction.

    Args:
        adapters: with singular values s split evenly.

    Returns:
        Factors in which both sides are zero where ``s <= sqrt(e) max s``, e the spacing of numbers at 1: so far down,
        the directions themselves have half of the digits. Of the others, v has its largest entry above zero.

    Example:
        >>> factors = Factors(v=-jnp.array([[0.01, 1.0], [0.01, 2.0]]), u=jnp.eye(2))
        >>> (kernel,) = settled({"a": factors}).values()
        >>> kernel.v.tolist()  # the first singular value is 0.0002 / 5 of the second
        [[0.0, 1.0], [0.0, 2.0]]
    """

    def settle(factors: Factors) -> Factors:
        v, u = factors
        values, axes = squared_lengths(v), tuple(range(v.ndim - 1))
        kept = values > jnp.finfo(v.dtype).eps ** 0.5 * values.max()
        turned = v.max(axes, keepdims=True) + v.min(axes, keepdims=True) < 0
        v, u = jnp.where(turned, -v, v), jnp.where(turned.mT, -u, u)
        return Factors(jnp.where(kept, v, 0), jnp.where(kept.mT, u, 0))

    return {path: settle(factors) for path, factors in adapters.items()}


def drawn(key: jax.Array, shapes: Adapters) -> dict[str, jax.Array]:
    """A random v for each adapter, columns of length 1 in the mean square.

    Args:
        key: PRNG key.
        shapes: adapters, or their shapes and dtypes.

    Returns:
        Arrays by path.

    Source: arXiv 2106.09685, section 4.1, a Gaussian.
    """

    def draw(place: int, v: jax.Array) -> jax.Array:
        rows = v.size // v.shape[-1]
        return jax.random.normal(jax.random.fold_in(key, place), v.shape, v.dtype) / rows**0.5

    return {path: draw(place, shapes[path].v) for place, path in enumerate(sorted(shapes))}


def shapes_of(kernels: Mapping[str, jax.Array], plan: RankPlan) -> dict[str, Factors]:
    """Shapes and dtypes of adapters.

    Args:
        kernels: by path, arrays or their shapes and dtypes.
        plan: ranks of the adapters.

    Returns:
        `jax.ShapeDtypeStruct` in `Factors`, by path.
    """
    return jax.eval_shape(partial(factorize_tree, plan=plan, method="svd"), dict(kernels))


def on_base(setting: Setting, base: Params) -> Objective:
    """The loss of scaled adapters beside the frozen kernels of a base.

    Args:
        setting: what to build for.
        base: W0; no gradient goes into it.

    Returns:
        The objective, a function of adapters as `scaled` returns them.
    """
    plain = supervised(setting.network, setting.masked_loss, setting.task)

    def objective(adapters: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        beside = map_named(lambda path, leaf: Adapted(leaf, adapters[path]) if path in adapters else leaf, base)
        return plain(beside, batch, owned, key)

    return objective


def of_trained(objective: Objective, alpha: float) -> Objective:
    """The same loss as a function of what a device trains.

    Args:
        objective: of adapters as `scaled` returns them.
        alpha: of the scale.

    Returns:
        The objective.
    """
    return lambda adapters, *rest: objective(scaled(adapters, alpha), *rest)


def merged(base: Params, difference: Mapping[str, jax.Array]) -> Params:
    """The whole model, ``W0 + D``.

    Args:
        base: W0.
        difference: D by path.

    Returns:
        Tree like ``base``.

    Example:
        >>> base = {"a": {"bias": jnp.ones(1), "kernel": jnp.ones(2)}}
        >>> jax.tree.map(lambda leaf: leaf.tolist(), merged(base, {"a/kernel": jnp.ones(2)}))
        {'a': {'bias': [1.0], 'kernel': [2.0, 2.0]}}
    """
    return map_named(lambda path, leaf: leaf + difference[path] if path in difference else leaf, base)


def squared_lengths(side: jax.Array) -> jax.Array:
    """Squared length of every direction of one side of some factors.

    Args:
        side: v, (..., r); or u with its last axes exchanged, ``u.mT``.

    Returns:
        (1, ..., r), as many axes as ``side``.

    Example:
        >>> squared_lengths(jnp.array([[3.0, 1.0], [4.0, 0.0]])).tolist()
        [[25.0, 1.0]]
    """
    return jnp.square(side).sum(tuple(range(side.ndim - 1)), keepdims=True)
