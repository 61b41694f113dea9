"""Whole rounds, of every strategy and model, lower for GPUs and TPUs, with the choices that these would make."""

from dataclasses import replace

import jax
import jax.export
import pytest

from fedhm_jax import (
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    text_from_strings,
)
from fedhm_jax.run import HandedOver
from fedhm_jax.run.foreign import run_for
from fedhm_jax.run.preparation.platform_defaults import with_defaults_of
from fedhm_jax.run.seeds import over_seeds, stack_data, stack_test
from fedhm_jax.strategies import STRATEGIES

VERSE = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer"
ACCELERATORS = ("cuda", "tpu")
SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=32, test_samples=10),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1.0, 2.0)),
    partition=PartitionConfig(clients=4),
    local=LocalConfig(batch_size=4),
    server=ServerConfig(participation=1.0),
    evaluation=EvaluationConfig(statistics_samples=10),
)
TEXT = text_from_strings([VERSE] * 8, window=8, test_share=0.25)


def of(strategy, model):
    hidden = (8,) if strategy != "depthfl" else (8, 8)
    small = {"width": 8, "depth": 2, "heads": 2} if model in ("vit", "decoder") else {}
    return replace(SMALL, strategy=StrategyConfig(strategy), model=ModelConfig(name=model, hidden=hidden, **small))


def exported(foreign, platforms):
    """Round and evaluation as one program, traced once."""

    def whole(test, *arguments):
        state, metrics = foreign.engine.round_step(*arguments)
        return state, metrics, foreign.engine.evaluate(state, arguments[1], test)

    return jax.export.export(jax.jit(whole), platforms=platforms)(foreign.run.test, *foreign.round_arguments)


QUICK = [("fedhm", "cnn"), ("splitmix", "mlp"), ("fedavg", "decoder")]
MODELS = ("mlp", "cnn", "resnet8", "resnet18", "vit", "decoder")
ADAPTERS = {"flexlora", "raflora", "fedhm_adapters", "hetlora", "flora", "florist"}
# What adapters and transformers have of their own, a few of each show.
SEEN = {"mlp": set(STRATEGIES), "decoder": set(STRATEGIES), "vit": {"fedhm", "fedhm_nested", "fjord", "depthfl"}}
ALL = [
    (strategy, model)
    for strategy in STRATEGIES
    for model in MODELS
    if strategy in SEEN.get(model, set(STRATEGIES) - ADAPTERS)
]
ALL += [("fedhm", "resnet20"), ("fedhm", "resnet34")]


@pytest.mark.parametrize(
    ("strategy", "model"), [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.long) for pair in ALL]
)
def test_a_round_lowers_for_gpus_and_tpus(strategy, model):
    config = of(strategy, model)
    # What holds for one of them holds for the other, so that one trace serves both.
    assert with_defaults_of("gpu", config) == with_defaults_of("tpu", config)
    program = exported(run_for("gpu", config, HandedOver(TEXT) if model == "decoder" else HandedOver()), ACCELERATORS)
    assert program.platforms == ACCELERATORS
    assert ("stablehlo.convolution" in program.mlir_module()) == (model not in ("mlp", "decoder"))


def test_each_platform_gets_its_own_choices():
    """A CPU one client at a time, with the convolution of one shifted copy a column; a GPU the library's, grouped."""
    config = of("fedhm", "cnn")
    texts = {}
    for platform, name in (("cpu", "cpu"), ("gpu", "cuda")):
        foreign = run_for(platform, config)
        traced = jax.jit(foreign.engine.round_step).trace(*foreign.round_arguments)
        texts[platform] = traced.lower(lowering_platforms=(name,)).as_text()
        assert foreign.run.clients_per_chunk == (1 if platform == "cpu" else 2)
    groups = {platform: "feature_group_count = 2" in text for platform, text in texts.items()}
    assert groups == {"cpu": False, "gpu": True}
    # the decomposition of the merged kernels
    assert "lapack_" in texts["cpu"]
    assert "lapack_" not in texts["gpu"]
    assert "cusolver" in texts["gpu"]


def test_what_a_config_says_holds_on_every_platform():
    server = ServerConfig(clients_per_chunk=3, convolution="canonical")
    config = replace(SMALL, server=server, strategy=StrategyConfig("fedhm", decomposition="svd"))
    assert all(with_defaults_of(platform, config) == config for platform in ("cpu", "gpu", "tpu"))


@pytest.mark.long
def test_runs_that_share_a_program_lower_batched():
    foreign = run_for("gpu", SMALL)
    run = foreign.run

    def rows(tree):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), tree)

    engine = over_seeds(foreign.engine, "gpu")
    state, _, cohort, rate, key = foreign.round_arguments
    data = jax.eval_shape(lambda one: stack_data([one, one]), run.data)
    test = jax.eval_shape(lambda one: stack_test([one, one]), run.test)
    arguments = rows((state, cohort, rate, key))

    def whole(state, cohort, rate, key, data, test):
        state, metrics = engine.round_step(state, data, cohort, rate, key)
        return state, metrics, engine.evaluate(state, data, test)

    program = jax.export.export(jax.jit(whole), platforms=ACCELERATORS)(*arguments, data, test)
    assert program.out_avals[0].shape[0] == 2
