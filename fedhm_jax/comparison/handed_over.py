"""What is handed over to a study in Python: what its folder keeps of it, and who may go on."""

import json
import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedhm_jax.data import AnyData
from fedhm_jax.data import given as as_lists
from fedhm_jax.errors import ConfigError
from fedhm_jax.run import HandedOver

_FILE = "handed_over.json"
_MANY = 2**62
"""How many samples there are is checked by the runs."""


def refuse_others(folder: Path, given: HandedOver) -> None:
    """Raises one sentence where a study goes on without what it began with, or with something else.

    Args:
        folder: the study's.
        given: what is handed over now.

    Raises:
        ConfigError: naming the argument, and what to pass.
    """
    kept = folder / _FILE
    then: dict[str, str] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    now = _digests(given)
    call = f"compare({', '.join(['...', *(f'{argument}=...' for argument in then)])})"
    for argument in (*then, *now):
        if now.get(argument) != then.get(argument):
            is_now = "not given" if argument not in now else "another" if argument in then else "given"
            wanted = "what it was when" if argument in then else "left out, as when"
            raise ConfigError(
                f"{argument} is {is_now}, but must be {wanted} the study in {str(folder)!r} began: {call}, or another "
                "folder"
            )


def keep(folder: Path, given: HandedOver) -> None:
    """Notes what a study begins with; nothing where nothing is handed over.

    Args:
        folder: the study's.
        given: what is handed over.
    """
    if digests := _digests(given):
        part = folder / f"{_FILE}.part"
        part.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
        os.replace(part, folder / _FILE)


def _digests(given: HandedOver) -> dict[str, str]:
    """By argument of `fedhm_jax.compare`: of all samples, of the module's fields, of the clients' samples and of all
    parameters, in their order."""
    found = {}
    if given.data is not None:
        # What is no data set is refused by the runs.
        found["data"] = _digest(tuple(given.data)) if isinstance(given.data, AnyData) else type(given.data).__name__
    if given.model is not None:
        # Functions among its fields are shown with their places in memory, which differ from process to process.
        fields = re.sub(r" at 0x[0-9a-f]+", "", repr(given.model))
        found["model"] = blake2b(fields.encode(), digest_size=16).hexdigest()
    if given.partition is not None:
        found["partition"] = _digest(as_lists(given.partition, _MANY))
    if given.init is not None:
        found["init"] = _digest(given.init)
    if given.task is not None:
        found["task"] = str(getattr(given.task, "name", type(given.task).__name__))
    return found


def _digest(tree: Any) -> str:
    total = blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
