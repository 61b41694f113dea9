"""What a federated method is: a handful of pure functions. One paper, one file."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from fedhm_jax.client import Objective
from fedhm_jax.data import Client
from fedhm_jax.errors import ConfigError
from fedhm_jax.lowrank import RankPlan
from fedhm_jax.models import Network, factorizable_kernels, network_of, plan_ranks
from fedhm_jax.server import Contribution, weighted
from fedhm_jax.tasks import CLASSIFICATION, Task
from fedhm_jax.tree import Params, map_named

Weighting = Literal["uniform", "samples", "rank_softmax"]

StateT = TypeVar("StateT")
"""What the server remembers between rounds: a pytree of the strategy's own."""

State = Any
"""The same where the strategy is known at run time only: on the host."""


class Setting(NamedTuple):
    """What a strategy is built for; the same for all methods of a comparison.

    Attributes:
        module: the full-rank model.
        inputs: shape and dtype of a batch of the module's inputs, such as images.
        shapes: shapes of the module's parameters.
        has_statistics: the module has static batch norms.
        rank_factors: f of each tier, from the strongest (smallest) to the weakest.
        masked_loss: zero the logits of classes a client does not hold in its loss.
        weighting: a client's weight in the merge: ``uniform``; ``samples``: its sample count; ``rank_softmax``:
            ``exp(-f / temperature)`` of its tier.
        temperature: T of ``rank_softmax``.
        classifier: top-level layer whose columns (one a class) are averaged only over the clients that hold the class;
            None averages them over all.
        mean_samples: mean number of samples of a client.
        compute_dtype: floating type of the clients' forward and backward passes; None for the parameters' own.
        task: what there is to learn.
        clients: number of registered clients of each tier, the expected one where tiers are drawn anew; empty where
            it is not known.
    """

    module: nn.Module
    inputs: jax.ShapeDtypeStruct
    shapes: Params
    has_statistics: bool
    rank_factors: tuple[float, ...]
    masked_loss: bool = False
    weighting: Weighting = "uniform"
    temperature: float = 1.0
    classifier: str | None = None
    mean_samples: float = 1.0
    compute_dtype: DTypeLike | None = None
    task: Task = CLASSIFICATION
    clients: tuple[float, ...] = ()

    @property
    def network(self) -> Network:
        """The module as pure functions."""
        return network_of(self.module, self.has_statistics, self.compute_dtype)


class Sent(NamedTuple):
    """What one client of a tier trains, and what that is on the line.

    Attributes:
        parameters: trained parameters.
        bytes_down: bytes that the client receives.
        bytes_up: bytes that it sends back.
    """

    parameters: int
    bytes_down: int
    bytes_up: int


class Strategy(NamedTuple, Generic[StateT]):
    """A federated method. Tiers are numbered from the strongest (smallest rank factor) to the weakest.

    Attributes:
        init: ``init(params, key) -> state``, from the freshly initialised full-rank model.
        global_model: ``global_model(state) -> params``, the model that the server holds.
        tier_model: ``tier_model(state, tier) -> params``, the model that a client of the tier predicts with.
        distribute: ``distribute(state, tier, client) -> params``, what a client of the tier receives to train.
        contribute: ``contribute(state, tier, trained, client) -> Contribution``, what a client adds to its tier's sum.
        aggregate: ``aggregate(state, contributions, clients) -> state``, with the summed contribution of each tier and
            the number of clients of each tier that trained, (tiers,) int32.
        network: functions of the global model.
        networks: functions of each tier's model.
        objective: ``objective(state, tier) -> Objective``, what the clients of a tier minimise. Of the state it may use
            what a device could work out from what it received.
        sizes: each tier's model in words, such as ``"ranks / 4"``.
        replace_model: ``replace_model(state, params) -> state``, the state with another global model; None if the
            strategy is not to be combined with a server optimizer.
        sent: for each tier, what goes over the line where that is not the tree that ``distribute`` returns, as of a
            model of which many entries are zero; None where it is.
    """

    init: Callable[[Params, jax.Array], StateT]
    global_model: Callable[[StateT], Params]
    tier_model: Callable[[StateT, int], Params]
    distribute: Callable[[StateT, int, Client], Params]
    contribute: Callable[[StateT, int, Params, Client], Contribution]
    aggregate: Callable[[StateT, Sequence[Contribution], jax.Array], StateT]
    network: Network
    networks: tuple[Network, ...]
    objective: Callable[[StateT, int], Objective]
    sizes: tuple[str, ...]
    replace_model: Callable[[StateT, Params], StateT] | None = None
    sent: tuple[Sent, ...] | None = None


def rank_plans(setting: Setting) -> tuple[RankPlan, ...]:
    """FedHM's rank plan of each tier.

    Args:
        setting: its module and rank factors.

    Returns:
        One plan a tier, empty for the full-rank model.

    Raises:
        ConfigError: a tier should be smaller, and the module has no layer that it could factorize.
    """
    kernels = factorizable_kernels(setting.module, setting.inputs)
    plans = tuple(plan_ranks(kernels, factor) for factor in setting.rank_factors)
    for factor, plan in zip(setting.rank_factors, plans, strict=True):
        if factor > 1 and not plan:
            name = type(setting.module).__name__
            allowed = f"1 for {name}, which has no low-rank layer that this factor makes smaller"
            raise ConfigError.of("tiers.rank_factors", factor, allowed)
    return plans


def client_contribution(setting: Setting, tier: int, params: Params, client: Client) -> Contribution:
    """What one client's trained parameters add to the merge, ``(w_k W_k, w_k)``; zero for a client not present.

    Args:
        setting: its ``weighting`` gives w_k; its ``classifier`` is averaged only over classes that the client holds.
        tier: the client's.
        params: what the client trained.
        client: the client.

    Returns:
        The contribution, in the shapes of ``params``.
    """
    return weigh(setting, setting.rank_factors[tier], params, client.present, client.size, client.owned)


_LARGEST_EXPONENT = 60
"""Of a weight: a client of a weight e^60 times smaller is below rounding in either precision, and e^60 squared fits."""


def weigh(
    setting: Setting, rank_factor: float, params: Params, present: jax.Array, samples: jax.Array, owned: jax.Array
) -> Contribution:
    """A tree under the weight of a client that might hold it.

    Args:
        setting: as in `client_contribution`.
        rank_factor: f of the client.
        params: the tree.
        present: scalar, False for a client that does not take part.
        samples: scalar, the client's sample count.
        owned: (classes,) bool, or a scalar for all classes alike.

    Returns:
        The contribution.
    """
    dtype = jax.tree.leaves(params)[0].dtype
    # Relative to the strongest tier's, so that not all of them are too small for a floating-point number.
    exponent = (setting.rank_factors[0] - rank_factor) / setting.temperature
    relative = math.exp(min(exponent, _LARGEST_EXPONENT)) if setting.weighting == "rank_softmax" else 1.0
    weight = present.astype(dtype) * relative
    if setting.weighting == "samples":
        weight = weight * samples.astype(dtype)
    by_class = weight * owned.astype(dtype)

    def weight_of(path: str, _: jax.Array) -> jax.Array:
        # Of a factorized classifier u has a column a class, and v has none.
        has_classes = path.split("/")[0] == setting.classifier and not path.endswith("/v")
        return by_class if has_classes else weight

    return weighted(params, map_named(weight_of, params))


def sum_tiers(contributions: Sequence[Contribution]) -> Contribution:
    """Sum of the tiers' contributions, for tiers that contribute in the same shapes.

    Args:
        contributions: one a tier.

    Returns:
        The sum.
    """
    return reduce(lambda one, other: jax.tree.map(jnp.add, one, other), contributions)
