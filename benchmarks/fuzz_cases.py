"""One config and what it leads to: a run, a sentence about a field, or a failure, brought back to its simplest."""

import os
import re
import shutil
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal, NamedTuple

import hypothesis
import jax

from benchmarks.fuzz_configs import BASE, FIELDS, configs, tiny_data, write_arrays, write_texts
from fedhm_jax import ConfigError, DivergedError, OutOfMemoryError, SimulationConfig, simulate

Kind = Literal["ran", "refused", "diverged", "out of memory", "failed"]

_NAMES = {field.path for field in FIELDS} | {field.section for field in FIELDS}


class Outcome(NamedTuple):
    """What a config led to.

    Attributes:
        kind: in one word.
        field: the field that the sentence names; of a failure, the type of the exception.
        sentence: in full.
        where: of a failure, the innermost line of the package.
    """

    kind: Kind
    field: str = ""
    sentence: str = ""
    where: str = ""


class Case(NamedTuple):
    """One config and its outcome; of a failing one, also the simplest config found that fails alike."""

    number: int
    outcome: Outcome
    changes: str
    simplest: str = ""


def run_case(config: SimulationConfig, scratch: Path) -> Outcome:
    """Runs a config on tiny data, or on the data that it names; a warning counts as an error.

    Args:
        config: any.
        scratch: a folder of its own, emptied before the run; an empty file and some with data are put into it.

    Returns:
        The outcome; no exception gets out.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "file").touch()
    write_arrays(scratch)
    write_texts(scratch)
    data = tiny_data() if config.data == BASE.data else None
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        stack.enter_context(warnings.catch_warnings(action="error"))
        return outcome_of(lambda: simulate(config, data=data))


def outcome_of(call: Callable[[], Any]) -> Outcome:
    """What a call led to; no exception gets out.

    Example:
        >>> outcome_of(lambda: simulate(BASE, strategy=1 / 0)).field
        'ZeroDivisionError'
    """
    try:
        call()
    except ConfigError as error:
        named = re.match(r"([a-z_]+(\.[a-z_]+)?) ", str(error))
        if named is None or named[1] not in _NAMES or "\n" in str(error):
            return Outcome("failed", "sentence without a field", str(error), _where(error))
        return Outcome("refused", named[1], str(error))
    except DivergedError as error:
        return Outcome("diverged", "local.learning_rate", str(error))
    except OutOfMemoryError as error:
        return Outcome("out of memory", "", str(error))
    except Exception as error:
        return Outcome("failed", type(error).__name__, " ".join(str(error).split())[:300], _where(error))
    return Outcome("ran")


def _where(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fedhm_jax" in Path(frame.filename).parts]
    return f"{Path(frames[-1].filename).name}, {frames[-1].name}" if frames else ""


def simplest(
    config: SimulationConfig, outcome: Outcome, run: Callable[[SimulationConfig], Outcome]
) -> SimulationConfig:
    """A config with as many fields as possible as in the base, that fails like the given one.

    Args:
        config: one that fails.
        outcome: how.
        run: from a config to its outcome.

    Returns:
        The config; none of its fields can be put back alone without another outcome.
    """
    again = True
    while again:
        again = False
        for field in FIELDS:
            plainer = field.put(config, field.of(BASE))
            if not _equal(field.of(config), field.of(BASE)) and _alike(run(plainer), outcome):
                config, again = plainer, True
    return config


def _alike(one: Outcome, other: Outcome) -> bool:
    return (one.kind, one.field, one.where) == (other.kind, other.field, other.where)


def changes_of(config: SimulationConfig) -> str:
    """The fields in which a config differs from the base, in one line."""
    different = [field for field in FIELDS if not _equal(field.of(config), field.of(BASE))]
    return ", ".join(f"{field.path}={_shortened(field.of(config))}" for field in different)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def _shortened(value: Any) -> str:
    text = re.sub(r"PosixPath\('[^']*/scratch", "PosixPath('scratch", repr(value))
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"


def cases(count: int, seed: int, scratch: Path, tell: Callable[[int | Case, str], None]) -> None:
    """Draws configs and runs them one after another.

    Args:
        count: how many.
        seed: of the draw.
        scratch: a folder of its own.
        tell: called with a case's number and its changes before every run, and with the case when it is done.
    """
    known: set[tuple[str, ...]] = set()
    number = 0

    def one(config: SimulationConfig) -> None:
        nonlocal number
        number += 1
        changes, plainest = changes_of(config), ""

        def run(config: SimulationConfig) -> Outcome:
            tell(number, changes)
            return run_case(config, scratch)

        outcome = run(config)
        if outcome.kind == "failed" and (outcome.field, outcome.where) not in known:
            known.add((outcome.field, outcome.where))
            plainest = changes_of(simplest(config, outcome, run))
        # compiled programs would fill the memory
        jax.clear_caches()
        tell(Case(number, outcome, changes, plainest), "")

    settings = hypothesis.settings(
        max_examples=count,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
        deadline=None,
    )
    hypothesis.seed(seed)(settings(hypothesis.given(configs(scratch))(one)))()
