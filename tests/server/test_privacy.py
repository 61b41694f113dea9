"""Noise of the right size in the right place, what it guarantees, and what is refused because it would not."""

import functools
import json
import math
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats
from support.merging import poison, rounds, tampering

from fedhm_jax import (
    AggregationConfig,
    ConfigError,
    DataConfig,
    DevicesConfig,
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
from fedhm_jax.config.validation import check_config
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.reporting.privacy import ASSUMPTIONS, privacy_text
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.server.acceptance import MergeRule, update_length
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.server.privacy import noised, privacy_account
from fedhm_jax.strategies import fedhm
from fedhm_jax.testing import FULL_TIERS, client_data, cohort, farthest

CLIP, MEMBERS = 0.05, 5
PRIVATE = SimulationConfig(
    data=DataConfig(train_samples=120, test_samples=20),
    partition=PartitionConfig(clients=6),
    model=ModelConfig(name="mlp", hidden=(16, 8)),
    tiers=TiersConfig(rank_factors=(1, 4)),
    strategy=StrategyConfig("fedhm", history=False, classifier_rows="all"),
    local=LocalConfig(epochs=1, batch_size=8),
    aggregation=AggregationConfig(clip=0.5),
    privacy=PrivacyConfig(noise_multiplier=4.0),
    server=ServerConfig(rounds=3, cohort_size=3),
)


def forgetful(setting):
    return fedhm(setting, history=False)


@functools.cache
def private_rounds(noise=1e-30, clip=CLIP, build=forgetful):
    """Rounds of clipped updates with noise; by default so little that it cannot be seen."""
    return rounds(MergeRule(clip=clip, noise=noise), build=build)


# --- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [0.1, 3.0])
def test_the_noise_has_the_deviation_asked_for(deviation):
    model = {"a": jnp.full((200, 200), 2.0), "b": jnp.zeros(40_000)}
    sums = {"a": jnp.full((200, 200), 5.0), "b": jnp.zeros(40_000)}
    updates = Contribution(sums, {"a": jnp.float32(4), "b": jnp.float32(4)})
    found = noised(model, updates, deviation, jax.random.key(7))
    a, b = np.asarray(found.total["a"]).ravel() - (4 * 2.0 + 5.0), np.asarray(found.total["b"])
    count = len(a)
    for noise in (a, b):  # standard errors of a normal sample's mean, deviation and kurtosis; five of each
        assert abs(noise.mean()) < 5 * deviation / math.sqrt(count)
        assert abs(noise.std() / deviation - 1) < 5 / math.sqrt(2 * count)
        assert abs(stats.kurtosis(noise)) < 5 * math.sqrt(24 / count)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(count)
    again, other = (noised(model, updates, deviation, jax.random.key(seed)).total for seed in (7, 8))
    assert farthest(again, found.total) == 0
    assert farthest(other, found.total) > deviation
    assert {name: float(weight) for name, weight in found.weight.items()} == {"a": 4, "b": 4}


def test_a_round_adds_the_noise_of_its_key_once_to_the_sum():
    """The server's model moves by the noise over the number of clients, whatever tiers they are of."""
    silent, noisy = private_rounds(), private_rounds(noise=0.3)
    before, after = (game.play(game.state, FULL_TIERS)[0].params for game in (silent, noisy))
    zeros = jax.tree.map(jnp.zeros_like, before)
    scalars = jax.tree.map(lambda _: jnp.float32(0), zeros)
    drawn = noised(zeros, Contribution(zeros, scalars), 0.3, jax.random.key(3)).total
    wanted = jax.tree.map(lambda leaf, noise: leaf + noise / MEMBERS, before, drawn)
    assert farthest(after, wanted) < 1e-6
    assert farthest(after, before) > 0.1


def test_without_training_the_full_rank_model_stays():
    """What low-rank clients never received does not enter the merge, and so not the sensitivity."""
    game = private_rounds()
    after, _ = game.play(game.state, FULL_TIERS, rate=0.0)
    assert farthest(after.params, game.state.params) < 1e-6
    truncated = recover_tree(game.strategy.tier_model(game.state, 1))
    assert farthest(truncated, game.state.params) > 0.1


def test_one_client_moves_the_sum_by_its_clipped_update():
    clipped, free = private_rounds(), private_rounds(clip=10.0)
    start = clipped.state.params
    for only in (cohort((2,), ()), cohort((), (5,))):
        change, whole = (
            jax.tree.map(jnp.subtract, game.play(game.state, only)[0].params, start) for game in (clipped, free)
        )
        assert 1.5 * CLIP < length(whole) < 10
        assert abs(length(change) - CLIP) < 1e-5
        scale = CLIP / length(whole)
        assert farthest(change, jax.tree.map(lambda leaf, scale=scale: scale * leaf, whole)) < 1e-6


def length(tree):
    ones = jax.tree.map(lambda _: jnp.float32(1), tree)
    return float(update_length(Contribution(tree, ones)))


@pytest.mark.long
def test_no_client_moves_the_sum_by_more_than_twice_the_limit():
    honest = private_rounds()
    liar = private_rounds(build=tampering((0,), lambda before, after: before - 1e4 * (after - before), forgetful))
    one, other = (game.play(game.state, FULL_TIERS)[0].params for game in (honest, liar))
    moved = length(jax.tree.map(lambda a, b: MEMBERS * (a - b), one, other))
    assert 1.9 * CLIP < moved < 2 * CLIP * (1 + 1e-4)


def test_updates_that_are_not_finite_count_as_zero_and_not_as_absent():
    """How many enter the mean must not depend on their data."""
    game = private_rounds(build=tampering((0, 2), poison(math.nan), forgetful))
    (five, metrics), (three, _) = (game.play(game.state, sampled) for sampled in (FULL_TIERS, cohort((4,), (5, 1))))
    start = game.state.params
    five_moved, three_moved = (jax.tree.map(jnp.subtract, state.params, start) for state in (five, three))
    assert farthest(jax.tree.map(lambda leaf: leaf * 5 / 3, five_moved), three_moved) < 1e-6
    assert length(three_moved) > 0.1 * CLIP
    assert [(int(tier.clients), int(tier.rejected)) for tier in metrics] == [(1, 1), (2, 1)]


def test_a_client_without_samples_counts_like_any_other():
    data = client_data()
    empty = data._replace(counts=data.counts.at[0].set(0))
    game = private_rounds()
    with_empty, without = (
        game.play(game.state, cohort((4,), clients), data=empty)[0].params for clients in ((5, 0), (5,))
    )
    start = game.state.params
    moved, more = (jax.tree.map(jnp.subtract, params, start) for params in (with_empty, without))
    assert farthest(jax.tree.map(lambda leaf: leaf * 3 / 2, moved), more) < 1e-6
    assert len(game.traces) == 1


def test_a_round_in_which_all_dropped_out_keeps_the_model():
    game = private_rounds(noise=0.3)
    assert farthest(game.play(game.state, cohort((), ()))[0].params, game.state.params) == 0


# --- epsilon ---------------------------------------------------------------------------------------------------------


def exact_gaussian_epsilon(deviation, delta):
    """Of a Gaussian mechanism whose noise is so many sensitivities (Balle and Wang, 2018, theorem 8)."""

    def failing(epsilon):
        half, shift = 1 / (2 * deviation), epsilon * deviation
        return stats.norm.cdf(half - shift) - math.exp(epsilon + stats.norm.logcdf(-half - shift)) - delta

    return optimize.brentq(failing, 0, 500)


@pytest.mark.parametrize("multiplier", [2.0, 8.0, 20.0])
@pytest.mark.parametrize("rounds", [1, 10, 200])
def test_everybody_in_every_round_is_the_gaussian_mechanism(multiplier, rounds):
    """Rounds of full cohorts are one Gaussian mechanism with less noise; the bound is above it, and not by much."""
    delta = 1e-5
    exact = exact_gaussian_epsilon(multiplier / 2 / math.sqrt(rounds), delta)
    found = privacy_account(multiplier, clients=50, cohort_size=50, delta=delta).epsilon(rounds)
    assert exact <= found <= 1.2 * exact


@pytest.mark.parametrize("share", [2, 10, 100])
def test_one_round_of_a_sample_is_above_the_exact_amplification(share):
    """Without replacement and for replaced clients: ``log(1 + q (e^epsilon - 1))`` at ``q delta`` (Balle, Barthe,
    Gaboardi, 2018, theorem 11) is the best that can be said of one round."""
    multiplier, delta = 4.0, 1e-5
    exact = math.log1p(math.expm1(exact_gaussian_epsilon(multiplier / 2, delta * share)) / share)
    account = privacy_account(multiplier, clients=1000, cohort_size=1000 // share, delta=delta)
    everybody = privacy_account(multiplier, clients=1000, cohort_size=1000, delta=delta)
    assert exact <= account.epsilon(1) < 0.9 * everybody.epsilon(1)
    for done in (1, 10, 1000):
        assert account.epsilon(done) <= everybody.epsilon(done)


def test_epsilon_grows_with_rounds_and_falls_with_noise_and_delta():
    account = privacy_account(4.0, 100, 10, 1e-3)
    by_round = [account.epsilon(done) for done in range(1, 40)]
    assert by_round == sorted(by_round)
    assert account.delta == 1e-3
    assert privacy_account(8.0, 100, 10, 1e-3).epsilon(20) < account.epsilon(20)
    assert privacy_account(4.0, 100, 10, 1e-6).epsilon(20) > account.epsilon(20)
    assert privacy_account(4.0, 100, 20, 1e-3).epsilon(20) > account.epsilon(20)


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"privacy\.noise_multiplier is 4\.0, .* pip install 'fedhm-jax\[privacy\]'"):
        check_run(PRIVATE)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_private_run_reports_what_it_guarantees(tmp_path):
    result = simulate(replace(PRIVATE, output=OutputConfig(tmp_path / "run")))
    account = privacy_account(4.0, clients=6, cohort_size=3, delta=6**-1.1)
    assert [record["epsilon"] for record in result.history] == [account.epsilon(done) for done in (1, 2, 3)]
    assert {record["delta"] for record in result.history} == {6**-1.1}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["privacy"]
    assert (summary["epsilon"], summary["delta"]) == (account.epsilon(3), 6**-1.1)
    assert summary["assumptions"] == list(ASSUMPTIONS)
    text = privacy_text(result)
    assert f"epsilon {account.epsilon(3):.3g} at delta 0.139" in text
    assert all(assumption in text for assumption in ASSUMPTIONS)


@pytest.mark.long
def test_a_run_without_noise_reports_no_guarantee():
    open_run = simulate(replace(PRIVATE, privacy=PrivacyConfig(), server=ServerConfig(rounds=1, cohort_size=3)))
    assert privacy_text(open_run) is None
    assert "epsilon" not in open_run.history[-1]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("aggregation", "clip", None),
        ("aggregation", "merge", "median"),
        ("aggregation", "merge", "trimmed_mean"),
        ("aggregation", "reject", 3.0),
        ("strategy", "weighting", "samples"),
        ("strategy", "weighting", "rank_softmax"),
        ("strategy", "classifier_rows", "owned"),
        ("strategy", "history", True),
        ("devices", "deadline", 9.0),
        ("privacy", "delta", 0.0),
        ("privacy", "delta", 1 / 6),
    ],
)
def test_settings_that_break_the_guarantee(section, field, value):
    check_config(PRIVATE)
    config = replace(PRIVATE, **{section: replace(getattr(PRIVATE, section), **{field: value})})
    with pytest.raises(ConfigError, match=rf"{section}\.{field} is .*, but must be .*when privacy\.noise_multiplier"):
        check_config(config)
    # without privacy each of them is fine
    check_config(replace(config, privacy=PrivacyConfig(delta=config.privacy.delta)))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_noise_must_be_positive(value):
    with pytest.raises(ConfigError, match=r"privacy\.noise_multiplier is .* above 0"):
        check_config(replace(PRIVATE, privacy=PrivacyConfig(noise_multiplier=value)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("heterofl", "shapes"),
        ("fedrolex", "shapes"),
        ("fjord", "shapes"),
        ("depthfl", "shapes"),
        ("splitmix", "parts"),
        ("fiarse", "parts"),
    ],
)
def test_strategies_without_a_bound(name, reason):
    config = replace(PRIVATE, strategy=replace(PRIVATE.strategy, name=name))
    check_config(config)
    with pytest.raises(ConfigError, match=rf"privacy\.noise_multiplier is 4\.0, but must be unset for .*{reason}"):
        check_run(config)


@pytest.mark.parametrize("name", ["fedhm", "fedavg", "fedavg_low_rank"])
def test_strategies_with_a_bound(name):
    config = replace(PRIVATE, strategy=replace(PRIVATE.strategy, name=name), devices=DevicesConfig(dropout=0.5))
    check_config(config)
    check_run(config)


def test_static_batch_norm_and_strategies_from_outside():
    with pytest.raises(ConfigError, match="static batch norm"):
        check_run(replace(PRIVATE, model=ModelConfig(name="resnet8")))
    check_run(replace(PRIVATE, model=ModelConfig(name="resnet8", norm="group")))
    with pytest.raises(ConfigError, match="handed over"):
        check_run(PRIVATE, HandedOver(strategy=forgetful))
