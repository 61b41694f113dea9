"""Programs that are compiled side by side, and how hard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedhm_jax.run.program
from fedhm_jax import DataConfig, ModelConfig, PartitionConfig, ServerConfig, SimulationConfig, StrategyConfig, simulate
from fedhm_jax.run.compilation import Compiling

SMALL = SimulationConfig(
    data=DataConfig(train_samples=64, test_samples=20),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(4,)),
    strategy=StrategyConfig("fedavg"),
    server=ServerConfig(rounds=2),
)


@pytest.mark.parametrize("begins", [True, False])
def test_a_function_is_traced_once_whoever_begins(begins: bool) -> None:
    traces = []

    def double(x: jax.Array) -> jax.Array:
        traces.append(x.shape)
        return 2 * x

    function = Compiling(jax.jit(double))
    if begins:
        function.begin(jnp.ones(3))
        assert traces == [(3,)]
    for x in (np.arange(3, dtype=np.float32), np.ones(3, np.float32)):
        np.testing.assert_array_equal(function(x), 2 * x)
    assert traces == [(3,)]


def test_settings_of_the_caller_hold_though_a_thread_compiles() -> None:
    with jax.enable_x64(True):
        third = Compiling(jax.jit(lambda x: x / 3))
        assert float(third(np.float64(1))) == 1 / 3


def test_what_the_compiler_refuses_is_raised_by_the_call() -> None:
    refused = Compiling(jax.jit(lambda x: x, compiler_options={"no_such_option": 1}))
    refused.begin(1.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        refused(1.0)


def test_a_run_is_compiled_as_hard_as_the_platform_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(platform: str, level: int) -> dict[str, int]:
        asked.append((platform, level))
        return {"no_such_option": 1}

    monkeypatch.setattr(fedhm_jax.run.program, "compiler_options", refused)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        simulate(SMALL)
    assert asked == [(jax.default_backend(), fedhm_jax.run.program.RUNS_OFTEN)]
