"""Text in a whole run: the decoder, its tiers, and all that holds for images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from support.traced import traces_of_runs

from fedhm_jax import (
    AggregationConfig,
    ConfigError,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    SimulationResult,
    StrategyConfig,
    Study,
    TiersConfig,
    build_model,
    compare,
    continue_text,
    load_run,
    read_config,
    score_text,
    simulate,
    simulate_seeds,
    text_from_strings,
)
from fedhm_jax.cli import main
from fedhm_jax.data import decode, encode
from fedhm_jax.lowrank import is_factors, recover
from fedhm_jax.run import HandedOver
from fedhm_jax.run.foreign import run_for
from fedhm_jax.run.program_cache import kept_programs
from fedhm_jax.strategies import STRATEGIES
from fedhm_jax.tree import named_leaves

LINES = {
    "hamlet": "to be, or not to be, that is the question: whether it is nobler in the mind to suffer " * 3,
    "macbeth": "tomorrow, and tomorrow, and tomorrow, creeps in this petty pace from day to day " * 3,
    "lear": "blow, winds, and crack your cheeks! rage! blow! you cataracts and hurricanoes, spout " * 3,
}
TEXT = text_from_strings(LINES, window=8, test_share=0.2)
SMALL = SimulationConfig(
    partition=PartitionConfig(method="natural", min_samples=1),
    model=ModelConfig("decoder", width=16, depth=1, heads=2),
    tiers=TiersConfig((2.0, 8.0)),
    strategy=StrategyConfig("fedhm_nested"),
    local=LocalConfig(learning_rate=0.3, epochs=1, batch_size=4, clip=1.0),
    server=ServerConfig(rounds=3, participation=1.0),
    evaluation=EvaluationConfig(every=2, spectral_norms=True),
)
TIERS = ("f2", "f8")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulationResult, list[str]]:
    """A run, and what was traced in it."""
    folder = tmp_path_factory.mktemp("text") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        traces = traces_of_runs(monkeypatch)
        return simulate(replace(SMALL, output=OutputConfig(folder=folder)), data=TEXT), traces


@pytest.fixture(scope="module")
def finished(traced: tuple[SimulationResult, list[str]]) -> SimulationResult:
    return traced[0]


def test_nothing_is_traced_after_the_first_round(traced: tuple[SimulationResult, list[str]]) -> None:
    assert sorted(traced[1]) == ["evaluate", "round_step"]


@pytest.mark.long
def test_memory_grows_with_the_clients_side_by_side_and_not_with_the_cohort() -> None:
    config = replace(SMALL, partition=PartitionConfig("iid", clients=16, min_samples=1))
    config = replace(config, tiers=TiersConfig((1.0,)), strategy=StrategyConfig("fedavg"))

    def temporaries(cohort: int, side_by_side: int) -> int:
        server = ServerConfig(cohort_size=cohort, clients_per_chunk=side_by_side)
        foreign = run_for("cpu", replace(config, server=server), HandedOver(TEXT))
        round_step = jax.jit(foreign.engine.round_step, donate_argnums=0).lower(*foreign.round_arguments)
        return round_step.compile().memory_analysis().temp_size_in_bytes

    module = build_model("decoder", len(TEXT.vocabulary), width=16, depth=1, heads=2, window=8)
    params = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    model = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    few, many, beside = temporaries(4, 1), temporaries(16, 1), temporaries(4, 4)
    # Twelve more clients take less than one model; three more beside the first take at least a model each.
    assert many - few < model
    assert beside - few > 3 * model


def bits_of(logits: np.ndarray, targets: np.ndarray) -> float:
    log_p = logits - np.log(np.exp(logits.astype(float)).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_p, targets[..., None], axis=-1).mean() / np.log(2))


def test_it_learns_and_measures_bits_a_character(finished: SimulationResult) -> None:
    assert finished.final["bits"]["global"] < np.log2(len(TEXT.vocabulary)) - 0.2
    windows = np.stack([TEXT.test_tokens[start : start + 9] for start in TEXT.test_starts]).astype(int)
    for name in ("global", *TIERS):
        logits = finished.predict(windows[:, :-1], name)
        assert bits_of(logits, windows[:, 1:]) == pytest.approx(finished.final["bits"][name], rel=1e-5)
        hits = (logits.argmax(-1) == windows[:, 1:]).mean()
        assert hits == pytest.approx(finished.final["accuracy"][name], rel=1e-6)
    assert "bits" not in finished.history[0]
    assert finished.folder is not None
    assert (finished.folder / "bits.png").exists()
    assert "bits per character" in repr(finished)


def test_spectral_norms_are_those_of_the_products(finished: SimulationResult) -> None:
    assert list(finished.history[-1]["spectral_norm"]) == list(TIERS)
    for name in TIERS:
        leaves = named_leaves(finished.tier(name).params, is_leaf=is_factors).values()
        products = [np.asarray(recover(leaf)) for leaf in leaves if is_factors(leaf)]
        largest = max(np.linalg.norm(product, 2) for product in products)
        assert finished.history[-1]["spectral_norm"][name] == pytest.approx(largest, rel=1e-3)


def test_a_run_is_read_back(finished: SimulationResult) -> None:
    assert finished.folder is not None
    loaded = load_run(finished.folder)
    few = np.zeros((2, 5), int)
    for name in ("global", *TIERS):
        assert (loaded.predict(few, name) == finished.predict(few, name)).all()
    assert decode(TEXT, loaded.predict(few).argmax(-1)[0]).isprintable()


@pytest.mark.long
def test_a_run_is_resumed_to_the_bit(finished: SimulationResult, tmp_path: Path) -> None:
    short = replace(SMALL, server=replace(SMALL.server, rounds=2), output=OutputConfig(folder=tmp_path / "run"))
    simulate(short, data=TEXT)
    longer = replace(short, server=SMALL.server)
    resumed = simulate(longer, data=TEXT, resume=tmp_path / "run")
    assert resumed.final == finished.final
    other = TEXT._replace(train_tokens=TEXT.train_tokens[::-1].copy())
    with pytest.raises(ConfigError, match="the training set must be the same as when the run to resume began"):
        simulate(replace(longer, server=replace(SMALL.server, rounds=4)), data=other, resume=tmp_path / "run")


@pytest.mark.parametrize("name", ["f8", *(pytest.param(name, marks=pytest.mark.long) for name in ("global", "f2"))])
def test_a_text_is_measured_as_the_run_measures_its_test(finished: SimulationResult, name: str) -> None:
    """The twin computes each place anew, from the tokens of its window alone."""
    model, string = finished.tier(name), "to be, or what is the question"
    tokens = encode(TEXT, string)
    surprise = []
    for place in range(1, len(tokens)):
        begin = (place - 1) // 8 * 8
        surprise.append(bits_of(model.predict(tokens[None, begin:place])[:, -1], tokens[None, place]))
    assert score_text(model, string) == pytest.approx(np.mean(surprise), rel=1e-5)
    whole = decode(TEXT, TEXT.test_tokens[TEXT.test_starts[0] :][:9])
    windows = np.array([TEXT.test_tokens[TEXT.test_starts[0] :][:9]])
    assert score_text(model, whole) == pytest.approx(bits_of(model.predict(windows[:, :-1]), windows[:, 1:]), rel=1e-5)


def test_what_goes_on_is_drawn_as_the_model_expects(finished: SimulationResult) -> None:
    model, start = finished.tier("f2"), "whether"
    shares = np.exp(model.predict(encode(TEXT, start)[None])[0, -1].astype(float))
    shares /= shares.sum()
    drawn = [continue_text(model, start, 1, seed=seed) for seed in range(200)]
    for character, share in zip(TEXT.vocabulary, shares, strict=True):
        assert abs(drawn.count(character) - 200 * share) <= 5 * np.sqrt(200 * share * (1 - share)) + 1
    assert continue_text(model, start, 1, seed=3) == drawn[3]
    # next to no temperature takes the likeliest, also where the text is longer than the window
    on = continue_text(model, start, 12, temperature=1e-3)
    for place in range(12):
        before = encode(TEXT, (start + on[:place])[-8:])
        assert on[place] == TEXT.vocabulary[model.predict(before[None])[0, -1].argmax()]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda model: score_text(model, "t"), "the text has 1 tokens, but must have at least 2"),
        (lambda model: continue_text(model, "", 3), "the text has 0 tokens, but must have at least 1"),
        (lambda model: continue_text(model, "tö", 3), "the text holds the character 'ö', but must be of those that "),
        (lambda model: continue_text(model, "to", 3, temperature=0.0), "temperature is 0.0, but must be above 0"),
        (lambda _: score_text(SimulationResult, "to"), "model is not of text, but must be"),
    ],
)
def test_texts_that_do_not_fit_are_refused(finished: SimulationResult, call: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        call(finished.tier("f2"))


def test_the_command_line_measures_files_and_goes_on(
    finished: SimulationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play, other, folder = tmp_path / "play.txt", tmp_path / "other.txt", str(finished.folder)
    play.write_text("to be, or")
    other.write_bytes(b"caf\xe9")
    assert main(["predict", folder, str(play), "--model", "f2"]) == 0
    expected = score_text(finished.tier("f2"), "to be, or")
    assert capsys.readouterr().out == f"{play}: {expected:.4f} bits per character\n"
    assert main(["predict", folder, str(play), "--continue", "7", "--seed", "2"]) == 0
    on = continue_text(finished.tier("global"), "to be, or", 7, seed=2)
    assert capsys.readouterr().out == f"to be, or{on}\n"
    play.write_text("tö")
    for arguments, says in (
        ([str(other)], f"text is {str(other)!r}, but must be a file of UTF-8 that can be read ("),
        ([str(tmp_path / "nowhere")], "but must be a file of UTF-8 that can be read ([Errno 2] No such file"),
        ([str(play)], f"{play}: the text holds the character 'ö', but must be of those that were trained on"),
        ([str(play), "--continue", "0"], "--continue is 0, but must be a number of tokens, at least 1"),
    ):
        assert main(["predict", folder, *arguments]) == 2
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (np.zeros((2, 9), int), r"tokens is of shape \(2, 9\) and type int64, but must be \(samples, tokens\)"),
        (np.full((1, 4), 99), r"tokens holds the token 99, but must hold tokens from 0 to"),
        (np.zeros((1, 4)), r"type float64, but must be \(samples, tokens\) integers, at most 8 tokens a sample"),
    ],
)
def test_tokens_that_are_none_are_refused(finished: SimulationResult, tokens: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        finished.predict(tokens)
    with pytest.raises(ConfigError, match="must be one of images, for only these have a size"):
        print(finished.tier("f2").image_shape)


@pytest.mark.long
def test_a_study_chooses_and_judges_by_fewer_bits(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    for name, text in LINES.items():
        (tmp_path / "lines" / f"{name}.txt").write_text(text)
    data = replace(SMALL.data, name="text", data_dir=tmp_path / "lines", window=8, test_share=0.2)
    study = Study(
        "Text",
        ("fedavg_low_rank", "fedhm"),
        (0, 1, 2),
        {"lines": replace(SMALL, data=data, strategy=StrategyConfig("fedhm"))},
        learning_rates=(1e-5, 0.3),
        tuning_samples=10,
        reference="fedhm",
    )
    result = compare(study, tmp_path / "study")
    assert {trial.point["local.learning_rate"] for trial in result.trials if trial.chosen} == {0.3}
    report = (tmp_path / "study" / "report.md").read_text()
    assert "Bits per character (less is better) on the test set" in report
    assert "in bits per character, of which less is better" in report
    assert "bits,loss" in (tmp_path / "study" / "results.csv").read_text()
    assert read_config(next((tmp_path / "study" / "runs").rglob("config.toml"))).data.window == 8


@pytest.mark.long
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains_on_text(name: str) -> None:
    server = replace(SMALL.server, rounds=2)
    model = replace(SMALL.model, depth=2)  # DepthFL leaves blocks out
    config = replace(SMALL, model=model, strategy=StrategyConfig(name), server=server, evaluation=EvaluationConfig())
    result = simulate(config, data=TEXT)
    assert all(np.isfinite(list(result.final["bits"].values())))


@pytest.mark.long
def test_what_images_have_text_has_too() -> None:
    with kept_programs(True):
        plain = replace(SMALL, strategy=StrategyConfig("fedhm"))
        robust = replace(plain, aggregation=AggregationConfig(merge="median", clip=1.0))
        assert np.isfinite(simulate(robust, data=TEXT).final["bits"]["f8"])
        private = replace(
            plain,
            aggregation=AggregationConfig(clip=1.0),
            privacy=PrivacyConfig(noise_multiplier=0.1),
            strategy=StrategyConfig("fedavg", classifier_rows="all"),
            partition=PartitionConfig("iid", clients=3),
        )
        assert simulate(private, data=TEXT).history[-1]["epsilon"] > 0
        failing = replace(plain, devices=replace(plain.devices, dropout=0.5))
        assert any(sum(record["dropouts"].values()) for record in simulate(failing, data=TEXT).history)
        one, _ = simulate_seeds(plain, (0, 1), data=TEXT)
        alone = simulate(plain, data=TEXT)
        assert one.final["bits"]["f2"] == pytest.approx(alone.final["bits"]["f2"], rel=1e-4)
        halved = simulate(replace(plain, local=replace(plain.local, compute="bfloat16")), data=TEXT)
        assert halved.final["bits"]["f2"] == pytest.approx(alone.final["bits"]["f2"], rel=0.02)
        spread = simulate(replace(plain, server=replace(plain.server, devices=3)), data=TEXT)
        assert spread.final["bits"]["f2"] == pytest.approx(alone.final["bits"]["f2"], rel=1e-4)
