"""What a function does, read off its traced program, and how often a run traces its own."""

import jax
import pytest

import fedhm_jax.run.preparation.assembly
from fedhm_jax.engine import build_engine
from fedhm_jax.models.costs import bodies


def equations(function, *args):
    """All steps of a call, those inside of calls, loops and branches included."""
    found, programs = [], [jax.make_jaxpr(function)(*args)]
    while programs:
        here = programs.pop().eqns
        found += here
        programs += [body for equation in here for body in bodies(equation)]
    return found


def traces_of_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the engine's functions, one more whenever a run traces one of them from now on."""
    traces = []

    def counting(name, function):
        def wrapper(*args):
            traces.append(name)
            return function(*args)

        return wrapper

    def counting_engine(*args, **named):
        engine = build_engine(*args, **named)
        return type(engine)(*(counting(name, getattr(engine, name)) for name in engine._fields))

    monkeypatch.setattr(fedhm_jax.run.preparation.assembly, "build_engine", counting_engine)
    return traces
