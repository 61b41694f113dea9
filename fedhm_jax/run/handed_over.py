"""What is handed over to a run in Python, in place of what its config says."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import optax
from flax import linen as nn

from fedhm_jax.data import Dataset
from fedhm_jax.run.strategy_preparation import StrategyBuilder


class HandedOver(NamedTuple):
    """Arguments of `fedhm_jax.simulate`; where one is None, the config decides.

    Attributes:
        data: samples, in place of ``config.data``.
        model: a linen module, in place of ``config.model``.
        strategy: builder of a federated method, in place of ``config.strategy.name``.
        partition: sample indices of each client, in place of ``config.partition``.
        server_optimizer: an optax optimizer, in place of ``config.server.optimizer``.
    """

    data: Dataset | None = None
    model: nn.Module | None = None
    strategy: StrategyBuilder | None = None
    partition: Sequence[Any] | None = None
    server_optimizer: optax.GradientTransformation | None = None


NOTHING = HandedOver()
"""The config decides everything."""
