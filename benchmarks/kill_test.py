"""Is a run that was killed and resumed the same, bit for bit, as one that was not?

``python -m benchmarks.kill_test`` kills twenty runs with SIGKILL, each at a random moment after its first record, and
resumes them. The runs write a checkpoint after every round, so most of the kills meet one that is being written.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.report import Report, ResultTable, show
from fedhm_jax import (
    CheckpointConfig,
    DataConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    TiersConfig,
    simulate,
    write_config,
)

CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(16,)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=40),
    checkpoint=CheckpointConfig(every=1),
)
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from fedhm_jax import OutputConfig, read_config, simulate
simulate(replace(read_config(sys.argv[1]), output=OutputConfig(folder=Path(sys.argv[2]))))
"""


@dataclass(frozen=True)
class Options:
    """Kills runs and resumes them."""

    kills: int = 20
    """Number of runs to kill."""
    seed: int = 0
    """Of the random moments."""


def main() -> None:
    """Runs the benchmark with the options of the command line; its exit code is 1 if a run differed."""
    options = tyro.cli(Options, prog="python -m benchmarks.kill_test")
    generator = random.Random(options.seed)
    rows: list[tuple[str, ...]] = []
    same = 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        write_config(CONFIG, home / "config.toml")
        expected = simulate(replace(CONFIG, output=OutputConfig(folder=home / "unbroken")))
        length = sum(record["seconds"] for record in expected.history[1:])
        for number in range(options.kills):
            folder = home / f"run-{number}"
            # checkpoints make the run several times as long as its rounds
            round, writing = _killed(home / "config.toml", folder, generator.uniform(0, 4 * length))
            equal = _bits(simulate(resume=folder)) == _bits(expected)
            same += equal
            rows.append((str(number + 1), str(round), "yes" if writing else "no", "yes" if equal else "NO"))
    columns = ("kill", "records written", "within a checkpoint", "same bits after resuming")
    notes = [f"{same} of {options.kills} runs have the model and the records of the unbroken run."]
    show(Report("kill_test", "", [ResultTable("Runs that were killed", columns, rows)], notes, []))
    sys.exit(same < options.kills)


def _killed(config: Path, folder: Path, delay: float) -> tuple[int, bool]:
    """Starts a run and kills it so many seconds after its first record; records written, and whether a part is left."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(config), str(folder)], env=os.environ)
    records = folder / "records.jsonl"
    while not (records.exists() and records.stat().st_size) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    parts = [*(folder / "checkpoints").glob("*.part"), *(folder / "checkpoints").glob("*.old")]
    return records.read_bytes().count(b"\n"), bool(parts)


def _bits(result: SimulationResult) -> Any:
    """Everything that must be the same: all but wall time and places."""
    history = [{name: value for name, value in record.items() if name != "seconds"} for record in result.history]
    assert result.folder is not None
    lines = (result.folder / "records.jsonl").read_text().splitlines()
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.params)], repr(history), len(lines)


if __name__ == "__main__":
    main()
