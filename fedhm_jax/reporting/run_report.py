"""What a run shows and leaves behind. Knows configs and results, never the engine.

    with reporting(config) as report:
        report.start(plan)      # once, before the first round
        report.round(record)    # after every round
        report.end(result)      # once, after the last round

With ``config.output.folder`` set, the folder receives

| file            | written                | holds                                                        |
|-----------------|------------------------|--------------------------------------------------------------|
| config.toml     | at the start           | the config, ready for ``fedhm simulate --config``            |
| costs.csv       | at the start           | one `TierCost` a row                                         |
| partition.png   | at the start           | every client's classes and samples, clients ordered by tier  |
| records.jsonl   | round by round         | one `Record` a line; complete up to an interruption          |
| summary.json    | at the end             | final metrics, costs, privacy, versions, device, seconds     |
| accuracy.png    | at the end             | the metric by round and by traffic, training loss by round;  |
|                 |                        | named after the task's metric, for text bits.png             |

A run that goes on after an interruption says so with ``report.start(plan, history)``, and records.jsonl is cut to the
rounds that are finished.

With ``config.output.progress`` set, a progress bar is shown and the final tables are printed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedhm_jax.config import SimulationConfig
from fedhm_jax.files import replacing, writing
from fedhm_jax.reporting.figures import partition_figure, save_figure, training_figure
from fedhm_jax.reporting.progress import round_progress
from fedhm_jax.reporting.records import append_record, create_folder, reopen_folder, write_costs, write_summary
from fedhm_jax.reporting.tables import print_result
from fedhm_jax.results import Record, RunPlan, SimulationResult
from fedhm_jax.score import ACCURACY, Score


@dataclass(frozen=True)
class Report:
    """The three moments of a run that are reported; see the module's text for what each leaves behind.

    Attributes:
        folder: where files go, or None for no files.
        show: called with every round's record, or None for no progress bar and no tables.
    """

    folder: Path | None
    show: Callable[[Record], None] | None

    def start(self, plan: RunPlan, history: Sequence[Record] | None = None) -> None:
        """Creates the folder and writes what is known before the first round.

        Args:
            plan: the run's plan.
            history: the rounds that are finished, of a run that goes on in its folder; None for a new run.

        Raises:
            ConfigError: if the folder of a new run exists already or cannot be made.
            WriteError: a file could not be written.
        """
        if self.folder is None:
            return
        with writing("the run's first files", self.folder):
            if history is None:
                create_folder(self.folder, plan)
            else:
                reopen_folder(self.folder, plan, history)
            if not history:
                write_costs(self.folder, plan.costs)
                figure = partition_figure(plan.label_counts, plan.tier_of_client, plan.tier_names)
                save_figure(figure, self.folder / "partition.png")

    def round(self, record: Record) -> None:
        """Appends the round's record and moves the progress bar.

        Args:
            record: the round that has just ended.

        Raises:
            WriteError: the record could not be written; the earlier ones are intact.
        """
        if self.folder is not None:
            with writing(f"the record of round {record['round']}", self.folder):
                append_record(self.folder, record)
        if self.show is not None:
            self.show(record)

    def end(self, result: SimulationResult) -> None:
        """Writes what is known after the last round and prints the tables.

        Args:
            result: the finished run.

        Raises:
            WriteError: a file could not be written; the earlier ones are intact.
        """
        if self.folder is not None:
            with writing("the figure and the summary", self.folder):
                with replacing(self.folder / f"{result.score.metric}.png") as part:
                    save_figure(training_figure(result.history, result.score), part)
                write_summary(self.folder, result)
        if self.show is not None:
            print_result(result)


@contextmanager
def reporting(config: SimulationConfig, score: Score = ACCURACY) -> Iterator[Report]:
    """Reports a run as ``config.output`` asks for it; the progress bar is taken down however the block ends.

    Args:
        config: the run's config; ``output`` and ``server.rounds`` are read.
        score: the metric of its task.

    Yields:
        The `Report` to call at the start, after every round and at the end.

    Example:
        >>> with reporting(SimulationConfig()) as report:
        ...     report.folder is None and report.show is None
        True
    """
    with ExitStack() as stack:
        show = (
            stack.enter_context(round_progress(config.server.rounds, score=score)) if config.output.progress else None
        )
        yield Report(config.output.folder, show)
