"""Tasks against NumPy: text in a round of federated averaging, what is measured, and data that fit no task."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedhm_jax import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    LowRankDense,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    data_from_arrays,
    load_run,
    simulate,
    text_from_strings,
)
from fedhm_jax.client import LocalTraining, optimizer_by_name
from fedhm_jax.data import TokenUnit, Windows, deal_out, epoch_order
from fedhm_jax.engine import build_engine, deal_batches
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import Setting, fedavg
from fedhm_jax.tasks import CLASSIFICATION, REGRESSION, Metric, cross_entropy, in_top, next_token

VOCABULARY, WIDTH, WINDOW, BATCH = 5, 3, 4, 2
PARTS = (np.array([0, 2, 4]), np.array([1, 3, 5, 6, 7]))
RATE, MOMENTUM = 0.3, 0.5
KEY = jax.random.key(11)


class Bilinear(nn.Module):
    """Scores of the next token from this one alone."""

    vocabulary: int = VOCABULARY

    @nn.compact
    def __call__(self, tokens: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        return nn.Dense(self.vocabulary, use_bias=False, name="classifier")(nn.Embed(self.vocabulary, WIDTH)(tokens))


def tables(params: Any) -> list[np.ndarray]:
    return [np.asarray(params["Embed_0"]["embedding"]), np.asarray(params["classifier"]["kernel"])]


def loss_and_gradient(model: Sequence[np.ndarray], windows: np.ndarray) -> tuple[float, list[np.ndarray], np.ndarray]:
    """Sum over windows of the mean cross-entropy of their places; gradient of its mean over windows; log p."""
    embedding, kernel = model
    gradients = [np.zeros_like(embedding), np.zeros_like(kernel)]
    total, by_place = 0.0, []
    for window in windows:
        for token, following in pairwise(window):
            scores = embedding[token] @ kernel
            log_p = scores - np.log(np.exp(scores).sum())
            by_place.append(log_p)
            total -= log_p[following] / WINDOW
            error = (np.exp(log_p) - np.eye(VOCABULARY)[following]) / WINDOW / len(windows)
            gradients[0][token] += kernel @ error
            gradients[1] += np.outer(embedding[token], error)
    return total, gradients, np.array(by_place).reshape(len(windows), WINDOW, VOCABULARY)


def windows_at(tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.array([tokens[start : start + WINDOW + 1] for start in starts])


def test_a_round_on_text_is_federated_averaging_on_windows() -> None:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 40).astype(np.uint8)
    starts = np.arange(8, dtype=np.int32) * WINDOW
    with jax.enable_x64(True):
        module = Bilinear()
        inputs = jax.ShapeDtypeStruct((2, WINDOW), jnp.int32)
        params = module.init(jax.random.key(1), jnp.zeros(inputs.shape, jnp.int32))["params"]
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        task = next_token(WINDOW, "character")
        setting = Setting(module, inputs, params, False, (1.0,), masked_loss=True, task=task)
        training = LocalTraining(optimizer_by_name("sgd", MOMENTUM), BATCH, epochs=2, task=task)
        strategy = fedavg(setting)
        engine = build_engine(strategy, training, 5, ["f1"], 1)
        data = deal_out(Windows(jnp.asarray(tokens), jnp.asarray(starts)), PARTS)
        cohort = Cohort((np.array([0, 1], np.int32),), np.array([2], np.int32))
        state, (trained,) = jax.jit(engine.round_step)(
            jax.jit(strategy.init)(params, KEY), data, cohort, jnp.float64(RATE), KEY
        )

        models, losses = [], []
        for client, part in enumerate(PARTS):
            model, velocity = tables(params), [np.zeros(1), np.zeros(1)]
            for epoch in range(2):
                key = jax.random.fold_in(jax.random.fold_in(KEY, client), epoch)
                order = np.asarray(epoch_order(key, jnp.int32(len(part)), 6))[: len(part)]
                for first in range(0, len(part), BATCH):
                    rows = part[order[first : first + BATCH]]
                    loss, gradients, _ = loss_and_gradient(model, windows_at(tokens, starts[rows]))
                    losses.append(loss)
                    velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradients, strict=True)]
                    model = [w - RATE * v for w, v in zip(model, velocity, strict=True)]
            models.append(model)
        found = tables(strategy.global_model(state))
        for mean, got in zip((np.mean(pair, axis=0) for pair in zip(*models, strict=True)), found, strict=True):
            np.testing.assert_allclose(got, mean, rtol=1e-9)
        np.testing.assert_allclose(trained.loss, sum(losses), rtol=1e-9)
        assert trained.samples == 2 * sum(map(len, PARTS))

        test = deal_batches(data.samples, len(starts), 3, 8, 4, seed=0, dtype=np.float64)
        measured = jax.jit(engine.evaluate)(state, data, test)["f1"]
        loss, _, log_p = loss_and_gradient(found, windows_at(tokens, starts))
        np.testing.assert_allclose(measured["bits"].sum, loss / np.log(2), rtol=1e-9)
        assert measured["loss"].weight == measured["bits"].weight == len(starts)
        hits = (log_p.argmax(2) == windows_at(tokens, starts)[:, 1:]).mean(1).sum()
        np.testing.assert_allclose(measured["accuracy"].sum, hits, rtol=1e-9)


@pytest.mark.parametrize(
    ("unit", "name"), [("character", "bits per character"), ("byte", "bits per byte"), ("piece", "loss")]
)
def test_a_text_is_judged_by_what_its_tokens_are(unit: TokenUnit, name: str) -> None:
    task = next_token(WINDOW, unit)
    logits, targets = jnp.zeros((2, WINDOW, VOCABULARY)), jnp.zeros((2, WINDOW), jnp.int32)
    assert task.score.name == name
    assert task.score.metric in task.measure(logits, targets, jnp.ones(2))


def test_models_that_agree_have_nothing_to_teach() -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, WINDOW, VOCABULARY)), jnp.float32)
    other = logits[::-1]
    for task, answers, rivals in (
        (CLASSIFICATION, logits[:, 0], other[:, 0]),
        (next_token(WINDOW, "piece"), logits, other),
        (REGRESSION, logits[:, 0], other[:, 0]),
    ):
        np.testing.assert_allclose(task.teach(answers, answers), 0, atol=1e-6)
        assert (task.teach(answers, rivals) > 0.01).all()
        assert task.teach(answers, rivals).shape == (2,)


class Line(nn.Module):
    outputs: int = 1

    @nn.compact
    def __call__(self, numbers: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        return nn.Dense(self.outputs)(nn.relu(LowRankDense(8)(numbers)))


SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    partition=PartitionConfig(method="iid", clients=4),
    tiers=TiersConfig((1.0, 2.0)),
    local=LocalConfig(epochs=1, batch_size=1),
    server=ServerConfig(rounds=2, participation=1.0),
)
NUMBERS = np.random.default_rng(0).normal(size=(40, 3))
SUMS = NUMBERS.sum(1, keepdims=True)
PLANE = data_from_arrays(NUMBERS[:32], SUMS[:32], NUMBERS[32:], SUMS[32:], name="plane")


def test_a_task_of_ones_own_from_data_to_model(tmp_path: Any, capsys: Any) -> None:
    config = replace(SMALL, output=OutputConfig(folder=tmp_path / "run", progress=True))
    result = simulate(config, data=PLANE, model=Line(), task=REGRESSION)
    answers = result.predict(PLANE.test_inputs, "f2")
    assert answers.shape == (8, 1)
    assert result.final["loss"]["f2"] == pytest.approx(((answers - PLANE.test_targets) ** 2).mean(), rel=1e-5)
    assert set(result.final) == {"loss"}
    assert "squared error" in repr(result)
    printed = capsys.readouterr()
    assert "squared error" in printed.out
    assert "global squared error" in printed.err
    loaded = load_run(tmp_path / "run", model=Line())
    assert (loaded.predict(PLANE.test_inputs, "f2") == answers).all()
    assert repr(loaded) == repr(result)
    again = simulate(resume=tmp_path / "run", data=PLANE, model=Line(), task=REGRESSION)
    assert again.final == result.final
    with pytest.raises(ConfigError, match="task is not given, but must be regression, as when the run began"):
        simulate(resume=tmp_path / "run", data=PLANE, model=Line())
    with pytest.raises(ConfigError, match=r"inputs is of shape \(2, 4\) and type float64, but must hold samples of"):
        result.predict(np.zeros((2, 4)))


class Pair(nn.Module):
    @nn.compact
    def __call__(self, numbers: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> Any:
        return nn.Dense(1)(numbers), numbers


LOSS = Metric(jnp.zeros(()), jnp.ones(()))
TEXT = text_from_strings(
    {"ann": "to be or not to be that is it", "bob": "that is the question"}, window=4, test_share=0.4
)


@pytest.mark.parametrize(
    ("changes", "given", "sentence"),
    [
        ({}, {"data": PLANE, "model": Line()}, r"task is not given, but must be for data from data_from_arrays"),
        ({}, {"data": PLANE, "task": REGRESSION}, r"model is not given, but must be for data from data_from_arrays"),
        (
            {"strategy": StrategyConfig("fedhm", classifier_rows="all")},
            {"data": PLANE, "model": Line(2), "task": CLASSIFICATION},
            r"task is 'classification', but must be one that takes answers of shape \(2, 2\)",
        ),
        ({}, {"data": PLANE, "model": Line(), "task": 3}, r"task is 3, but must be a fedhm_jax\.Task"),
        (
            {"local": LocalConfig(augmentation="crop_flip")},
            {"data": TEXT, "model": Bilinear()},
            r"local\.augmentation is 'crop_flip', but must be 'none' for samples that are no images",
        ),
        (
            {"evaluation": EvaluationConfig(worst_client=True)},
            {"data": PLANE, "model": Line(), "task": REGRESSION},
            r"evaluation\.worst_client is True, but must be false for regression",
        ),
        (
            {"evaluation": EvaluationConfig(worst_client=True)},
            {"task": CLASSIFICATION._replace(measure=lambda outputs, labels, mask: {"accuracy": LOSS, "loss": LOSS})},
            r"evaluation\.worst_client is True, but must be false for classification, which does not measure hits by",
        ),
        (
            {},
            {"task": CLASSIFICATION._replace(measure=lambda *_: {"loss": 1.0})},
            r"one whose measure gives a Metric",
        ),
        (
            {},
            {"task": CLASSIFICATION._replace(augment=lambda inputs: inputs)},
            r"task is 'classification', but must be one",
        ),
        (
            {},
            {"data": PLANE, "model": Pair(), "task": REGRESSION},
            r"but must be a module with one array as output",
        ),
        (
            {"partition": PartitionConfig(method="dirichlet", clients=2)},
            {"data": TEXT, "model": Bilinear()},
            r"partition\.method is 'dirichlet', but must be 'iid', 'quantity', 'natural' or 'given' for samples",
        ),
        ({}, {"data": TEXT, "model": Line()}, r"model is Line, but must be a module .*samples of 4 tokens"),
        ({}, {"data": TEXT}, r"model\.name is 'cnn', but must be 'decoder' for text"),
        ({"model": ModelConfig("decoder")}, {}, r"model\.name is 'decoder', but must be a model of images for images"),
        ({}, {"data": 3}, r"data is of type int, but must be of fedhm_jax\.dataset_from_arrays"),
        ({"data": DataConfig(name="digits")}, {"task": REGRESSION}, r"task is 'regression', but must be one"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    changes: dict[str, Any], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        simulate(replace(SMALL, **changes), **given)


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = [NUMBERS[:4], SUMS[:4], NUMBERS[4:6], SUMS[4:6]]
    for place, bad, sentence in (
        (1, SUMS[:3], r"data\.train_targets has 3 rows, but must have 4"),
        (2, NUMBERS[4:6, :2], r"data\.test_inputs has rows of shape \(2,\)"),
        (0, NUMBERS[:4] * np.nan, r"data\.train_inputs holds NaN"),
        (3, np.array(["a", "b"]), r"data\.test_targets is of type <U1"),
        (0, np.zeros((0, 3)), r"data\.train_inputs has shape \(0, 3\)"),
        (1, np.full((4, 1), 2**40), r"data\.train_targets holds 1099511627776 to"),
    ):
        arrays = [*good[:place], bad, *good[place + 1 :]]
        with pytest.raises(ConfigError, match=sentence):
            data_from_arrays(*arrays)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_the_loss_is_picked_among_any_number_of_classes(dtype):
    """By the formula in float64, and its gradient: what the model says less what is so. No scatter computes it."""
    logits, labels = np.random.default_rng(0).normal(size=(3, 300)), np.array([0, 44, 255], dtype)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    total = jax.jit(jax.value_and_grad(lambda z: cross_entropy(z, jnp.asarray(labels)).sum()))
    value, slope = total(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(value, -np.log(chances[np.arange(3), labels]).sum(), rtol=1e-5)
    np.testing.assert_allclose(slope, chances - np.eye(300)[labels], atol=1e-6)
    assert "scatter" not in total.lower(jnp.asarray(logits, jnp.float32)).as_text()


def test_a_label_beyond_the_classes_is_neither_learned_nor_hit():
    logits, labels = jnp.zeros((3, 4)), jnp.array([4, -1, 2])
    assert np.isnan(cross_entropy(logits, labels)).tolist() == [True, True, False]
    assert in_top(logits, labels, 5).tolist() == [False, False, True]
