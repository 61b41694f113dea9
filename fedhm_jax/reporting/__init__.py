"""What one run shows and leaves behind. Knows configs and results, never the engine."""

from fedhm_jax.reporting.figures import label_axes, new_figure, save_figure
from fedhm_jax.reporting.progress import format_clock, print_notice
from fedhm_jax.reporting.records import FinishedRun, is_finished, read_run
from fedhm_jax.reporting.run_report import Report, reporting
from fedhm_jax.reporting.tables import print_result
from fedhm_jax.reporting.units import byte_unit, format_bytes, format_count

__all__ = [
    "FinishedRun",
    "Report",
    "byte_unit",
    "format_bytes",
    "format_clock",
    "format_count",
    "is_finished",
    "label_axes",
    "new_figure",
    "print_notice",
    "print_result",
    "read_run",
    "reporting",
    "save_figure",
]
