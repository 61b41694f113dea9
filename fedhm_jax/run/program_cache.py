"""Compiled programs on disk, so that a run starts from those of one like it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from fedhm_jax.files import cache_folder

_SHORTEST = 0.3
"""Seconds of compilation from which on a program is kept."""


@contextmanager
def kept_programs(asked: bool) -> Iterator[None]:
    """JAX keeps compiled programs in ``programs`` below `fedhm_jax.files.cache_folder` while the block lasts.

    For that time ``jax_compilation_cache_dir`` and ``jax_persistent_cache_min_compile_time_secs`` are set. A folder of
    the user's own is left as it is, and so is everything where ``jax_enable_compilation_cache`` is off, or where the
    folder cannot be written.

    Args:
        asked: False does nothing.

    Yields:
        Nothing.
    """
    config: Any = jax.config
    if not asked or config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        yield
        return
    folder = _folder()
    if folder is None:
        yield
        return
    shortest = config.jax_persistent_cache_min_compile_time_secs
    config.update("jax_compilation_cache_dir", folder)
    config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    try:
        yield
    finally:
        config.update("jax_compilation_cache_dir", None)
        config.update("jax_persistent_cache_min_compile_time_secs", shortest)
        # JAX holds on to the first folder that it was given, and would not see one that the user sets later.
        reset_cache()


def _folder() -> str | None:
    try:
        folder = cache_folder() / "programs"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a home that cannot be written, or none at all
        return None
    return str(folder) if os.access(folder, os.W_OK | os.X_OK) else None
