"""The config of tests that want any run of the paper's FedHM: what one of them compiled, the others need not."""

from fedhm_jax import (
    DataConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
)

SMALL_RUN = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=50),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(steps=2, batch_size=8),
    server=ServerConfig(rounds=2),
)
