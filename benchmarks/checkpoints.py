"""What do checkpoints cost? ``python -m benchmarks.checkpoints``.

Times the writing and reading of a checkpoint, and the share that checkpoints take of runs at the default cadence.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import tyro
from flax import linen as nn

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, time_in_turn
from fedhm_jax import LocalConfig, OutputConfig, ServerConfig, SimulationConfig, build_model, simulate
from fedhm_jax.run.checkpoint import Checkpoint, checkpoints, read_checkpoint, write_checkpoint

RECORD = {"round": 1, **{name: dict.fromkeys(("global", "f1", "f2", "f4", "f8"), 0.123456789) for name in "abcdefghi"}}


class Share(NamedTuple):
    """Checkpoints of one run.

    Attributes:
        name: of the run.
        rounds: after the first, which compiles.
        seconds: from the end of the first round to the end of the last.
        spent: seconds of each checkpoint after the first round's.
    """

    name: str
    rounds: int
    seconds: float
    spent: tuple[float, ...]


def measure_sizes(models: tuple[str, ...], repetitions: int) -> Iterator[tuple[str, str, Timing, Timing]]:
    """Times checkpoints of models with 500 records.

    Args:
        models: names of built-in models.
        repetitions: timings of each.

    Yields:
        Model, size of its state, and seconds to write and to read.
    """
    for name in models:
        shape = (1, 8, 8, 1) if name == "cnn" else (1, 32, 32, 3)
        params = jax.jit(build_model(name, 10).init)(jax.random.key(0), np.zeros(shape, np.float32))["params"]
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(nn.unbox(params))]
        with tempfile.TemporaryDirectory() as place:
            numbers = count(1)

            def save(folder: Path = Path(place), arrays: list[np.ndarray] = arrays, numbers: Any = numbers) -> None:
                write_checkpoint(folder, Checkpoint(next(numbers), arrays, [RECORD] * 500, {}), keep=3)

            def load(folder: Path = Path(place)) -> None:
                read_checkpoint(checkpoints(folder)[-1])

            timings = time_in_turn({"write": save, "read": load}, repetitions, at_least=0)
        size = f"{sum(array.nbytes for array in arrays) / 2**20:.2f} MiB"
        yield name, size, timings["write"], timings["read"]


def measure_share(name: str, config: SimulationConfig) -> Share:
    """Runs a config with checkpoints at the default cadence.

    Args:
        name: of the run.
        config: the run.

    Returns:
        What its checkpoints took.
    """
    spent, ends = [], []

    def timed(*args: Any, **kwargs: Any) -> None:
        started = time.perf_counter()
        write_checkpoint(*args, **kwargs)
        spent.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as place, mock.patch("fedhm_jax.run.host_loop.write_checkpoint", timed):
        folder = OutputConfig(folder=Path(place) / "run")
        simulate(replace(config, output=folder), on_round=[lambda _: ends.append(time.perf_counter())])
    return Share(name, len(ends) - 1, ends[-1] - ends[0], tuple(spent[1:]))


@dataclass(frozen=True)
class Options:
    """Times checkpoints."""

    models: tuple[str, ...] = ("cnn", "resnet8", "resnet18")
    """Models whose states are written and read."""
    rounds: int = 1000
    """Rounds of the default config's run."""
    repetitions: int = 7
    """Timings of each checkpoint; the table gives their median and spread."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.checkpoints")
    sizes = list(measure_sizes(options.models, options.repetitions))
    default = SimulationConfig()
    shares = [
        measure_share("the default config", default),
        measure_share(
            f"the default config, {options.rounds} rounds", replace(default, server=ServerConfig(rounds=options.rounds))
        ),
        measure_share(
            "50 epochs, 100 rounds",
            replace(default, local=replace(LocalConfig(), epochs=50), server=ServerConfig(rounds=100)),
        ),
    ]
    tables = [
        ResultTable(
            "One checkpoint [ms]",
            ("model", "state", "write", "read"),
            [(name, size, saved.text(1000), loaded.text(1000)) for name, size, saved, loaded in sizes],
        ),
        ResultTable(
            "Share of checkpoints at the default cadence",
            ("run", "rounds", "ms a round", "checkpoints", "ms a checkpoint", "share [%]"),
            [
                (
                    share.name,
                    str(share.rounds),
                    f"{1000 * (share.seconds - sum(share.spent)) / share.rounds:.1f}",
                    str(len(share.spent)),
                    f"{1000 * sum(share.spent) / len(share.spent):.1f}",
                    f"{100 * sum(share.spent) / share.seconds:.2f}",
                )
                for share in shares
            ],
        ),
    ]
    notes = [
        "A checkpoint is written with 500 records. The state here is the model's parameters; FedHM's holds the factors "
        "of the tiers as well. Write and read include the digests of all bytes.",
        "share = time of checkpoints / time of rounds and checkpoints, both after the first round, which compiles. The "
        "last round's checkpoint is always written and counts.",
    ]
    measurements = [
        {"model": name, "action": action, "repetition": repetition, "seconds": seconds}
        for name, _, *timings in sizes
        for action, timing in zip(("write", "read"), timings, strict=True)
        for repetition, seconds in enumerate(timing.values)
    ]
    command = " ".join(("python -m benchmarks.checkpoints", *sys.argv[1:]))
    report = Report("checkpoints", command, tables, notes, measurements)
    show(report)
    print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
