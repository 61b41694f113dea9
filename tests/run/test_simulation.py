"""Simulations as a user runs them."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from support.equality import same_bits
from support.traced import traces_of_runs

from fedhm_jax import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    LowRankConv,
    LowRankDense,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
    read_config,
    simulate,
)
from fedhm_jax.testing import farthest

TFDS = Path(__file__).parents[3] / "shared" / "tfds"
SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"),
    partition=PartitionConfig(clients=6),
    tiers=TiersConfig(rank_factors=(1, 4)),
    model=ModelConfig(name="mlp", hidden=(16,)),
    local=LocalConfig(epochs=1),
    server=ServerConfig(rounds=3),
)


def random_images(samples, shape=(8, 8, 1), classes=3, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (samples, *shape)).astype(np.uint8)
    return images, np.arange(samples, dtype=np.int32) % classes


LONG = pytest.mark.long
REAL = [("fashion_mnist", "cnn"), ("cifar10", "resnet8")]


def tiny_dataset(shape=(8, 8, 1), classes=3):
    return dataset_from_arrays(*random_images(96, shape, classes), *random_images(20, shape, classes, seed=1))


WATCHED = replace(SMALL, evaluation=EvaluationConfig(every=3))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ran") / "run"
    return simulate(replace(WATCHED, output=OutputConfig(folder=folder)))


def test_evaluation_now_and_then(ran):
    """The README holds that the default run learns the digits."""
    assert set(ran.final["accuracy"]) == {"global", "f1", "f4"}
    assert min(ran.final["accuracy"].values()) > 0.2  # chance: 0.1
    assert [record["round"] for record in ran.history] == [1, 2, 3]
    assert ran.final["accuracy"] == ran.history[-1]["accuracy"]
    assert "accuracy" not in ran.history[0]


def test_records_add_up(ran):
    costs = {cost.tier: cost for cost in ran.costs}
    down = 0
    for record in ran.history:
        assert sum(record["clients"].values()) == 3
        for tier, clients in record["clients"].items():
            assert record["bytes_down"][tier] == record["bytes_up"][tier] == clients * costs[tier].bytes_down
        down += sum(record["bytes_down"].values())
        assert record["total_bytes_down"] == down
    # 1437 training images over 6 clients: 239 or 240 samples each, one epoch
    for tier, cost in costs.items():
        record = ran.history[0]
        assert (
            239 * record["clients"][tier] * cost.macs
            <= record["macs"][tier]
            <= 240 * record["clients"][tier] * cost.macs
        )
    assert costs["f1"].parameters == 64 * 16 + 16 + 16 * 10 + 10
    rank = round(64 * 16 / (4 * 80))
    assert costs["f4"].parameters == rank * 80 + 16 + 16 * 10 + 10
    assert costs["f4"].bytes_down == 4 * costs["f4"].parameters


def test_the_same_seed_gives_the_same_bits_and_another_does_not(ran):
    again = simulate(WATCHED)
    other = simulate(replace(WATCHED, server=replace(SMALL.server, seed=1)))
    same_bits(ran.params, again.params)
    without_time = [[{k: v for k, v in r.items() if k != "seconds"} for r in x.history] for x in (ran, again)]
    assert without_time[0] == without_time[1]
    assert farthest(ran.params, other.params) > 0


@pytest.mark.parametrize("assignment", [pytest.param("fixed", marks=LONG), "dynamic"])
def test_nothing_is_traced_after_the_first_round(monkeypatch, assignment):
    traces = traces_of_runs(monkeypatch)
    tiers = replace(SMALL.tiers, assignment=assignment)
    simulate(replace(SMALL, tiers=tiers, server=replace(SMALL.server, rounds=6, cohort_size=2)))
    assert sorted(traces) == ["evaluate", "round_step"]


def test_the_run_folder_tells_the_whole_story(ran):
    folder = ran.folder
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert records == [dict(record) for record in ran.history]
    assert {path.name for path in folder.iterdir()} == {
        "config.toml", "costs.csv", "partition.png", "records.jsonl", "summary.json", "accuracy.png", "checkpoints",
        "models",
    }  # fmt: skip
    assert read_config(folder / "config.toml") == WATCHED
    with pytest.raises(ConfigError, match=r"output\.folder"):
        simulate(replace(SMALL, output=OutputConfig(folder=folder)))


class UserNet(nn.Module):
    """A module of a user's own: a nested layer, dropout, no norm."""

    classes: int

    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        hidden = nn.relu(LowRankConv(8, strides=(2, 2))(images))
        hidden = nn.relu(LowRankDense(32)(hidden.reshape(hidden.shape[0], -1)))
        hidden = nn.Dropout(0.1, deterministic=not train)(hidden)
        return nn.Dense(self.classes, name="classifier")(hidden)


def test_a_users_module_and_arrays_run_through():
    rounds = []
    config = replace(SMALL, server=replace(SMALL.server, rounds=2))
    result = simulate(config, data=tiny_dataset(), model=UserNet(3), on_round=[lambda r: rounds.append(r["round"])])
    assert rounds == [1, 2]
    assert jax.tree.map(jnp.shape, result.params)["LowRankConv_0"]["kernel"] == (3, 3, 1, 8)
    assert result.costs[1].parameters < result.costs[0].parameters


# The README's run is a CNN with the default norm.
@pytest.mark.long
@pytest.mark.parametrize(("name", "norm"), [("cnn", "batch_test"), ("cnn", "group"), ("resnet8", None)])
def test_models_run_with_every_norm(name, norm):
    config = replace(
        SMALL,
        model=ModelConfig(name=name, norm=norm),
        local=LocalConfig(steps=1, augmentation="crop_flip"),
        server=ServerConfig(rounds=1, cohort_size=2),
        evaluation=EvaluationConfig(statistics_samples=32),
    )
    result = simulate(config, data=tiny_dataset((16, 16, 3)))
    assert all(np.isfinite(list(result.final["loss"].values())))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"partition": PartitionConfig("dirichlet", clients=6, alpha=0.3)}, marks=LONG),
        pytest.param({"partition": PartitionConfig("dirichlet_equal", clients=6, alpha=0.1)}, marks=LONG),
        pytest.param({"partition": PartitionConfig("shards", clients=6, classes_per_client=2)}, marks=LONG),
        pytest.param({"partition": PartitionConfig("quantity", clients=6)}, marks=LONG),
        pytest.param({"tiers": TiersConfig((2, 8), shares=(0.25, 0.75))}, marks=LONG),
        pytest.param({"tiers": TiersConfig((1, 2, 4), counts=(1, 2, 3))}, marks=LONG),
        pytest.param({"strategy": StrategyConfig("fedhm", weighting="samples")}, marks=LONG),
        {
            "strategy": StrategyConfig(
                "fedhm", weighting="rank_softmax", temperature=5.0, history=False, classifier_rows="all"
            ),
            "partition": PartitionConfig("dirichlet", clients=6, alpha=0.3),
            "tiers": TiersConfig((2, 4), counts=(2, 4)),
            "server": ServerConfig(rounds=3, clients_per_chunk=2, participation=1.0),
        },
        {"local": LocalConfig(optimizer="adam", learning_rate=1e-3, proximal=0.1, epochs=1, masked_loss=False)},
        pytest.param({"local": LocalConfig(epochs=1, schedule="step", milestones=(1, 2))}, marks=LONG),
        pytest.param({"local": LocalConfig(epochs=1, schedule="cosine", batch_size=7)}, marks=LONG),
        pytest.param({"server": ServerConfig(rounds=3, clients_per_chunk=2, participation=1.0)}, marks=LONG),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_option_runs_and_learns(changes):
    # optax's own Adam mixes integers and floats.
    strict = changes.get("local", LocalConfig()).optimizer != "adam"
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        result = simulate(replace(SMALL, **changes))
    first, last = (sum(loss for loss in result.history[i]["train_loss"].values() if loss) for i in (0, -1))
    clients_seen = [len([loss for loss in result.history[i]["train_loss"].values() if loss]) for i in (0, -1)]
    assert last / clients_seen[1] < first / clients_seen[0]


def test_the_learning_rate_drops_at_the_milestones():
    local = LocalConfig(epochs=1, learning_rate=0.02, schedule="step", milestones=(1, 2))
    rates = [record["learning_rate"] for record in simulate(replace(SMALL, local=local)).history]
    np.testing.assert_allclose(rates, [0.02, 0.002, 0.0002])


class WithoutClassifier(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return LowRankDense(3)(nn.relu(LowRankDense(32)(images.reshape(images.shape[0], -1))))


class NothingToFactorize(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        return nn.Dense(3, name="classifier")(images.reshape(images.shape[0], -1))


class FixedRank(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        hidden = LowRankDense(32, rank=4)(images.reshape(images.shape[0], -1))
        return nn.Dense(3, name="classifier")(LowRankDense(32)(hidden))


class WithoutMask(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3, name="classifier")(LowRankDense(32)(images.reshape(images.shape[0], -1)))


class HiddenFlaxLayer(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        hidden = nn.relu(LowRankDense(32)(images.reshape(images.shape[0], -1)))
        return nn.Dense(3, name="classifier")(nn.relu(nn.Dense(8)(hidden)))


class SideBySide(nn.Module):
    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        first = LowRankConv(8)(images)
        second = LowRankConv(8)(jnp.concatenate([first, LowRankConv(8)(first)], axis=-1))
        return nn.Dense(3, name="classifier")(second.mean((1, 2)))


BAD = [
    ({"local": LocalConfig(batch_size=64)}, {}, r"local\.batch_size is 64, but must be at most 16, .*smallest client"),
    ({"local": LocalConfig(optimizer="sdg")}, {}, r"local\.optimizer is 'sdg', but must be an optax optimizer"),
    ({"local": LocalConfig(optimizer="chain")}, {}, r"local\.optimizer is 'chain'"),
    ({"local": LocalConfig(optimizer="noisy_sgd")}, {}, r"local\.optimizer is 'noisy_sgd', .* optax says: .*key"),
    ({"local": LocalConfig(optimizer="optimistic_adam")}, {}, r"local\.optimizer is .* optax says: .*deprecated"),
    ({"local": LocalConfig(epochs=2**31 - 1)}, {}, r"local\.epochs is 2147483647, but must be so small"),
    ({"local": LocalConfig(steps=2**31 - 1)}, {}, r"local\.steps is 2147483647, but must be so small"),
    ({"model": ModelConfig("mlp", hidden=(10**9, 10**9))}, {}, r"model is MLP, .* would hold 2\*\*31 numbers or more"),
    ({"partition": PartitionConfig(clients=97)}, {}, r"partition\.clients is 97"),
    ({"partition": PartitionConfig("shards", classes_per_client=4)}, {}, r"partition\.classes_per_client is 4"),
    ({"partition": PartitionConfig("dirichlet", clients=6, min_samples=17)}, {}, r"partition\.min_samples is 17"),
    ({}, {"model": UserNet(4)}, r"model is 'UserNet', but must be a module with output \(batch, 3\)"),
    ({}, {"model": WithoutClassifier()}, r"strategy\.classifier_rows is 'owned', but must be 'all'"),
    ({}, {"model": NothingToFactorize()}, r"tiers\.rank_factors is 4.*NothingToFactorize, which has no low-rank layer"),
    ({}, {"model": FixedRank()}, r"model is 'FixedRank', but must be .* rank=None"),
    ({}, {"model": UserNet}, r"model is <class '.*UserNet'>, but must be an instance of flax\.linen\.Module"),
    ({}, {"data": tiny_dataset()._replace(test_labels=np.full(20, 3))}, r"data\.test_labels"),
    ({}, {"data": tiny_dataset()._replace(train_images=np.full((96, 8, 8, 1), np.nan))}, r"data\.train_images"),
    ({}, {"model": WithoutMask()}, r"model is WithoutMask, but must be a module that maps images of 8 x 8 x 1"),
    (
        {"model": ModelConfig(name="cnn")},
        {"data": tiny_dataset((2, 2, 1))},
        r"model is CNN, but must be .* 2 x 2 x 1",
    ),
    (
        {"model": ModelConfig("resnet8", full_rank_blocks=4)},
        {},
        r"model\.full_rank_blocks is 4, but must be from 0 to 3",
    ),
    *(
        (
            {"strategy": StrategyConfig(name=name, widths=widths)},
            {"model": model},
            rf"model is '{type(model).__name__}', but must be a model whose width can be sliced, as",
        )
        for name, widths in [("heterofl", None), ("fedrolex", (1.0, 0.5)), ("fjord", None), ("splitmix", (0.5, 0.25))]
        for model in (HiddenFlaxLayer(), SideBySide())
    ),
]


@pytest.mark.parametrize(("changes", "arguments", "sentence"), BAD)
def test_what_does_not_fit_together_is_refused_in_one_sentence(monkeypatch, tmp_path, changes, arguments, sentence):
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("compiled before the check"))
    folder = tmp_path / "run"
    config = replace(SMALL, **changes, output=OutputConfig(folder=folder))
    with pytest.raises(ConfigError, match=sentence) as caught:
        simulate(config, **{"data": tiny_dataset(), **arguments})
    assert "\n" not in str(caught.value)
    assert not folder.exists()


@LONG
@pytest.mark.skipif(not TFDS.exists(), reason=f"needs the prepared data sets in {TFDS}")
@pytest.mark.parametrize(("name", "model"), [("fashion_mnist", "mlp"), *REAL])
def test_real_images_run_from_the_cache(tmp_path, name, model):
    config = replace(
        SMALL,
        data=DataConfig(
            name, data_dir=TFDS, cache_dir=tmp_path, train_split="test[:600]", test_split="test[9000:9200]"
        ),
        model=ModelConfig(name=model),
        local=LocalConfig(steps=2),
        server=ServerConfig(rounds=2, cohort_size=2),
        evaluation=EvaluationConfig(every=2, statistics_samples=100),
    )
    result = simulate(config)
    assert all(np.isfinite(list(result.final["loss"].values())))
    assert sum(result.history[-1]["clients"].values()) == 2
    assert any(tmp_path.rglob("*.npy"))
