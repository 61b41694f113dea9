"""Do the tests notice a planted fault? ``python -m benchmarks.mutation --sample 3``.

Cosmic Ray changes one operator, number or condition of a numeric module at a time and runs the tests that should
notice. A mutant that they pass survives: either it changes nothing that matters, or a test is missing. A sample of each
module's mutants is drawn with a fixed seed, so that two states of the tests can be compared on the same mutants. Hours
for all mutants, about half an hour for three a module. Needs ``pip install cosmic-ray`` and a checkout that nobody
edits meanwhile: mutants are written into the files themselves and taken out again.
"""

import json
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from benchmarks.report import RESULTS, Report, ResultTable, show, write

ROOT = Path(__file__).parents[1]
STRATEGIES = ("tests/strategies/test_strategy_twin.py", "tests/strategies/test_strategies.py")
TESTS: dict[str, tuple[str, ...]] = {
    "server/aggregation.py": ("tests/engine/test_twin.py", "tests/strategies/test_strategy_twin.py"),
    "server/cohort.py": ("tests/data/test_partition.py", "tests/run/test_simulation.py"),
    "server/acceptance.py": (
        "tests/run/test_failing_clients.py",
        "tests/server/test_robust.py",
        "tests/server/test_privacy.py",
    ),
    "client/update.py": ("tests/engine/test_twin.py", "tests/strategies/test_fiarse.py"),
    "data/partition.py": ("tests/data/test_partition.py",),
    "lowrank/decomposition.py": ("tests/lowrank", "tests/engine/test_twin.py"),
    "lowrank/segments.py": ("tests/strategies/test_segments_twin.py",),
    "lowrank/truncation.py": ("tests/lowrank",),
    "layers/depthwise.py": ("tests/strategies/test_depthfl.py",),
    "layers/lowrank.py": ("tests/layers/test_layers.py",),
    "models/depth.py": ("tests/strategies/test_depthfl.py",),
    "strategies/adapters.py": ("tests/strategies/test_adapters.py",),
    "strategies/base.py": ("tests/engine/test_twin.py", *STRATEGIES),
    "strategies/depthfl.py": ("tests/strategies/test_depthfl.py", *STRATEGIES),
    "strategies/fedavg.py": ("tests/engine/test_engine.py", *STRATEGIES),
    "strategies/fedhm.py": ("tests/engine/test_twin.py", *STRATEGIES),
    "strategies/fedhm_adapters.py": ("tests/strategies/test_adapters.py",),
    "strategies/fedhm_factors.py": ("tests/strategies/test_segments_twin.py", *STRATEGIES),
    "strategies/fedhm_nested.py": ("tests/strategies/test_segments_twin.py", *STRATEGIES),
    "strategies/fedhm_segments.py": ("tests/strategies/test_segments_twin.py", *STRATEGIES),
    "strategies/fedrolex.py": STRATEGIES,
    "strategies/fiarse.py": ("tests/strategies/test_fiarse.py", *STRATEGIES),
    "strategies/fjord.py": STRATEGIES,
    "strategies/flexlora.py": ("tests/strategies/test_adapters.py",),
    "strategies/flora.py": ("tests/strategies/test_adapters.py", *STRATEGIES),
    "strategies/florist.py": ("tests/strategies/test_adapters.py",),
    "strategies/heterofl.py": STRATEGIES,
    "strategies/hetlora.py": ("tests/strategies/test_adapters.py",),
    "strategies/raflora.py": ("tests/strategies/test_adapters.py",),
    "strategies/slices.py": ("tests/models/test_width_plan.py", *STRATEGIES),
    "strategies/splitmix.py": STRATEGIES,
    "strategies/with_adapters.py": ("tests/strategies/test_adapters.py",),
}
"""By module, the tests that should notice, the likeliest first; the module's own doctests come before them."""


class Mutant(NamedTuple):
    """One planted fault and what became of it."""

    module: str
    operator: str
    line: int
    outcome: str
    diff: str


@dataclass(frozen=True)
class Options:
    """Plants faults in numeric modules and counts those that the tests notice."""

    sample: int = 3
    """Mutants of each module."""
    seed: int = 0
    """Seed of the draw."""
    modules: tuple[str, ...] = tuple(TESTS)
    """Modules below fedhm_jax/ to plant faults in."""
    timeout: float = 900.0
    """Seconds after which a mutant's tests are stopped; a mutant that hangs is noticed."""
    results: Path = RESULTS
    """Folder of the written tables."""


def mutants(module: str, sample: int, seed: int, timeout: float) -> Iterator[Mutant]:
    """Plants some faults in one module, one after another.

    Args:
        module: its path below ``fedhm_jax/``.
        sample: how many.
        seed: of the draw.
        timeout: seconds that the tests may take.

    Yields:
        What became of each.
    """
    path = f"fedhm_jax/{module}"
    tests = (path, *TESTS[module])
    command = shlex.join([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests])
    with tempfile.TemporaryDirectory() as folder:
        config, session = Path(folder) / "config.toml", Path(folder) / "session.sqlite"
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "{path}"\ntimeout = {timeout}\nexcluded-modules = []\n'
            f"test-command = {json.dumps(command)}\n"
            '[cosmic-ray.distributor]\nname = "local"\n',
            encoding="utf-8",
        )
        _cosmic_ray("init", str(config), str(session))
        _keep_sample(session, sample, seed)
        _cosmic_ray("exec", str(config), str(session))
        for line in _cosmic_ray("dump", str(session)).splitlines():
            item, result = json.loads(line)
            mutation = item["mutations"][0]
            if result is not None:
                outcome, diff = result["test_outcome"] or result["worker_outcome"], result["diff"] or ""
                yield Mutant(module, mutation["operator_name"], mutation["start_pos"][0], outcome, _changed(diff))


def _cosmic_ray(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("cosmic-ray")), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _keep_sample(session: Path, sample: int, seed: int) -> None:
    """Leaves some of a session's mutants, drawn from those in the order of their place."""
    import sqlite3

    with sqlite3.connect(session) as database:
        places = "SELECT job_id FROM mutation_specs ORDER BY operator_name, start_pos_row, start_pos_col, occurrence"
        jobs = [row[0] for row in database.execute(places)]
        kept = set(random.Random(seed).sample(jobs, min(sample, len(jobs))))
        for job in set(jobs) - kept:
            database.execute("DELETE FROM mutation_specs WHERE job_id = ?", (job,))
            database.execute("DELETE FROM work_items WHERE job_id = ?", (job,))
    database.close()


def _changed(diff: str) -> str:
    """The lines that a mutant took out and put in."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " | ".join(" ".join(line.split()) for line in lines)


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    options = tyro.cli(Options, prog="python -m benchmarks.mutation")
    found: list[Mutant] = []
    for module in options.modules:
        for mutant in mutants(module, options.sample, options.seed, options.timeout):
            found.append(mutant)
            print(f"{mutant.outcome:10} {module}:{mutant.line} {mutant.operator} {mutant.diff}", flush=True)
    by_module = [(module, [mutant for mutant in found if mutant.module == module]) for module in options.modules]
    rows: list[tuple[str, ...]] = [
        (module, str(len(some)), str(sum(mutant.outcome != "survived" for mutant in some)))
        for module, some in by_module
    ]
    survivors: list[tuple[str, ...]] = [
        (f"{mutant.module}:{mutant.line}", mutant.diff) for mutant in found if mutant.outcome == "survived"
    ]
    tables = (
        ResultTable("Planted faults", ("module", "planted", "noticed"), rows),
        ResultTable("Not noticed", ("place", "change"), survivors),
    )
    command = " ".join(("python -m benchmarks.mutation", *sys.argv[1:]))
    noticed = sum(mutant.outcome != "survived" for mutant in found)
    notes = (f"{noticed} of {len(found)} noticed.",)
    report = Report("mutation", command, tables, notes, [mutant._asdict() for mutant in found])
    show(report)
    print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
