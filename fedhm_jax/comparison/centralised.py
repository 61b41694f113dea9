"""The frame above all strategies: one full model trained on all data in one place, with a federation's work.

It runs in the same engine as everything else, as FedAvg of a single client that holds every training sample. Equal to
the federation's are data, model, initialisation, optimizer and its options, batch size, number of rounds (after each
of which the optimizer starts afresh and the schedule goes on), and the expected number of samples trained on a round.
With K clients of N samples in all, m of them sampled and E epochs in batches of B, a round has ``ceil(E N m / (K B))``
steps, or ``m S`` where ``local.steps = S``. What belongs to a federation alone is off: FedProx's pull, clipping and
robust merges, noise, deadlines, failures and server optimizers.
"""

from dataclasses import replace

from fedhm_jax.config import (
    AggregationConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
)

CENTRALISED = "centralised"
"""Its name among a study's strategies."""

FEDERATION = (
    *("strategy.", "aggregation.", "privacy.", "devices.deadline", "devices.dropout", "local.proximal"),
    *("server.participation", "server.cohort_size", "server.optimizer", "server.learning_rate"),
    *("server.momentum", "server.second_moment", "server.epsilon", "server.samples"),
)
"""Beginnings of the config fields that mean nothing where nothing is merged, or say how much work a federation does."""


def is_set_by_centralised(field: str) -> bool:
    """Whether a config field makes no difference to centralised training, or would change its share of the work.

    Args:
        field: dotted path.

    Returns:
        The answer.

    Example:
        >>> is_set_by_centralised("local.proximal"), is_set_by_centralised("local.epochs")
        (True, False)
    """
    return field.startswith(("partition.", "tiers.", "evaluation.worst_client", *FEDERATION))


def without_federation(config: SimulationConfig) -> SimulationConfig:
    """The config with all of that off that merges, or guards or hinders a merge.

    Args:
        config: the federation's.

    Returns:
        The config. Its strategy is as it was; rounds, cohort and local training are the federation's.

    Example:
        >>> without_federation(SimulationConfig(server=ServerConfig(rounds=3, optimizer="adam"))).server.optimizer
        'sgd'
    """
    server = config.server
    return replace(
        config,
        local=replace(config.local, proximal=0.0),
        aggregation=AggregationConfig(),
        privacy=PrivacyConfig(),
        server=ServerConfig(
            rounds=server.rounds,
            participation=server.participation,
            cohort_size=server.cohort_size,
            seed=server.seed,
            convolution=server.convolution,
            devices=server.devices,
            clients_per_chunk=server.clients_per_chunk,
        ),
        devices=replace(config.devices, deadline=None, dropout=0.0),
    )


def centralised(config: SimulationConfig, samples: int, clients: int) -> SimulationConfig:
    """The config of centralised training that does the work of a federation.

    Args:
        config: the federation's.
        samples: training samples of all clients together, N.
        clients: number of registered clients, K.

    Returns:
        The config, of one client of the strongest tier.

    Example:
        >>> work = centralised(SimulationConfig(), samples=1437, clients=20)  # 10 a round, 5 epochs
        >>> work.local.steps, work.partition.clients, work.strategy.name
        (225, 1, 'fedavg')
    """
    local, server = config.local, config.server
    cohort = server.cohort_size or max(round(server.participation * clients), 1)
    passes = -(-local.epochs * samples * cohort // (clients * local.batch_size))
    alone = without_federation(config)
    return replace(
        alone,
        partition=PartitionConfig("given" if config.partition.method == "given" else "iid", clients=1),
        tiers=replace(
            config.tiers,
            shares=None,
            counts=(1, *[0] * (len(config.tiers.rank_factors) - 1)),
            of_client=None,
            assignment="fixed",
        ),
        strategy=StrategyConfig(name="fedavg", classifier_rows=config.strategy.classifier_rows),
        local=replace(alone.local, steps=passes if local.steps is None else cohort * local.steps),
        server=replace(alone.server, participation=ServerConfig.participation, cohort_size=1),
        # the mix of its one client is everybody's
        evaluation=replace(config.evaluation, worst_client=False),
    )
