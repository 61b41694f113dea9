"""DepthFL: weak clients hold the first stages of the model, and there is a classifier behind every stage.

Kim, Yu, Kim, Moon: "DepthFL: Depthwise Federated Learning for Heterogeneous Clients", ICLR 2023. A client trains all
heads that it holds, each on the labels and on what the others answer (mutual self-distillation), and predicts with the
mean of their logits. Each parameter is the mean over the clients that hold it.

A head has, before its classifier, separable convolutions for every stage ahead that changes an image's shape; the
deepest is the model's own classifier. Left out are the attention before a head and the regularisation of FedDyn, which
no method here has; the weight of distillation is constant, where the published code lets it grow.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedhm_jax.client import Objective, batch_loss, masked_mean
from fedhm_jax.data import Client
from fedhm_jax.errors import ConfigError
from fedhm_jax.models import Budget, DepthNet, Network, Statistics, exits_of, model_cost, network_of
from fedhm_jax.server import Contribution, merge
from fedhm_jax.strategies.base import Setting, Strategy, client_contribution
from fedhm_jax.strategies.slices import fedhm_budget
from fedhm_jax.tasks import Batch, mask_absent_classes
from fedhm_jax.tree import Params, misfit


def depthfl(
    setting: Setting,
    *,
    depths: Sequence[int] | None = None,
    budget: Budget = "bytes",
    distillation: float = 1.0,
) -> Strategy[Params]:
    """The DepthFL strategy.

    The server holds as many stages as its strongest tier. A tier of rank factor 1 holds all, its heads coming on top of
    what FedHM's client costs; another holds as many as cost no more than that, but one at least, and `sizes` says so
    where one is too many. With all tiers full it is not FedAvg, for there are more heads than one.

    Args:
        setting: what to build for.
        depths: stages of each tier, heads included; solved to match FedHM's cost if None.
        budget: unit of that cost.
        distillation: weight of what the heads of a client teach one another.

    Returns:
        The strategy; its state is the model's first stages with their heads.

    Raises:
        ConfigError: the model has no stages, or fewer than are asked for.

    Source: "DepthFL", ICLR 2023, and the published code for what the paper leaves open.
    """
    prefixes = _prefixes_of(setting)
    choices = _choices(setting, prefixes, depths, budget)
    own = tuple(prefixes[choice.depth - 1] for choice in choices)
    deepest = max(own, key=lambda prefix: prefix.depth)
    means = {prefix.depth: _mean_of_heads(prefix.network) for prefix in own}
    objectives = [_taught_by_each_other(setting, prefix.network, float(distillation)) for prefix in own]
    heads = [exit.head for exit in deepest.module.exits if exit.head != _CLASSIFIER]

    def init(params: Params, key: jax.Array) -> Params:
        drawn = deepest.module.init(key, jnp.zeros(setting.inputs.shape, setting.inputs.dtype))["params"]
        dtype = jax.tree.leaves(params)[0].dtype
        return {
            name: params[name] if name in params else jax.tree.map(lambda leaf: leaf.astype(dtype), layer)
            for name, layer in drawn.items()
        }

    def tier_model(state: Params, tier: int) -> Params:
        return state if own[tier] is deepest else {name: state[name] for name in own[tier].shapes}

    def distribute(state: Params, tier: int, client: Client) -> Params:
        return tier_model(state, tier)

    def contribute(state: Params, tier: int, trained: Params, client: Client) -> Contribution:
        def part(layers: Params) -> Contribution:
            return client_contribution(setting, tier, layers, client)

        # Each head by itself, so that its classifier is averaged as the model's own is.
        given = {head: part(trained[head]) for head in heads if head in trained}
        rest = part({name: layer for name, layer in trained.items() if name not in given})
        return Contribution(
            rest.total | {head: own.total for head, own in given.items()},
            rest.weight | {head: own.weight for head, own in given.items()},
        )

    def aggregate(state: Params, contributions: Sequence[Contribution], clients: jax.Array) -> Params:
        def by_layer(trees: Sequence[Params]) -> Params:
            return {name: _sum([tree[name] for tree in trees if name in tree]) for name in state}

        totals, weights = zip(*contributions, strict=True)
        return merge(state, Contribution(by_layer(totals), by_layer(weights)))

    return Strategy(
        init=init,
        global_model=lambda state: state,
        tier_model=tier_model,
        distribute=distribute,
        contribute=contribute,
        aggregate=aggregate,
        network=means[deepest.depth],
        networks=tuple(means[prefix.depth] for prefix in own),
        objective=lambda state, tier: objectives[tier],
        sizes=tuple(_in_words(choice, len(prefixes)) for choice in choices),
        replace_model=lambda state, params: params,
    )


def _sum(trees: Sequence[Params]) -> Params:
    return reduce(lambda one, other: jax.tree.map(jnp.add, one, other), trees)


def _mean_of_heads(network: Network) -> Network:
    def train(params: Params, images: jax.Array, mask: jax.Array | None, key: jax.Array) -> jax.Array:
        return network.train(params, images, mask, key).mean(0)

    def predict(params: Params, statistics: Statistics, images: jax.Array, mask: jax.Array | None) -> jax.Array:
        return network.predict(params, statistics, images, mask).mean(0)

    return Network(train, predict, network.statistics)


def _taught_by_each_other(setting: Setting, network: Network, distillation: float) -> Objective:
    """``sum_i (L(z_i, y) + distillation / (n - 1) sum_j D(z_i, z_j))`` over the n heads, what j answers being taken as
    it is; for classes, D is the divergence of i's prediction from j's. The loss for the records is the mean of the
    heads'."""

    task = setting.task

    def objective(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        heads = network.train(params, batch.inputs, batch.mask, key)

        def labelled(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            return batch_loss(mask_absent_classes(outputs, owned) if setting.masked_loss else outputs, batch, task)

        def taught_by(answers: jax.Array) -> jax.Array:
            return jax.vmap(task.teach, (0, None))(heads, answers).sum(0)

        means, totals = jax.vmap(labelled)(heads)
        if len(heads) == 1:
            return means.sum(), totals.mean()
        by_sample = jax.vmap(taught_by)(lax.stop_gradient(heads)).sum(0)
        mutual = masked_mean(by_sample, batch.mask)[0] / (len(heads) - 1)
        return means.sum() + distillation * mutual, totals.mean()

    return objective


# --- what a tier can hold --------------------------------------------------------------------------------------------

_CLASSIFIER = "classifier"


class _Prefix(NamedTuple):
    """The first stages of the model with their heads: as a module, shapes of its parameters, and its logits (heads,
    batch, classes)."""

    depth: int
    module: DepthNet
    shapes: Params
    network: Network


class _Choice(NamedTuple):
    """How many stages a tier holds, and whether even that is more than FedHM's client costs."""

    depth: int
    is_over_budget: bool = False


def _in_words(choice: _Choice, stages: int) -> str:
    return f"{choice.depth} of {stages} stages" + (", over budget" if choice.is_over_budget else "")


def _prefixes_of(setting: Setting) -> tuple[_Prefix, ...]:
    """One a depth, from the first stage alone to the whole model."""
    key, module = jax.random.key(0), setting.module
    try:
        exits = exits_of(module, setting.inputs)
        if _CLASSIFIER not in setting.shapes:
            raise ValueError(f"it has no layer {_CLASSIFIER!r}")
        classes = setting.shapes[_CLASSIFIER]["kernel"].shape[-1]
        norm = getattr(module, "norm", "none")

        def prefix(depth: int) -> _Prefix:
            net = DepthNet(exits[:depth], classes, norm)
            variables = jax.eval_shape(net.init, key, setting.inputs)
            network = network_of(net, "batch_stats" in variables, setting.compute_dtype)
            return _Prefix(depth, net, variables["params"], network)

        prefixes = tuple(prefix(depth) for depth in range(1, len(exits) + 1))
        own = {name: layer for name, layer in prefixes[-1].shapes.items() if not name.startswith("head_")}
        if (wrong := misfit(own, setting.shapes)) is not None:
            raise ValueError(f"with its classifier they make a model that {wrong}")
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        allowed = f"a model whose stages() lead up to its classifier, as this strategy needs: {first_line}"
        raise ConfigError.of("model", type(module).__name__, allowed) from error
    return prefixes


def _choices(
    setting: Setting, prefixes: Sequence[_Prefix], depths: Sequence[int] | None, budget: Budget
) -> tuple[_Choice, ...]:
    if depths is None:
        return tuple(_matched(setting, prefixes, tier, budget) for tier in range(len(setting.rank_factors)))
    if max(depths) > len(prefixes):
        allowed = f"at most {len(prefixes)}, the stages of {type(setting.module).__name__}"
        raise ConfigError.of("strategy.depths", tuple(depths), allowed)
    return tuple(_Choice(depth) for depth in depths)


def _matched(setting: Setting, prefixes: Sequence[_Prefix], tier: int, budget: Budget) -> _Choice:
    if setting.rank_factors[tier] == 1:
        return _Choice(len(prefixes))
    target = fedhm_budget(setting, tier, budget)
    costs = [model_cost(prefix.network, prefix.shapes, setting.inputs, budget) for prefix in prefixes]
    fitting = sum(cost <= target for cost in costs)
    return _Choice(max(fitting, 1), is_over_budget=fitting == 0)
