"""How far do settings that promise equal results up to rounding move a run?

``python -m benchmarks.rounding``. Runs the default simulation with dynamic tiers and two local epochs in each way and
compares the final parameters; docs/determinism.md says what is promised.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from fedhm_jax import LocalConfig, ServerConfig, SimulationConfig, StrategyConfig, TiersConfig, simulate

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("server.convolution", {"convolution": "gemm"}),
    ("server.convolution", {"convolution": "canonical"}),
    ("server.convolution", {"convolution": "lax"}),
    ("server.clients_per_chunk", {"clients_per_chunk": 2}),
    ("server.clients_per_chunk", {"clients_per_chunk": 4}),
    ("strategy.decomposition", {"decomposition": "svd"}),
    ("strategy.decomposition", {"decomposition": "subspace"}),
)
"""A setting's field and its value."""


def measure(rounds: int) -> Iterator[tuple[str, str, float]]:
    """Runs every way.

    Args:
        rounds: of each run.

    Yields:
        Field, value, and the largest difference of a parameter from the run with default settings.
    """
    base = SimulationConfig(
        strategy=StrategyConfig("fedhm"),
        tiers=TiersConfig(assignment="dynamic"),
        local=LocalConfig(epochs=2),
        server=ServerConfig(rounds=rounds),
    )
    default = jax.tree.leaves(simulate(base).params)
    for field, change in WAYS:
        section, (value,) = field.split(".")[0], change.values()
        config = replace(base, **{section: replace(getattr(base, section), **change)})
        pairs = zip(default, jax.tree.leaves(simulate(config).params), strict=True)
        yield field, str(value), max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


@dataclass(frozen=True)
class Options:
    """Compares runs that differ in how they are computed."""

    rounds: int = 6
    """Rounds of each run."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.rounding")
    rows = list(measure(options.rounds))
    cells: list[tuple[str, ...]] = [(field, value, f"{difference:.1g}") for field, value, difference in rows]
    table = ResultTable("Largest difference of a parameter from the default", ("field", "value", "difference"), cells)
    command = " ".join(("python -m benchmarks.rounding", *sys.argv[1:]))
    measurements = [{"field": field, "value": value, "difference": found} for field, value, found in rows]
    report = Report("rounding", command, (table,), (f"{options.rounds} rounds.",), measurements)
    show(report)
    print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
