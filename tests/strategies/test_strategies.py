"""The contract that every strategy keeps, and what each costs by hand count."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest

from fedhm_jax import (
    ConfigError,
    DataConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.lowrank import recover_tree
from fedhm_jax.models import build_model
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.strategies import STRATEGIES, heterofl
from fedhm_jax.testing import CHECKS, CLASSES, MODELS, cohort, pose, setting_for
from fedhm_jax.tree import named_leaves

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    data=DataConfig(train_samples=240, test_samples=60),
    partition=PartitionConfig(clients=6),
    model=ModelConfig(name="mlp", hidden=(20, 10)),
    tiers=TiersConfig(rank_factors=(1, 2)),
    local=LocalConfig(epochs=1, batch_size=8),
    server=ServerConfig(rounds=2),
)


# The MLP goes through every check; the others add convolutions, a flattening, shortcuts and norms to the first.
# The base of adapters stays as it is, so they are never FedAvg. What two of them share is checked often on one.
ADAPTERS = {"flexlora", "raflora", "fedhm_adapters", "hetlora", "flora", "florist"}
# Rounds of every kind of strategy; the others of a kind differ in what the twins in strategies/ look at. That
# FedHM is FedAvg where it should be, and takes chunks, engine/test_engine.py says as well.
SELDOM = {"fedavg_low_rank", "fedrolex", "fjord", "fedhm_segments", "fedhm_factors", *(ADAPTERS - {"fedhm_adapters"})}
OFTEN = {(name, CHECKS[1]) for name in STRATEGIES if name not in SELDOM} | {("fedhm", CHECKS[3])}
CONTRACT = [
    pytest.param(
        name,
        model,
        check,
        marks=() if model == "mlp" and (name, check) in OFTEN else pytest.mark.long,
    )
    for name in STRATEGIES
    for model in MODELS
    for check in (CHECKS if model == "mlp" else CHECKS[1:2] if name in ADAPTERS else CHECKS[:1])
    # With a full-rank weakest tier the one is FedAvg itself; the other has more heads than one.
    if not (name in ADAPTERS | {"fedavg_low_rank", "fedhm_factors", "depthfl"} and check is CHECKS[0])
    # What adapters share, and what transformers add, a few of each show.
    and not (name in SELDOM & ADAPTERS and model != "mlp")
    and not (model == "vit" and name not in ("fedhm", "fedhm_nested", "fjord", "heterofl"))
]


@pytest.mark.parametrize(("name", "model", "check"), CONTRACT)
def test_contract(name, model, check):
    check(STRATEGIES[name].build, model)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("heterofl", "resnet"),
        ("fedrolex", "cnn"),
        ("fjord", "cnn"),
        ("splitmix", "cnn"),
        ("fiarse", "resnet"),
        ("depthfl", "resnet"),
    ],
)
def test_small_models_of_every_kind_train(name, model):
    problem = pose(STRATEGIES[name].build, setting_for(model, (1.0, 4.0)))
    before = problem.strategy.global_model(problem.state)
    after = problem.strategy.global_model(problem.round_step(problem.state, cohort((4,), (5, 3))))
    moved = {path: bool((leaf != named_leaves(before)[path]).any()) for path, leaf in named_leaves(after).items()}
    assert all(moved.values()), moved


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "fedavg_low_rank" else pytest.mark.long) for name in STRATEGIES]
)
def test_a_factorized_classifier_trains_with_every_strategy(name):
    factors = (1.0, 4.0) if name == "depthfl" else (2.0, 4.0)
    module = build_model("mlp", CLASSES, hidden=(16, 8), classifier="factorized")
    problem = pose(STRATEGIES[name].build, setting_for("mlp", factors)._replace(module=module))
    if name in ("fedhm", "fedhm_segments", "fedhm_nested", "fedhm_factors", "fedavg_low_rank"):
        assert problem.strategy.tier_model(problem.state, 1)["classifier"]["kernel"].rank == 1
    state = problem.round_step(problem.state, cohort((4, 1), (5, 3)))
    before, after = (named_leaves(problem.strategy.global_model(one)) for one in (problem.state, state))
    kernels = [path for path in after if path.startswith("classifier/kernel")]
    assert all(jnp.isfinite(after[path]).all() for path in kernels)
    assert any((after[path] != before[path]).any() for path in kernels)


@pytest.mark.long
def test_weights_by_samples_leave_a_round_of_nobody_as_it_was():
    def build(setting):
        return STRATEGIES["fedhm"].build(setting._replace(weighting="samples", mean_samples=11 / 3))

    CHECKS[1](build, "mlp")


@pytest.mark.long
def test_outside_the_slice_nothing_moves():
    problem = pose(lambda setting: heterofl(setting, widths=(1.0, 0.5)), setting_for("mlp", (1.0, 4.0)))
    after = problem.round_step(problem.state, cohort((), (5, 3)))
    for path, kept in {"dense_0/kernel": (64, 8), "dense_1/kernel": (8, 4), "classifier/kernel": (4, 3)}.items():
        old, new = named_leaves(problem.state)[path], named_leaves(after)[path]
        rows, columns = kept
        assert bool((old[:rows, :columns] != new[:rows, :columns]).any())
        assert bool((old[rows:] == new[rows:]).all())
        assert bool((old[:, columns:] == new[:, columns:]).all())


def mlp_size(widths, classes=10, pixels=64):
    """Parameters and multiply-accumulates of an MLP with these hidden widths."""
    sizes = (pixels, *widths, classes)
    products = sum(one * other for one, other in pairwise(sizes))
    return products + sum(sizes[1:]), products


def low_rank_size(f):
    """Of the MLP 64-20-10-10 with its two hidden kernels factorized."""
    first, second = round(64 * 20 / (f * 84)), round(20 * 10 / (f * 30))
    products = first * 84 + second * 30 + 10 * 10
    return products + 20 + 10 + 10, products


# Adapters of 64 x 20 and 20 x 10 have ranks 15 and 7 at f = 1, 8 and 3 at f = 2, and a product for each parameter.
ADAPTER, WEAK = 15 * 84 + 7 * 30, 8 * 84 + 3 * 30
WIDE = 15 * 84 + 6 * 30
FULL, HALF = mlp_size((20, 10)), mlp_size((10, 5))
BY_HAND = {  # for each tier: parameters, MACs of a prediction, forward MACs of a training sample
    "fedavg": [(*FULL, FULL[1])] * 2,
    "fedavg_low_rank": [(*low_rank_size(2), low_rank_size(2)[1])] * 2,
    "fedhm": [(*FULL, FULL[1]), (*low_rank_size(2), low_rank_size(2)[1])],
    "fedhm_segments": [(*FULL, FULL[1]), (*low_rank_size(2), low_rank_size(2)[1])],
    # in a step the weak tier's model too: its samples, and Q^T W of both hidden kernels once for the batch of 8
    "fedhm_nested": [
        (*FULL, FULL[1] + low_rank_size(2)[1] + round((64 * 8 * 20 + 20 * 3 * 10) / 8)),
        (*low_rank_size(2), low_rank_size(2)[1]),
    ],
    # factors at f = 1 too, no larger than the kernels: of ranks 15 and 6; and in a step the weak tier's
    "fedhm_factors": [
        (WIDE + 100 + 40, WIDE + 100, WIDE + 100 + low_rank_size(2)[1]),
        (*low_rank_size(2), low_rank_size(2)[1]),
    ],
    "heterofl": [(*FULL, FULL[1]), (*HALF, HALF[1])],
    "fedrolex": [(*FULL, FULL[1]), (*HALF, HALF[1])],
    # the whole model in every step, and half the time the narrow slice too
    "fjord": [(*FULL, FULL[1] + round(HALF[1] / 2)), (*HALF, HALF[1])],
    # the full model has 1,620 parameters, a base network 765: two of them come nearest
    "splitmix": [(2 * HALF[0], 2 * HALF[1], 2 * HALF[1]), (*HALF, HALF[1])],
    # half of 1,580 entries and 40 biases; zeros are multiplied all the same
    "fiarse": [(*FULL, FULL[1]), (790 + 40, FULL[1], FULL[1])],
    # a head of 20 x 10 behind the first layer
    "depthfl": [(FULL[0] + 210, FULL[1] + 200, FULL[1] + 200), (64 * 20 + 20 + 210, 1480, 1480)],
    # in training beside the whole kernels, in a prediction merged into them
    **{name: [(size, FULL[1], FULL[1] + size) for size in (ADAPTER, WEAK)] for name in ADAPTERS},
    # in a step the weak tier's adapters too
    "fedhm_adapters": [(ADAPTER, FULL[1], 2 * FULL[1] + ADAPTER + WEAK), (WEAK, FULL[1], FULL[1] + WEAK)],
}
HALVES = {"widths": (1.0, 0.5), "densities": (1.0, 0.5), "depths": (2, 1)}
MORE_DOWN = {
    "fiarse": [0, 198],  # bytes that say which of 1,580 entries are sent
    "flora": [4 * (3 * ADAPTER + 3 * WEAK - own) for own in (ADAPTER, WEAK)],  # the adapters of all six clients
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_costs_equal_a_hand_count(name):
    options = {option: halves for option, halves in HALVES.items() if option in STRATEGIES[name].options}
    costs = check_run(replace(SMALL, strategy=StrategyConfig(name=name, **options))).plan.costs
    assert [(cost.parameters, cost.macs, cost.train_macs) for cost in costs] == BY_HAND[name]
    assert all(cost.bytes_up == 4 * cost.parameters for cost in costs)
    assert [cost.bytes_down - cost.bytes_up for cost in costs] == MORE_DOWN.get(name, [0, 0])


def test_everybody_low_rank_is_the_weakest_of_three_tiers():
    config = replace(SMALL, tiers=TiersConfig(rank_factors=(1, 2, 4)), strategy=StrategyConfig(name="fedavg_low_rank"))
    assert [cost.parameters for cost in check_run(config).plan.costs] == [low_rank_size(4)[0]] * 3


@pytest.mark.long
def test_factors_of_one_rank_for_all_are_the_weakest_of_them():
    runs = [
        pose(STRATEGIES[name].build, setting_for("mlp", factors))
        for name, factors in (("fedhm_factors", (4.0, 4.0)), ("fedavg_low_rank", (2.0, 4.0)))
    ]
    states = [run.round_step(run.state, cohort((4, 1), (5, 3))) for run in runs]
    found, wanted = (named_leaves(recover_tree(state)) for state in states)
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        assert jnp.allclose(found[path], leaf, rtol=0, atol=1e-6), path
        assert (leaf != named_leaves(recover_tree(runs[1].state))[path]).any()


@pytest.mark.long
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_with_tiers_redrawn_every_round(name):
    config = replace(
        SMALL,
        strategy=StrategyConfig(name=name, weighting="samples"),
        tiers=replace(SMALL.tiers, assignment="dynamic"),
        server=replace(SMALL.server, participation=0.5),
    )
    result = simulate(config)
    assert set(result.final["accuracy"]) == {"global", "f1", "f2"}
    assert [sum(record["clients"].values()) for record in result.history] == [3, 3]


@pytest.mark.parametrize("budget", ["parameters", "bytes", "macs"])
def test_solved_widths_meet_the_budget(budget):
    wanted = check_run(replace(SMALL, model=ModelConfig(name="cnn"))).plan.costs[1]
    strategy = StrategyConfig(name="heterofl", budget=budget)
    found = check_run(replace(SMALL, model=ModelConfig(name="cnn"), strategy=strategy)).plan.costs[1]
    field = {"parameters": "parameters", "bytes": "bytes_down", "macs": "macs"}[budget]
    assert getattr(found, field) == pytest.approx(getattr(wanted, field), rel=0.03)


def test_a_budget_that_no_width_meets_is_refused():
    # Three hidden channels: 64 x 3 + 3 x 10 = 222 products, factorized 67 + 30 = 97; one channel makes 74, two 148.
    config = replace(SMALL, tiers=TiersConfig(rank_factors=(1, 3)), model=ModelConfig(name="mlp", hidden=(3,)))
    sentence = (
        r"strategy\.budget is 'macs', but must be a budget that a width can meet; at f = 3 it is 97, and the nearest"
    )
    with pytest.raises(ConfigError, match=sentence):
        check_run(replace(config, strategy=StrategyConfig(name="heterofl", budget="macs")))


@pytest.mark.parametrize("name", ["heterofl", "fedrolex", "fjord", "splitmix"])
def test_a_model_that_cannot_be_sliced_is_refused(name):
    from flax import linen as nn

    from fedhm_jax import LowRankDense

    class Stubborn(nn.Module):
        @nn.compact
        def __call__(self, images, *, mask=None, train=False):
            hidden = nn.relu(LowRankDense(16)(images.reshape(images.shape[0], -1)))
            return nn.Dense(10, name="classifier")(nn.relu(nn.Dense(8)(hidden)))

    with pytest.raises(
        ConfigError, match="model is 'Stubborn', but must be a model whose width can be sliced"
    ) as error:
        simulate(replace(SMALL, strategy=StrategyConfig(name=name)), model=Stubborn())
    assert "\n" not in str(error.value)


def test_split_mix_members_start_apart_and_its_first_is_the_given_model():
    problem = pose(STRATEGIES["splitmix"].build, setting_for("mlp", (1.0, 4.0)))
    kernels = problem.state.bases["dense_1"]["kernel"]
    assert kernels.shape[0] > 1
    assert bool((abs(kernels[0] - kernels[1]) > 1e-3).any())
    assert jax.tree.leaves(problem.strategy.tier_model(problem.state, 1))[0].shape[0] == 1
