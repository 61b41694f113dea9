"""Runs whose clients come with the data or from the user: dealt as asked, resumed, refused in one sentence."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from fedhm_jax import (
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
    dataset_from_arrays,
    read_config,
    simulate,
    simulate_seeds,
)
from fedhm_jax.cli import main
from fedhm_jax.run import check_run, simulate_together
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.server.cohort import sample_cohort

OWNERS = np.array(["ann", "bob", "cem", "ann", "bob"] * 6)
"""Twelve samples of ann, twelve of bob, six of cem."""
LISTS = [[row for row, owner in enumerate(OWNERS) if owner == name] for name in ("ann", "bob", "cem")]
CONFIG = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    model=ModelConfig("mlp", hidden=(8,)),
    tiers=TiersConfig(rank_factors=(1.0, 4.0)),
    local=LocalConfig(epochs=1, batch_size=4),
    server=ServerConfig(rounds=2, participation=1.0),
)
NATURAL = replace(CONFIG, partition=PartitionConfig("natural", min_samples=1))


def tiny(clients=OWNERS):
    images, labels = np.random.default_rng(0).random((36, 4, 4)), np.arange(36) % 3
    return dataset_from_arrays(images[:30], labels[:30], images[30:], labels[30:], clients=clients)


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A run of one round in a folder that is named by a string, and its plan."""
    plans = []
    folder = tmp_path_factory.mktemp("given") / "run"
    config = replace(CONFIG, server=ServerConfig(rounds=1, participation=1.0), output=OutputConfig(folder=str(folder)))
    result = simulate(config, data=tiny(None), partition=LISTS, on_start=[plans.append])
    return result, plans[0]


@pytest.fixture(scope="module")
def natural():
    return simulate(NATURAL, data=tiny())


def test_each_client_gets_its_list(given):
    result, plan = given
    labels = tiny().train_labels
    assert plan.label_counts.tolist() == [np.bincount(labels[part], minlength=3).tolist() for part in LISTS]
    assert sum(result.history[0]["clients"].values()) == 3


def test_the_files_say_that_the_clients_were_handed_over(given):
    result, _ = given
    assert (result.folder / "partition.png").is_file()
    stored = read_config(result.folder / "config.toml")
    assert (stored.partition.method, stored.partition.clients) == ("given", 3)
    assert isinstance(result.folder, Path)


@pytest.mark.long
def test_natural_clients_handed_over_as_lists_give_the_same_bits(natural):
    assert same(natural.params, simulate(CONFIG, data=tiny(None), partition=LISTS).params)
    assert not same(natural.params, simulate(CONFIG, data=tiny(None), partition=LISTS[::-1]).params)


def test_a_run_goes_on_with_its_lists(given, natural):
    result, _ = given
    begun = read_config(result.folder / "config.toml")
    longer = replace(begun, server=replace(begun.server, rounds=2))
    with pytest.raises(ConfigError) as without:
        simulate(longer, data=tiny(None), resume=result.folder)
    assert str(without.value) == (
        "partition.method is 'given', but must be another one, unless simulate(partition=...) gives each client's "
        "samples; give them again to go on"
    )
    with pytest.raises(ConfigError, match=r"^the training set must be the same as when the run to resume began"):
        simulate(longer, data=tiny(None), partition=LISTS[::-1], resume=result.folder)
    with pytest.raises(ConfigError, match=r"^partition.clients is 3, but must be unset or 2, the number of clients in"):
        simulate(data=tiny(None), partition=LISTS[:2], resume=result.folder)
    read_back = simulate(data=tiny(None), partition=LISTS, resume=result.folder)
    assert same(read_back.params, result.params)
    config = replace(CONFIG, output=OutputConfig(folder=result.folder))  # as it was when the run began
    assert same(simulate(config, data=tiny(None), partition=LISTS, resume=result.folder).params, natural.params)


@pytest.mark.long
def test_a_run_that_dealt_for_itself_does_not_go_on_with_lists(tmp_path):
    config = replace(CONFIG, partition=PartitionConfig(clients=3), output=OutputConfig(folder=tmp_path / "run"))
    simulate(replace(config, server=ServerConfig(rounds=1)), data=tiny())
    with pytest.raises(ConfigError) as refused:
        simulate(data=tiny(), partition=LISTS, resume=tmp_path / "run")
    assert str(refused.value) == "partition.method is 'given', but must be 'iid', as in the run that is resumed"


@pytest.mark.long
def test_all_seeds_get_the_lists(natural):
    first, second = simulate_seeds(CONFIG, (0, 1), data=tiny(None), partition=LISTS)
    for one, other in zip(jax.tree.leaves(first.params), jax.tree.leaves(natural.params), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    assert first.config.partition == second.config.partition == PartitionConfig("given", clients=3)
    assert not same(first.params, second.params)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_client_is_of_the_tier_that_is_said(seed):
    tiers = TiersConfig((1.0, 2.0, 4.0), of_client=np.array([2, 0, 2]))
    server = replace(CONFIG.server, seed=seed)
    parts = check_run(replace(NATURAL, tiers=tiers, server=server), HandedOver(tiny()))
    assert parts.plan.tier_of_client.tolist() == [2, 0, 2]
    assert [cost.clients for cost in parts.plan.costs] == [1, 0, 2]
    cohort = sample_cohort(0, **parts.sampling._asdict())
    # ann and bob have twelve samples each, cem six
    assert [ids.tolist() for ids in cohort.clients] == [[1], [], [0, 2]]
    assert parts.notices == ("no client is of tier f2: 3 are dealt out to 3 tiers",)


def test_saying_the_tiers_that_would_be_drawn_changes_nothing():
    drawn = check_run(replace(NATURAL, tiers=replace(NATURAL.tiers, counts=(2, 1))), HandedOver(tiny()))
    said = replace(NATURAL, tiers=replace(NATURAL.tiers, of_client=drawn.plan.tier_of_client.tolist()))
    parts = check_run(said, HandedOver(tiny()))
    assert same(parts.sampling, drawn.sampling)
    assert parts.plan.costs == drawn.plan.costs


def test_a_run_does_not_go_on_with_other_tiers(given):
    result, _ = given
    begun = read_config(result.folder / "config.toml")
    with pytest.raises(ConfigError) as refused:
        simulate(
            replace(begun, tiers=replace(begun.tiers, of_client=(0, 1, 0))),
            data=tiny(None),
            partition=LISTS,
            resume=result.folder,
        )
    assert str(refused.value) == "tiers.of_client is (0, 1, 0), but must be None, as in the run that is resumed"


def test_who_is_left_out_is_said_before_the_first_round():
    class Said(Exception):
        pass

    def notice(line):
        raise Said(line)

    config = replace(NATURAL, partition=PartitionConfig("natural", min_samples=7))
    assert len(check_run(config, HandedOver(tiny())).dealt) == 2
    with pytest.raises(Said) as said:
        simulate_together([config], HandedOver(tiny()), on_notice=[notice])
    assert str(said.value) == (
        "1 of the data's 3 clients are left out, for they have fewer training samples than partition.min_samples, "
        "which is 7"
    )
    assert check_run(NATURAL, HandedOver(tiny())).notices == ()


def private(delta):
    return replace(
        NATURAL,
        strategy=StrategyConfig("fedhm", weighting="uniform", classifier_rows="all", history=False),
        aggregation=replace(NATURAL.aggregation, clip=1.0),
        privacy=PrivacyConfig(noise_multiplier=1.0, delta=delta),
    )


@pytest.mark.parametrize(
    ("config", "arguments", "sentence"),
    [
        (
            CONFIG,
            {"partition": 3},
            "partition is of type int, but must be a list with the sample indices of each client",
        ),
        (CONFIG, {"partition": "ab"}, "partition is of type str, but must be a list with the"),
        (CONFIG, {"partition": {0: [1]}}, "partition is of type dict, but must be a list with the"),
        (CONFIG, {"partition": np.array(3)}, "partition is of type ndarray, but must be a list with the"),
        (CONFIG, {"partition": []}, "partition is empty, but must hold the sample indices of at least one client"),
        (
            CONFIG,
            {"partition": [[0, 1, 2, 30]]},
            "partition[0] holds the index 30, but must hold indices from 0 to 29,",
        ),
        (CONFIG, {"partition": [[0, 1]]}, "local.batch_size is 4, but must be at most 2, the number of samples of the"),
        (
            replace(CONFIG, partition=PartitionConfig(clients=4)),
            {"partition": LISTS},
            "partition.clients is 4, but must be unset or 3, the number of clients in simulate(partition=...)",
        ),
        (
            replace(CONFIG, server=ServerConfig(cohort_size=4)),
            {"partition": LISTS},
            "server.cohort_size is 4, but must be at most the number of clients (3)",
        ),
        (
            replace(CONFIG, data=DataConfig(holdout=29)),
            {"partition": LISTS},
            "data.holdout is 29, but must be so small that every client keeps a sample; partition[",
        ),
        (
            replace(CONFIG, partition=PartitionConfig("given")),
            {},
            "partition.method is 'given', but must be another one, unless simulate(partition=...) gives",
        ),
        (
            NATURAL,
            {"data": tiny(None)},
            "partition.method is 'natural', but must be another one for data that do not say whose the samples are, as "
            "'arrays'",
        ),
        (
            replace(NATURAL, server=ServerConfig(cohort_size=4)),
            {},
            "server.cohort_size is 4, but must be at most the number of clients (3)",
        ),
        (
            replace(NATURAL, tiers=TiersConfig((1.0, 4.0), counts=(2, 2))),
            {},
            "tiers.counts is (2, 2), but must be integers that sum to the number of clients (3)",
        ),
        (private(0.4), {}, "privacy.delta is 0.4, but must be above 0 and below 1 / the number of clients (3) when"),
        (replace(NATURAL, partition=PartitionConfig("natural", clients=4)), {}, "partition.min_samples is 16"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(monkeypatch, tmp_path, config, arguments, sentence):
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("compiled before the check"))
    with pytest.raises(ConfigError) as refused:
        simulate(replace(config, output=OutputConfig(folder=tmp_path / "run")), **{"data": tiny(), **arguments})
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_the_command_line_has_no_lists_to_give(tmp_path, capsys):
    assert main(["simulate", "--partition.method", "given", "--output.folder", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("fedhm: error: partition.method is 'given', but must be another one")
