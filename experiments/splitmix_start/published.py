"""Split-Mix as the published code begins it: kernels cut out of a whole network's, outputs divided by the width."""

import math

import jax
from jax import lax

from fedhm_jax.client import supervised
from fedhm_jax.models import ensemble, hidden_layers, rescaled
from fedhm_jax.strategies import Setting, Strategy, splitmix
from fedhm_jax.strategies.slices import plan_slices
from fedhm_jax.strategies.splitmix import SplitMixState
from fedhm_jax.tasks import Batch
from fedhm_jax.tree import Params, map_named


def splitmix_published_start(setting: Setting) -> Strategy[SplitMixState]:
    """The package's Split-Mix but for the base networks' first kernels and the scale of their layers.

    Args:
        setting: what to build for.

    Returns:
        The strategy, of the same widths and sizes.

    Source: the code of Hong et al., arXiv 2203.09747: a base network's kernels have the spread of the whole network's,
    and the outputs of its hidden layers are divided by the width.
    """
    ours = splitmix(setting)
    slices = plan_slices(setting, None, "bytes")
    member = rescaled(setting.network, hidden_layers(slices.plan), 1 / slices.widths[-1])
    objective, together = supervised(member, setting.masked_loss, setting.task), ensemble(member)

    def init(params: Params, key: jax.Array) -> SplitMixState:
        state = ours.init(params, key)
        return state._replace(bases=map_named(_with_whole_spread, state.bases, setting.shapes))

    def stacked(params: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        means, totals = lax.map(lambda base: objective(base, batch, owned, key), params)
        return means.sum(), totals.mean()

    tiers = len(ours.sizes)
    return ours._replace(
        init=init, network=together, networks=(together,) * tiers, objective=lambda state, tier: stacked
    )


def _with_whole_spread(path: str, stack: jax.Array, whole: jax.ShapeDtypeStruct) -> jax.Array:
    """Takes back that the spread of a slice's kernel fits its own number of inputs."""
    if not path.endswith("kernel"):
        return stack
    return stack * math.sqrt(math.prod(stack.shape[1:-1]) / math.prod(whole.shape[:-1]))
