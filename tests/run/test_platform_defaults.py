"""Choices that are left to the platform."""

import jax
import jax.numpy as jnp
import pytest

from fedhm_jax.run.preparation.platform_defaults import RUNS_OFTEN, RUNS_ONCE, compiler_options


@pytest.mark.parametrize("level", [RUNS_ONCE, RUNS_OFTEN])
def test_the_compiler_knows_the_options(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    options = compiler_options("cpu", level)
    assert options is not None
    assert list(options.values()) == [level]
    assert float(jax.jit(lambda x: x + 1, compiler_options=options)(jnp.float32(level))) == level + 1


def test_a_level_that_the_user_asks_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false --xla_backend_optimization_level=3")
    assert compiler_options("cpu", RUNS_OFTEN) is None
