"""Runs that start from given parameters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from support.small_run import SMALL_RUN

from fedhm_jax import (
    ConfigError,
    OutputConfig,
    SimulationResult,
    StrategyConfig,
    recover,
    simulate,
)
from fedhm_jax.run.preparation.assembly import Run, prepare
from fedhm_jax.run.preparation.handed_over import HandedOver


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """What to start from; another seed, so that nothing is equal by chance."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    server = replace(SMALL_RUN.server, seed=1)
    return simulate(replace(SMALL_RUN, server=server, output=OutputConfig(folder=folder)))


def first_model(run: Run) -> Any:
    return run.parts.strategy.global_model(run.state)


def assert_equal(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


@pytest.mark.parametrize("name", ["fedhm", "fedavg", "heterofl"])
def test_the_first_model_is_what_was_given(earlier: SimulationResult, name: str) -> None:
    widths = (1.0, 0.5) if name == "heterofl" else None
    config = replace(SMALL_RUN, strategy=StrategyConfig(name, widths=widths))
    assert_equal(first_model(prepare(config, HandedOver(init=earlier.params))), earlier.params)
    path = earlier.folder / "models" / "global.safetensors"
    from_file = replace(config, model=replace(config.model, init=path))
    assert_equal(first_model(prepare(from_file)), earlier.params)


def test_tiers_are_factorized_from_it_as_from_a_fresh_model(earlier: SimulationResult) -> None:
    run = prepare(SMALL_RUN, HandedOver(init=earlier.params))
    kernel = np.asarray(earlier.params["dense_0"]["kernel"], np.float64)
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    nearest = left[:, :2] * values[:2] @ right[:2]
    tier = run.parts.strategy.tier_model(run.state, 1)["dense_0"]["kernel"]
    assert tier.rank == 2
    np.testing.assert_allclose(recover(tier), nearest, atol=1e-5)


def test_factors_are_multiplied_out(earlier: SimulationResult, tmp_path: Path) -> None:
    weak = earlier.tier("f4")
    weak.save(tmp_path / "f4.safetensors")
    kernel = weak.params["dense_0"]["kernel"]
    product = np.asarray(kernel.v, np.float64) @ np.asarray(kernel.u, np.float64)
    from_file = replace(SMALL_RUN, model=replace(SMALL_RUN.model, init=tmp_path / "f4.safetensors"))
    for run in (prepare(SMALL_RUN, HandedOver(init=weak.params)), prepare(from_file)):
        np.testing.assert_allclose(first_model(run)["dense_0"]["kernel"], product, rtol=1e-5, atol=1e-6)
        assert_equal(first_model(run)["classifier"], weak.params["classifier"])


@pytest.mark.parametrize("kind", ["tree", "file"])
def test_a_tree_that_does_not_fit_is_answered_by_its_first_path(
    earlier: SimulationResult, kind: str, tmp_path: Path
) -> None:
    path = earlier.folder / "models" / "global.safetensors"
    wider = replace(SMALL_RUN.model, hidden=(12,), init=path if kind == "file" else None)
    config = replace(SMALL_RUN, model=wider, output=OutputConfig(folder=tmp_path / "run"))
    with pytest.raises(ConfigError) as caught:
        simulate(config, init=earlier.params if kind == "tree" else None)
    what = f"model.init is '{path}', which" if kind == "file" else "init"
    assert str(caught.value) == f"{what} has shape (8, 10) at classifier/kernel, but must have (12, 10) there"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda params: {**params, "extra": params["classifier"]},
            r"^init has shape \(10,\) at extra/bias, but must ha",
        ),
        (
            lambda params: {"classifier": params["classifier"]},
            r"^init has nothing at dense_0/bias, but must have shape",
        ),
        (
            lambda params: jax.tree.map(lambda leaf: leaf * np.nan, params),
            r"^init has numbers at .* that are not finite",
        ),
        (lambda params: list(params.values()), r"^init is 'list', but must be a tree of parameters"),
        (lambda params: "global", r"^init is 'str', but must be a tree of parameters"),
    ],
)
def test_what_is_no_tree_of_the_models_parameters_is_refused(
    earlier: SimulationResult, change: Any, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        simulate(SMALL_RUN, init=change(earlier.params))


def test_a_file_that_is_no_model_is_refused(earlier: SimulationResult, tmp_path: Path) -> None:
    def refused(path: Path, sentence: str, **arguments: Any) -> None:
        with pytest.raises(ConfigError, match=sentence):
            simulate(replace(SMALL_RUN, model=replace(SMALL_RUN.model, init=path)), **arguments)

    (tmp_path / "noise").write_bytes(bytes(range(100)))
    refused(tmp_path / "noise", r"^model\.init is '.*noise', but must be a file that can be read as safetensors")
    refused(tmp_path / "nowhere", r"^model\.init is '.*nowhere', but must be .* \(No such file")
    state = next((earlier.folder / "checkpoints").glob("*/state.safetensors"))
    refused(state, r"^model\.init is '.*', but must be a model's file, whose metadata say format")
    path = earlier.folder / "models" / "global.safetensors"
    refused(path, r"^model\.init is '.*', but must be unset when parameters are handed over", init=earlier.params)


class Death(BaseException):
    """The process ends here, and nothing is tidied up."""


@pytest.mark.long
def test_a_run_goes_on_with_what_it_started_from(earlier: SimulationResult, tmp_path: Path) -> None:
    def die(record: Any) -> None:
        raise Death

    config = replace(SMALL_RUN, output=OutputConfig(folder=tmp_path / "run"))
    with pytest.raises(Death):
        simulate(config, init=earlier.params, on_round=[die])
    with pytest.raises(ConfigError, match=r"^init is not given, but must be parameters, as when the run began"):
        simulate(resume=tmp_path / "run")
    other = jax.tree.map(lambda leaf: leaf + 1, earlier.params)
    with pytest.raises(ConfigError, match="the model before the first round must be the same as when the run to"):
        simulate(resume=tmp_path / "run", init=other)
    expected = simulate(SMALL_RUN, init=earlier.params)
    assert_equal(simulate(resume=tmp_path / "run", init=earlier.params).params, expected.params)
    assert expected.history[0]["train_loss"] != simulate(SMALL_RUN).history[0]["train_loss"]
