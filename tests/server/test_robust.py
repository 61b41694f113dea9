"""Clipping, median and trimmed mean against NumPy, over clients of different ranks, one at a time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support.equality import same_bits
from support.merging import rounds, tampering, two_tiers

from experiments.attacks.attackers import attacked
from fedhm_jax import AggregationConfig, ConfigError, ModelConfig, SimulationConfig, StrategyConfig, TiersConfig
from fedhm_jax.config.validation import check_config
from fedhm_jax.data.client_data import client_by_id
from fedhm_jax.engine.sharding import client_mesh
from fedhm_jax.lowrank.decomposition import recover_tree
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.server.acceptance import PLAIN_MEAN, MergeRule, accepted_contribution
from fedhm_jax.server.aggregation import Contribution
from fedhm_jax.server.robust import clients_cut, merge_robustly, trimmed_mean
from fedhm_jax.strategies import fedhm
from fedhm_jax.testing import FULL_TIERS, client_data, cohort, first_params
from fedhm_jax.tree import named_leaves

CLIENTS = ((4, 2), (5, 0, 1))
"""Full-rank clients and low-rank clients of `FULL_TIERS`."""


def forgetful(setting):
    """FedHM without the history term: the merge of one client is that client's model."""
    return fedhm(setting, history=False)


def as_numpy(tree):
    return {path: np.asarray(leaf, np.float64) for path, leaf in named_leaves(tree).items()}


@pytest.fixture(scope="module")
def alone():
    """Before the merge: the server's model, what each tier received and what each client trained, as products."""
    with jax.enable_x64(True):
        game = rounds(build=forgetful, dtype=jnp.float64)
        received = [as_numpy(recover_tree(game.strategy.tier_model(game.state, tier))) for tier in range(2)]
        trained = {}
        for tier, members in enumerate(CLIENTS):
            for client in members:
                only = [(), ()]
                only[tier] = (client,)
                trained[client] = as_numpy(game.play(game.state, cohort(*only))[0].params)
        return game.state, received, trained


def merged(rule, setting=None, build=forgetful):
    with jax.enable_x64(True):
        game = rounds(rule, build=build, setting=setting, dtype=jnp.float64)
        state, metrics = game.play(game.state, FULL_TIERS)
        return as_numpy(state.params), metrics


def updates(alone):
    """Each client's update, and its length over all parameters."""
    _, received, trained = alone
    tier_of = {client: tier for tier, members in enumerate(CLIENTS) for client in members}
    change = {
        client: {path: leaf - received[tier_of[client]][path] for path, leaf in model.items()}
        for client, model in trained.items()
    }
    lengths = {client: np.sqrt(sum((leaf**2).sum() for leaf in tree.values())) for client, tree in change.items()}
    return tier_of, change, lengths


def assert_close(found, wanted, tolerance=1e-12):
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_allclose(found[path], leaf, rtol=0, atol=tolerance, err_msg=path)


def stacked(trained):
    return {path: np.stack([model[path] for model in trained.values()]) for path in next(iter(trained.values()))}


# --- rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "devices"), [(2, 2), *(pytest.param(*case, marks=pytest.mark.long) for case in ((2, 1), (1, 2)))]
)
def test_the_median_of_clients_of_all_ranks(alone, chunk, devices):
    """Two clients at a time, and spread over two devices."""
    with jax.enable_x64(True):
        mesh = client_mesh(devices) if devices > 1 else None
        game = rounds(MergeRule("median"), build=forgetful, dtype=jnp.float64, chunk=chunk, mesh=mesh)
        found = game.play(game.state, FULL_TIERS)[0].params
        wanted = {path: np.median(values, axis=0) for path, values in stacked(alone[2]).items()}
        assert_close(as_numpy(found), wanted)
        of_one, sums = game.play(game.state, cohort((), (0,)))
        assert_close(as_numpy(of_one.params), alone[2][0])
        assert [int(tier.clients) for tier in sums] == [0, 1]
        same_bits(game.play(game.state, cohort((), ()))[0].params, game.state.params)
        assert len(game.traces) == 1


def test_the_trimmed_mean_of_clients_of_all_ranks(alone):
    found, _ = merged(MergeRule("trimmed_mean", trim=0.25))  # of five clients, one at each end
    assert_close(found, {path: stats.trim_mean(values, 0.25, axis=0) for path, values in stacked(alone[2]).items()})


def test_longer_updates_are_shortened_to_the_limit(alone):
    tier_of, change, lengths = updates(alone)
    limit = np.median(list(lengths.values()))
    assert min(lengths.values()) < limit < max(lengths.values())
    short = {
        client: {
            path: alone[1][tier_of[client]][path] + leaf * min(1, limit / lengths[client])
            for path, leaf in change[client].items()
        }
        for client in change
    }
    found, metrics = merged(MergeRule(clip=float(limit)))
    assert_close(found, {path: values.mean(axis=0) for path, values in stacked(short).items()})
    assert [int(tier.clients) for tier in metrics] == [2, 3]


def test_longer_updates_are_rejected(alone):
    _, _, lengths = updates(alone)
    in_order = sorted(lengths, key=lengths.__getitem__)
    limit = (lengths[in_order[2]] + lengths[in_order[3]]) / 2
    found, metrics = merged(MergeRule(reject=float(limit)))
    kept = {client: alone[2][client] for client in in_order[:3]}
    assert_close(found, {path: values.mean(axis=0) for path, values in stacked(kept).items()})
    assert sum(int(tier.clients) for tier in metrics) == 3
    assert sum(int(tier.rejected) for tier in metrics) == 2


@pytest.mark.long
def test_only_the_owners_of_a_class_have_a_say_in_its_column(alone):
    found, _ = merged(MergeRule("median"), setting=two_tiers(classifier="classifier", masked_loss=False))
    # who owns what does not change the training without the masked loss
    reference, _ = merged(MergeRule("median"), setting=two_tiers(masked_loss=False))
    owned = np.asarray(client_data().owned)
    owners = [client for members in CLIENTS for client in members]
    everybody = owned[owners].all(axis=0)
    assert not everybody.all()
    for path, leaf in found.items():
        columns = everybody if path.startswith("classifier") else np.ones(leaf.shape[-1], bool)
        np.testing.assert_array_equal(leaf[..., columns], reference[path][..., columns])
        assert np.all(leaf[..., ~columns] != reference[path][..., ~columns])


@pytest.mark.long
def test_two_liars_among_five_cannot_leave_the_range_of_the_honest(alone):
    """Below half of the clients, no coordinate of the median can be moved past the honest values (Yin et al., 2018)."""
    build = tampering((2, 5), lambda before, after: before - 1e6 * (after - before), forgetful)
    honest = stacked({client: model for client, model in alone[2].items() if client not in (2, 5)})
    found, _ = merged(MergeRule("median"), build=build)
    for path, values in honest.items():
        assert np.all(values.min(0) - 1e-9 <= found[path]), path
        assert np.all(found[path] <= values.max(0) + 1e-9), path


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.29, 0.49])
def test_trimmed_means_of_those_who_take_part_equal_scipy(trim):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(11, 200)).astype(np.float32)
    present = generator.random((11, 200)) < generator.random(200)
    found = trimmed_mean(jnp.asarray(values), jnp.asarray(present), clients_cut("trimmed_mean", trim, 11))
    median = trimmed_mean(jnp.asarray(values), jnp.asarray(present), clients_cut("median", trim, 11))
    for column in range(200):
        own = values[present[:, column], column]
        wanted = (stats.trim_mean(own, trim), np.median(own)) if len(own) else (0, 0)
        np.testing.assert_allclose((found[column], median[column]), wanted, rtol=0, atol=1e-6)
    assert not present.all(axis=0).all()
    assert not present.any(axis=0).all()


def test_rounding_does_not_cost_a_client():
    assert [int(clients_cut("trimmed_mean", 0.29, 100)[100]), int(clients_cut("trimmed_mean", 0.1, 30)[30])] == [29, 3]


def test_all_leaves_are_asked_and_chosen_in_one_go():
    """The compiler repeats what decides for each choice, so a choice for each leaf would make programs large."""
    sent = Contribution([jnp.ones(3)] * 20, [jnp.ones(())] * 20)
    program = jax.make_jaxpr(lambda sent: accepted_contribution(PLAIN_MEAN, sent, lambda: sent, jnp.bool_(True)))(sent)
    assert [str(program).count(f" {primitive}") for primitive in ("select_n", "reduce_sum")] == [1, 1]


def test_the_joint_contribution_has_the_weight_of_all():
    weights = jnp.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    values = jnp.array([[1.0, 10.0], [7.0, 20.0], [5.0, 90.0]])
    joint = merge_robustly(Contribution({"w": values * weights}, {"w": weights}), "median", 0.0)
    assert joint.weight["w"].tolist() == [2, 3]
    assert (joint.total["w"] / joint.weight["w"]).tolist() == [3, 20]


def test_attackers_of_the_study_multiply_their_update():
    setting = two_tiers()
    honest, wrong = fedhm(setting), attacked(-3.0, {1, 4})(setting)
    state = honest.init(first_params(setting), jax.random.key(0))
    for tier in range(2):
        received = honest.tier_model(state, tier)
        trained = jax.tree.map(lambda leaf: leaf + 0.25, received)
        before, after = as_numpy(recover_tree(received)), as_numpy(recover_tree(trained))
        for number, factor in ((1, -3), (2, 1), (4, -3)):
            member = client_by_id(client_data(), jnp.int32(number), jnp.bool_(True))
            sent = as_numpy(wrong.contribute(state, tier, trained, member).total)
            assert_close(sent, {path: leaf + factor * (after[path] - leaf) for path, leaf in before.items()}, 1e-4)


# --- refusals --------------------------------------------------------------------------------------------------------


def with_rule(name="fedhm", weighting="uniform", **rule):
    return SimulationConfig(
        model=ModelConfig(name="mlp"),
        tiers=TiersConfig(rank_factors=(1, 4)),
        strategy=StrategyConfig(name=name, weighting=weighting),
        aggregation=AggregationConfig(**rule),
    )


@pytest.mark.parametrize("name", ["fedhm", "fedavg", "fedavg_low_rank", "splitmix", "fiarse"])
def test_strategies_that_contribute_in_the_servers_shapes_can_be_robust(name):
    for merge in ("median", "trimmed_mean"):
        config = with_rule(name, merge=merge)
        check_config(config)
        check_run(config)


@pytest.mark.parametrize("name", ["heterofl", "fedrolex", "fjord", "depthfl"])
def test_strategies_that_contribute_slices_cannot(name):
    with pytest.raises(ConfigError, match=r"aggregation\.merge is 'median', but must be 'mean'.*shapes"):
        check_run(with_rule(name, merge="median"))
    check_run(with_rule(name, clip=1.0, reject=2.0))


@pytest.mark.parametrize("weighting", ["samples", "rank_softmax"])
def test_robust_merges_count_every_client_once(weighting):
    with pytest.raises(ConfigError, match=r"aggregation\.merge is 'trimmed_mean', but must be 'mean' unless .*uniform"):
        check_config(with_rule(weighting=weighting, merge="trimmed_mean"))
    check_config(with_rule(weighting=weighting, clip=1.0))


@pytest.mark.parametrize(
    ("field", "value"), [("trim", 0.5), ("trim", -0.1), ("clip", 0.0), ("clip", -1.0), ("reject", 0.0)]
)
def test_values_out_of_range(field, value):
    with pytest.raises(ConfigError, match=f"aggregation.{field} is {value}"):
        check_config(replace(SimulationConfig(), aggregation=AggregationConfig(**{field: value})))
