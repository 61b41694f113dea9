"""Runs on 1, 2 and 4 devices of a CPU, compiled as users compile; prints the cases that differ by more than a few units
of rounding.

python tests/support/spread_runs.py STRATEGY...
"""

import sys
from dataclasses import replace

import jax

from fedhm_jax import (
    AggregationConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.testing import farthest

UNITS = 1e-6
"""Eight units of rounding of a number near 1."""

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    partition=PartitionConfig(method="dirichlet", clients=9, min_samples=30),
    local=LocalConfig(epochs=1, learning_rate=0.1),
    server=ServerConfig(rounds=2, cohort_size=7, devices=1),
    evaluation=EvaluationConfig(batch_size=50, every=2),
)
CLIPPED = replace(SMALL, aggregation=AggregationConfig(clip=1.0))
MAPS = replace(
    SMALL,
    model=ModelConfig(name="cnn", norm="batch_static"),
    evaluation=EvaluationConfig(batch_size=60, every=2, statistics_samples=300),
)


def cases(strategies: list[str]) -> dict[str, SimulationConfig]:
    """Sample weights and clipping for each strategy; robust merges, convolutions and norms for FedHM."""
    found = {
        name: replace(CLIPPED, strategy=StrategyConfig(name=name, weighting="samples"))  # type: ignore[arg-type]
        for name in strategies
    }
    if "fedhm" in strategies:
        found["cnn"] = MAPS
        found["median"] = replace(SMALL, aggregation=AggregationConfig(merge="median"))
    return found


def main(strategies: list[str]) -> None:
    """Prints a line for each case and number of devices with another result than on one device."""
    for title, config in cases(strategies).items():
        one, *others = (simulate(replace(config, server=replace(config.server, devices=n))) for n in (1, 2, 4))
        for devices, other in zip((2, 4), others, strict=True):
            if farthest(other.params, one.params) > UNITS:
                print(f"{title} on {devices} devices: {farthest(other.params, one.params)}")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    main(sys.argv[1:])
