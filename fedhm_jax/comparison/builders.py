"""Builders of one's own strategies in a study: loaded from files, and the text that its folder keeps of them."""

import inspect
from pathlib import Path

from fedhm_jax.comparison.study import Study, Variant
from fedhm_jax.comparison.study_file import builder_name
from fedhm_jax.run import StrategyBuilder
from fedhm_jax.strategies import checked_builder, load_builder


def builder_of(variant: Variant, folder: Path) -> StrategyBuilder | None:
    """The builder of a variant, from its file if it names one.

    Args:
        variant: the variant.
        folder: where relative paths start.

    Returns:
        The builder, which answers with one sentence if it returns something else than a strategy; None for a built-in
        strategy.

    Raises:
        ConfigError: there is no such file or no such name in it, the file cannot be loaded, or what is there cannot be
            called with a setting alone.
    """
    if variant.builder is None:
        return None
    field = f"strategies.{variant.name}.builder"
    if isinstance(variant.builder, str):
        return load_builder(variant.builder, field, folder)
    return checked_builder(variant.builder, field, builder_name(variant.builder))


def builder_source(study: Study, variant: Variant) -> str | None:
    """The text that tells one builder from another: its file, or the source of a function.

    Args:
        study: the study, which says where paths start.
        variant: one of its variants.

    Returns:
        The text; None for a built-in strategy, and for a builder without source, such as a callable object.
    """
    build = variant.builder
    try:
        if isinstance(build, str):
            return (study.folder / Path(build.rpartition(":")[0])).read_text(encoding="utf-8")
        return None if build is None else inspect.getsource(build)
    except (OSError, TypeError):
        return None
