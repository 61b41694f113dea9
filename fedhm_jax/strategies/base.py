"""What a federated method is: five pure functions. One paper, one file."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedhm_jax.aggregation import Contribution
from fedhm_jax.client_data import Client
from fedhm_jax.tree import Params

State = Any
"""What the server remembers between rounds: a pytree of the strategy's own."""


class Strategy(NamedTuple):
    """A federated method. Tiers are numbered from the strongest (smallest rank factor) to the weakest.

    Attributes:
        init: ``init(params) -> state``, from the freshly initialised full-rank model.
        global_model: ``global_model(state) -> params``, the full-rank model.
        distribute: ``distribute(state) -> (params, ...)``, the model each tier receives, one tree a tier.
        contribute: ``contribute(tier, trained, client) -> Contribution``, what one client adds to the merge.
        aggregate: ``aggregate(state, contribution, clients) -> state``, with the cohort's summed contribution and the
            number of clients of each tier that trained, (tiers,) int32.
    """

    init: Callable[[Params], State]
    global_model: Callable[[State], Params]
    distribute: Callable[[State], tuple[Params, ...]]
    contribute: Callable[[int, Params, Client], Contribution]
    aggregate: Callable[[State, Contribution, jax.Array], State]
