"""Sets of the Hugging Face Hub in the cache of the library datasets, found by name, without it or a network."""

import os
import re
from pathlib import Path

from fedhm_jax.errors import ConfigError

_PREFIX = "huggingface:"


def find_cached_set(name: str, cache: Path | None = None) -> Path:
    """The folder of the newest copy of a set in the library's cache.

    Args:
        name: ``OWNER/NAME``, or ``OWNER/NAME/CONFIG`` for a set of several.
        cache: folder of the prepared sets, the library's ``cache_dir``; as the library does, ``$HF_DATASETS_CACHE``,
            ``$HF_HOME/datasets`` or ``~/.cache/huggingface/datasets`` if None.

    Returns:
        A folder that `fedhm_jax.data.text.tables.read_tables` reads.

    Raises:
        ConfigError: it is no such name, there is no copy, or the set has several configs and the name tells none.

    Example:
        >>> find_cached_set("Salesforce/wikitext", Path("cache"))
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: data.name is 'huggingface:Salesforce/wikitext', but there is no copy in \
cache/Salesforce___wikitext; where there is a network, python -c "from datasets import load_dataset; \
load_dataset('Salesforce/wikitext')" makes one
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)?", name):
        raise ConfigError.of("data.name", _PREFIX + name, f"{_PREFIX!r} and OWNER/NAME or OWNER/NAME/CONFIG")
    owner, title, *config = name.split("/")
    place = (_default_cache() if cache is None else cache.expanduser()) / f"{owner}___{_snake_case(title)}"
    copies = sorted(place.glob("*/*/*/dataset_info.json"), key=lambda file: file.stat().st_mtime)
    configs = sorted({file.parents[2].name for file in copies})
    if config and configs and config[0] not in configs:
        allowed = f"'{_PREFIX}{owner}/{title}/' and {' or '.join(configs)}, the configs in {place}"
        raise ConfigError.of("data.name", _PREFIX + name, allowed)
    if not copies:
        arguments = ", ".join(map(repr, [f"{owner}/{title}", *config]))
        raise ConfigError(
            f"data.name is {_PREFIX + name!r}, but there is no copy in {place}; where there is a network, "
            f'python -c "from datasets import load_dataset; load_dataset({arguments})" makes one'
        )
    if not config and len(configs) > 1:
        names = " or ".join(repr(f"{_PREFIX}{name}/{each}") for each in configs)
        raise ConfigError.of("data.name", _PREFIX + name, f"{names}, for the set has several configs")
    chosen = config[0] if config else configs[0]
    return [file.parent for file in copies if file.parents[2].name == chosen][-1]


def _default_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(home) / "datasets").expanduser()


def _snake_case(name: str) -> str:
    """As the library writes a set's name: TinyStories is in tiny_stories."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()
