"""Runs every plan on every problem and writes the table, the figures' numbers and the figure beside this file.

python -m experiments.convergence.run
"""

import csv
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import tyro

from experiments.convergence.problem import SIZE, make_problem, spectrum
from experiments.convergence.theory import floor_of_segments, gradient_floor
from experiments.convergence.training import LEARNING_RATE, Trace, train
from fedhm_jax.models.rank_plan import rank_for
from fedhm_jax.reporting.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
PLANS = ((1.0,), (1.0, 2.0), (1.0, 4.0), (1.0, 8.0), (1.0, 2.0, 4.0, 8.0), (2.0, 4.0, 8.0), (2.0,), (8.0,))
STRATEGIES = ("fedhm", "fedhm_segments")
WRITTEN_EVERY = 10


class Case(NamedTuple):
    """A kind of problem.

    Attributes:
        title: of its table and panel.
        rank: of the optimum.
        skew: of the curvatures, see `make_problem`.
    """

    title: str
    rank: int
    skew: float


CASES = (
    Case("Optimum of full rank, equal curvature", SIZE, 1.0),
    Case("Optimum of full rank, own curvature", SIZE, 3.0),
    Case("Optimum of rank 2, equal curvature", 2, 1.0),
    Case("Optimum of rank 2, own curvature", 2, 3.0),
)


class Result(NamedTuple):
    """One plan on one kind of problem, under one strategy.

    Attributes:
        case: the kind of problem.
        plan: rank factors of the tiers.
        strategy: its name.
        trace: of all seeds, each figure (seeds, rounds + 1).
    """

    case: Case
    plan: tuple[float, ...]
    strategy: str
    trace: Trace


@dataclass(frozen=True)
class Arguments:
    """FedHM on linear regressions with known optima."""

    rounds: int = 400
    """Number of rounds."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the problems."""


def main(arguments: Arguments) -> None:
    """Runs everything and writes convergence.md, convergence.csv and convergence.png."""
    started = time.perf_counter()
    results = [
        run(case, plan, strategy, arguments)
        for case in CASES
        for plan in PLANS
        for strategy in STRATEGIES
        if strategy == "fedhm" or len(plan) > 1  # of one tier the merges are the same, but for the whole rest
    ]
    seconds = time.perf_counter() - started
    write_history(results, arguments, HERE / "convergence.csv")
    write_figure(results, HERE / "convergence.png")
    (HERE / "convergence.md").write_text(table(results, arguments, seconds))


def run(case: Case, plan: tuple[float, ...], strategy: str, arguments: Arguments) -> Result:
    """Trains one plan with every seed, in float64."""
    with jax.enable_x64(True):
        problems = [make_problem(seed, case.rank, case.skew) for seed in arguments.seeds]
        traces = [jax.device_get(train(problem, plan, arguments.rounds, strategy)) for problem in problems]
    return Result(case, plan, strategy, jax.tree.map(lambda *seeds: np.stack(seeds), *traces))


def plan_name(plan: tuple[float, ...]) -> str:
    """A plan in words, such as ``"f = 1, 2"``."""
    return f"f = {', '.join(f'{factor:g}' for factor in plan)}"


def floor_in_theory(result: Result) -> float | None:
    """The gradient norm at rest where `gradient_floor` gives it, without what its rounding leaves."""
    if result.case.skew != 1:
        return None
    floor_of = gradient_floor if result.strategy == "fedhm" else floor_of_segments
    floor = floor_of(spectrum(result.case.rank), result.plan, LEARNING_RATE)
    return floor if floor > 1e-12 else 0.0


def write_history(results: list[Result], arguments: Arguments, path: Path) -> None:
    """One row for every few rounds of each problem, plan and seed."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["problem", "rank_factors", "strategy", "seed", "round", *Trace._fields])
        for case, plan, strategy, trace in results:
            for index, seed in enumerate(arguments.seeds):
                for done in range(0, arguments.rounds + 1, WRITTEN_EVERY):
                    values = [f"{figure[index, done]:.6e}" for figure in trace]
                    factors = " ".join(f"{factor:g}" for factor in plan)
                    writer.writerow([case.title, factors, strategy, seed, done, *values])


def table(results: list[Result], arguments: Arguments, seconds: float) -> str:
    """The last round, mean and standard deviation over the seeds, as Markdown."""
    seeds = " ".join(str(seed) for seed in arguments.seeds)
    lines = [
        f"`python -m experiments.convergence.run --rounds {arguments.rounds} --seeds {seeds}`",
        "",
        f"After round {arguments.rounds}; mean ± standard deviation over seeds {seeds.replace(' ', ', ')}.",
    ]
    heading = (
        "| plan | ranks | strategy | gradient norm | in theory | mean gap | distance to W* | excess loss | turned "
        "| coverage |"
    )
    for case in CASES:
        lines += ["", f"## {case.title}", "", heading, "|---|---|---|---|---|---|---|---|---|---|"]
        for result in results:
            if result.case == case:
                ranks = ", ".join(str(rank_for((SIZE, SIZE), factor) or "whole") for factor in result.plan)
                gradient, *others = [spread(np.asarray(figure)[:, -1]) for figure in result.trace[:-1]]
                coverage = number(float(result.trace.coverage[0].min()))
                theory = floor_in_theory(result)
                exact = "" if theory is None else number(theory)
                cells = [plan_name(result.plan), ranks, result.strategy, gradient, exact, *others, coverage]
                lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Wall time {seconds:.0f} s for all, compilation included, on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}) while other work ran on them; jax {jax.__version__}, float64.",
        "",
    ]
    return "\n".join(lines)


def spread(values: np.ndarray) -> str:
    """Mean and sample standard deviation."""
    return f"{number(values.mean())} ± {number(values.std(ddof=min(1, len(values) - 1)))}"


def number(value: float) -> str:
    """Four significant digits, two of small numbers."""
    return "0" if value == 0 else f"{value:.4g}" if value >= 1e-3 else f"{value:.1e}"


def write_figure(results: list[Result], path: Path) -> None:
    """Gradient norm against rounds; a panel for each kind of problem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for case, axes in zip(CASES, panels.flat, strict=True):
        views = [axes]
        if case.rank == SIZE:
            # The floors lie within a factor of two, too near for the axis of the others.
            near = axes.inset_axes((0.42, 0.2, 0.56, 0.65), xlim=(0, 60), ylim=(0.8, 2.4), title="the floors, linear")
            views.append(near)
        for result in results:
            if result.case == case:
                for view in views:
                    draw(view, result, f"C{PLANS.index(result.plan)}")
        axes.set_title(case.title, loc="left")
        axes.set(yscale="log", ylim=(1e-16, 10))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("gradient norm of the global objective")
    for axes in panels[1]:
        axes.set_xlabel("round")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PLANS), frameon=False)
    save_figure(figure, path)


def draw(axes: "Axes", result: Result, colour: str) -> None:
    """Mean over the seeds, their range, and the floor in theory (dotted); the merge by segments dashed."""
    gradient = np.asarray(result.trace.gradient)
    rounds = np.arange(gradient.shape[1])
    plain = result.strategy == "fedhm"
    label = plan_name(result.plan) if plain else None
    axes.plot(rounds, gradient.mean(0), color=colour, label=label, linestyle="-" if plain else "--")
    axes.fill_between(rounds, gradient.min(0), gradient.max(0), color=colour, alpha=0.2, linewidth=0)
    theory = floor_in_theory(result)
    if theory and plain:
        axes.axhline(theory, color=colour, linestyle=":", linewidth=0.8)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
