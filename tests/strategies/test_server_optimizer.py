"""Rounds with a server optimizer: the plain round's merge, and then a step of the paper's, whatever the merge was."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.equality import same_bits
from support.merging import rounds, two_tiers
from support.server_twin import Server

from fedhm_jax import (
    AggregationConfig,
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    PrivacyConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.data.client_data import client_by_id
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.server.acceptance import PLAIN_MEAN, MergeRule
from fedhm_jax.server.optimizers import server_optimizer
from fedhm_jax.strategies import STRATEGIES, fedhm, with_server_optimizer
from fedhm_jax.testing import FULL_TIERS, client_data, cohort, first_params, setting_for
from fedhm_jax.tree import named_leaves

SETTINGS = {"momentum": 0.7, "second_moment": 0.9, "epsilon": 0.01}
SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=120, test_samples=40),
    partition=PartitionConfig(clients=4),
    model=ModelConfig(name="mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1, 2), assignment="dynamic"),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=4, optimizer="adam", learning_rate=0.02),
)


def as_numpy(tree):
    return {path: np.asarray(leaf, np.float64) for path, leaf in named_leaves(tree).items()}


def forgetful(setting):
    return fedhm(setting, history=False)


CASES = {  # the battery says of every strategy that its model is moved where the merge would put it
    "median of clipped updates": (forgetful, "adam", MergeRule("median", clip=0.5)),
    "noised": (forgetful, "yogi", MergeRule(clip=0.5, noise=0.1)),
    "a window that rolls": (STRATEGIES["fedrolex"].build, "adagrad", PLAIN_MEAN),
    "a stack": (STRATEGIES["splitmix"].build, "momentum", PLAIN_MEAN),
}


@pytest.mark.parametrize(
    "case", ["noised", *(pytest.param(case, marks=pytest.mark.long) for case in CASES if case != "noised")]
)
def test_a_round_is_the_plain_merge_and_a_step_of_the_paper(case):
    """Of a noised merge this says that the optimizer sees it alone, so the guarantee holds: it is post-processing."""
    build, name, rule = CASES[case]

    def optimized(setting):
        return with_server_optimizer(build(setting), server_optimizer(name, 0.1, **SETTINGS))

    with jax.enable_x64(True):
        setting = two_tiers(classifier="classifier" if rule == PLAIN_MEAN else None)
        plain = rounds(rule, build=build, setting=setting, dtype=jnp.float64)
        game = rounds(rule, build=optimized, setting=setting, dtype=jnp.float64)
        state = game.state
        twin = Server(name, as_numpy(game.strategy.global_model(state)), rate=0.1, **SETTINGS)
        for _ in range(3):
            merged, _ = plain.play(state.inner, FULL_TIERS)
            wanted = twin.step(as_numpy(plain.strategy.global_model(merged)))
            state, _ = game.play(state, FULL_TIERS)
            found = as_numpy(game.strategy.global_model(state))
            assert found.keys() == wanted.keys()
            for path, leaf in wanted.items():
                np.testing.assert_allclose(found[path], leaf, rtol=0, atol=1e-9, err_msg=path)
        empty, _ = game.play(state, cohort((), ()))
        if rule.noise is None:
            same_bits(empty.optimizer, state.optimizer)
            same_bits(game.strategy.global_model(empty), game.strategy.global_model(state))
        assert len(game.traces) == 1


@pytest.mark.parametrize("method", ["svd", "gram"])
def test_fedhm_decomposes_once_all_the_same(method):
    setting = setting_for("mlp", (1.0, 4.0))
    plain = fedhm(setting, decomposition=method)
    params = first_params(setting)

    def contributions():
        client, state = (
            client_by_id(client_data(), jnp.int32(0), jnp.bool_(True)),
            plain.init(params, jax.random.key(0)),
        )
        return [plain.contribute(state, tier, plain.distribute(state, tier, client), client) for tier in range(2)]

    def decompositions(strategy):
        state = jax.eval_shape(strategy.init, params, jax.random.key(0))
        sent = jax.eval_shape(contributions)
        text = jax.jit(strategy.aggregate).lower(state, sent, jnp.ones(2, jnp.int32)).compile().as_text()
        return text.count("custom-call(")

    assert decompositions(with_server_optimizer(plain, optax.sgd(0.1, momentum=0.9))) == decompositions(plain) > 0


@pytest.mark.long
def test_a_run_goes_on_to_the_same_bits_with_the_moments_of_its_optimizer(tmp_path):
    config = replace(SMALL, evaluation=replace(SMALL.evaluation, every=2))
    whole = simulate(config)
    first = replace(config, server=replace(config.server, rounds=2), output=OutputConfig(folder=tmp_path / "run"))
    simulate(first)
    longer = replace(first, server=config.server)
    resumed = simulate(longer, resume=tmp_path / "run")
    same_bits(resumed.params, whole.params)
    with pytest.raises(
        ConfigError, match=r"server\.epsilon is 0\.1, but must be 0\.001, as in the run that is resumed"
    ):
        simulate(replace(longer, server=replace(config.server, epsilon=0.1)), resume=tmp_path / "run")


def test_at_rate_one_nothing_is_wrapped():
    parts = check_run(replace(SMALL, server=ServerConfig(momentum=0.5, epsilon=1.0)))
    assert type(jax.eval_shape(parts.strategy.init, parts.setting.shapes, jax.random.key(0))).__name__ == "FedHMState"


def test_a_server_optimizer_passes_where_privacy_is_kept():
    pytest.importorskip("dp_accounting")
    config = replace(
        SMALL,
        strategy=StrategyConfig("fedhm", classifier_rows="all", history=False),
        aggregation=AggregationConfig(clip=1.0),
        privacy=PrivacyConfig(noise_multiplier=1.0),
    )
    plain = replace(config, server=ServerConfig())
    assert check_run(config).account.epsilon(3) == check_run(plain).account.epsilon(3)
    assert check_run(config).rule == check_run(plain).rule


GIVEN = "an optax.GradientTransformation that needs no more than gradient and parameters"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (0.1, f"server_optimizer is 'float', but must be {GIVEN}"),
        (optax.adam, f"server_optimizer is 'function', but must be {GIVEN}"),
        (optax.lbfgs(), f"server_optimizer is 'GradientTransformationExtraArgs', but must be {GIVEN}; of this one"),
        (
            optax.stateless(lambda updates, params: jax.tree.map(lambda leaf: leaf[None], updates)),
            f"server_optimizer is 'GradientTransformation', but must be {GIVEN}; of this one a step changes shapes",
        ),
    ],
)
def test_what_cannot_be_a_server_optimizer_is_refused(given, sentence):
    config = replace(SMALL, server=ServerConfig())
    with pytest.raises(ConfigError) as caught:
        simulate(config, server_optimizer=given)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_two_server_optimizers_and_a_strategy_that_cannot_be_moved_are_refused():
    with pytest.raises(ConfigError, match=r"must be None where server\.optimizer is 'adam' at server\.learning_rate 0"):
        simulate(SMALL, server_optimizer=optax.sgd(0.1))
    with pytest.raises(ConfigError, match=r"strategy has no replace_model, but must have one for a server optimizer"):
        simulate(SMALL, strategy=lambda setting: fedhm(setting)._replace(replace_model=None))
