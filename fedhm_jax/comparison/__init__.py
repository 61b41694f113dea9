"""Strategies x settings x seeds, and their report."""

from typing import TYPE_CHECKING, Any

from fedhm_jax.comparison.study import Study, StudyResult, Variant
from fedhm_jax.comparison.study_file import read_study

if TYPE_CHECKING:
    from fedhm_jax.comparison.finished_runs import runs_page
    from fedhm_jax.comparison.report import print_comparison
    from fedhm_jax.comparison.runner import compare

__all__ = ["Study", "StudyResult", "Variant", "compare", "print_comparison", "read_study", "runs_page"]


def __getattr__(name: str) -> Any:
    # A mistake in a study file is answered before JAX is loaded.
    if name == "compare":
        from fedhm_jax.comparison.runner import compare

        return compare
    if name == "runs_page":
        from fedhm_jax.comparison.finished_runs import runs_page

        return runs_page
    if name == "print_comparison":
        from fedhm_jax.comparison.report import print_comparison

        return print_comparison
    raise AttributeError(f"module 'fedhm_jax.comparison' has no attribute {name!r}")
