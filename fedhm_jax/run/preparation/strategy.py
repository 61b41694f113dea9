"""The strategy of a run, and what each tier costs under it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.models import count_bytes, count_macs, count_parameters, forward_macs
from fedhm_jax.results import TierCost
from fedhm_jax.run.preparation.learning import Learning, batch_of, client_of
from fedhm_jax.server import Tier
from fedhm_jax.strategies import STRATEGIES, Sent, Setting, State, Strategy, load_builder
from fedhm_jax.tasks import Batch, Task
from fedhm_jax.tree import Params, named_leaves

CLASSIFIER = "classifier"

StrategyBuilder = Callable[[Setting], Strategy[State]]


def build_setting(
    config: SimulationConfig,
    model: nn.Module,
    inputs: jax.ShapeDtypeStruct,
    variables: Params,
    tiers: Sequence[Tier],
    task: Task,
    mean_samples: float,
    clients: Sequence[float] = (),
) -> Setting:
    """What the run's strategy is built for.

    Args:
        config: the run's config.
        model: its full-rank model.
        inputs: shape and dtype of a batch.
        variables: shapes of the model's variables.
        tiers: from the strongest to the weakest.
        task: what there is to learn.
        mean_samples: mean number of samples of a client.
        clients: number of clients of each tier; empty where costs do not matter.

    Returns:
        The setting.

    Raises:
        ConfigError: the classifier's rows are asked for, and the model has no layer of that name.
    """
    # Where all clients hold all classes, rows owned and all rows are the same.
    owned_rows = config.strategy.classifier_rows == "owned" and task.has_classes
    if owned_rows and not any(path.split("/")[0] == CLASSIFIER for path in named_leaves(variables["params"])):
        raise ConfigError.of(
            "strategy.classifier_rows", "owned", f"'all' for a model without a layer named {CLASSIFIER!r}"
        )
    return Setting(
        module=model,
        inputs=inputs,
        shapes=variables["params"],
        has_statistics="batch_stats" in variables,
        rank_factors=tuple(tier.rank_factor for tier in tiers),
        masked_loss=config.local.masked_loss,
        weighting=config.strategy.weighting,
        temperature=config.strategy.temperature,
        classifier=CLASSIFIER if owned_rows else None,
        mean_samples=mean_samples,
        compute_dtype=None if config.local.compute == "float32" else jnp.bfloat16,
        task=task,
        clients=tuple(clients),
    )


def chosen_builder(config: SimulationConfig, given: StrategyBuilder | None) -> StrategyBuilder | None:
    """The builder of a strategy that is not the package's own.

    Args:
        config: the run's config, which may name one.
        given: one handed over.

    Returns:
        The builder; None for a strategy of the package.

    Raises:
        ConfigError: both are there, or what the config names cannot be loaded.
    """
    name = config.strategy.builder
    if name is not None and given is not None:
        raise ConfigError.of("strategy.builder", name, "unset where a strategy is handed over")
    return given if name is None else load_builder(name, "strategy.builder")


def build_strategy(config: SimulationConfig, setting: Setting, builder: StrategyBuilder | None) -> Strategy[State]:
    """The strategy that a config names, or one handed over.

    Args:
        config: the run's config.
        setting: what to build for.
        builder: in place of the config's strategy.

    Returns:
        The strategy.

    Raises:
        ConfigError: the strategy is not defined on this model or these tiers, or cannot meet its budget.
    """
    if builder is not None:
        return builder(setting)
    row = STRATEGIES[config.strategy.name]
    return row.build(setting, **{name: getattr(config.strategy, name) for name in row.options})


def tier_costs(
    strategy: Strategy[State],
    setting: Setting,
    tiers: Sequence[Tier],
    clients: Sequence[float],
    learning: Learning,
    batch_size: int,
) -> tuple[TierCost, ...]:
    """What one client of each tier carries.

    Args:
        strategy: the federated method.
        setting: what it was built for.
        tiers: from the strongest to the weakest.
        clients: number of clients of each tier.
        learning: shapes of what is to be learned.
        batch_size: samples of a step; what a step does once, whatever its samples, is shared out among them.

    Returns:
        One cost a tier.
    """
    key = jax.random.key(0)
    state = jax.eval_shape(strategy.init, setting.shapes, key)
    client, batch = client_of(learning.classes), batch_of(learning, batch_size)

    def train(tier: int, state: State, received: Params, batch: Batch, owned: jax.Array, key: jax.Array) -> Any:
        return strategy.objective(state, tier)(received, batch, owned, key)

    def cost(tier: int) -> TierCost:
        received = jax.eval_shape(lambda state: strategy.distribute(state, tier, client), state)
        model = jax.eval_shape(lambda state: strategy.tier_model(state, tier), state)
        sent = Sent(count_parameters(received), count_bytes(received), count_bytes(received))
        if strategy.sent is not None:
            sent = strategy.sent[tier]
        return TierCost(
            tier=tiers[tier].name,
            rank_factor=tiers[tier].rank_factor,
            size=strategy.sizes[tier],
            clients=clients[tier],
            parameters=sent.parameters,
            macs=forward_macs(strategy.networks[tier], model, setting.inputs),
            train_macs=round(count_macs(partial(train, tier), state, received, batch, client.owned, key) / batch_size),
            bytes_down=sent.bytes_down,
            bytes_up=sent.bytes_up,
        )

    return tuple(cost(tier) for tier in range(len(tiers)))
