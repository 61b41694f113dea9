"""The frame beside all strategies: every client trains alone, with its share of a federation's work.

Each begins with the first model of its tier, FedHM's truncation of the common initial model, and sees no samples but
its own. Equal to the federation's are data, clients and their tiers, model, initialisation, optimizer and its options,
and the work: a client trains for as many rounds as it takes part in on average (`fedhm_jax.run.local_only`). What
belongs to a federation alone is off, as in centralised training. Tiers are fixed, for a client that is alone has one.
"""

from dataclasses import replace

from fedhm_jax.comparison.centralised import FEDERATION, without_federation
from fedhm_jax.config import SimulationConfig, StrategyConfig

LOCAL_ONLY = "local_only"
"""Its name among a study's strategies."""


def is_set_by_local_only(field: str) -> bool:
    """Whether a config field makes no difference to clients that train alone, or would change their share of the work.

    Args:
        field: dotted path.

    Returns:
        The answer.

    Example:
        >>> is_set_by_local_only("local.proximal"), is_set_by_local_only("partition.alpha")
        (True, False)
    """
    return field.startswith(("tiers.assignment", *FEDERATION))


def local_only(config: SimulationConfig) -> SimulationConfig:
    """The config of clients that train alone, each with its share of the work of a federation.

    Args:
        config: the federation's.

    Returns:
        The config, for `fedhm_jax.run.simulate_alone`; its rounds and cohorts are the federation's, and say how much
        work there is.

    Example:
        >>> from fedhm_jax.config import LocalConfig
        >>> alone = local_only(SimulationConfig(local=LocalConfig(proximal=0.1, epochs=2)))
        >>> alone.local.proximal, alone.local.epochs, alone.strategy.name
        (0.0, 2, 'fedhm')
    """
    return replace(
        without_federation(config),
        tiers=replace(config.tiers, assignment="fixed"),
        strategy=StrategyConfig(name="fedhm", classifier_rows="all"),
    )
