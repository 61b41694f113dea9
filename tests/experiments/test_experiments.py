"""Every committed config and study under experiments/ is one that can be run."""

from pathlib import Path

import pytest

from experiments.cifar100_resnet34 import prove
from experiments.costs import tier_costs
from experiments.headroom import __main__ as headroom
from experiments.stand_in import SHAPES
from fedhm_jax import read_config, read_study
from fedhm_jax.comparison.study_checks import check_study
from fedhm_jax.config.config_file import read_toml
from fedhm_jax.config.validation import check_config

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.rglob("*.toml"))
STUDIES = [path for path in FILES if "strategies" in read_toml(path, "config")]
CONFIGS = [path for path in FILES if path not in STUDIES]
ALL_STRATEGIES = {"fedhm", "fedavg", "fedavg_low_rank", "heterofl", "fedrolex", "fjord", "splitmix"}


def study_of(name):
    return read_study(FOLDER / name / f"{name}.toml")


def test_there_are_studies_and_configs():
    assert {path.stem for path in STUDIES} >= {
        "fashion_small",
        "cifar10_small",
        "cifar10_resnet18",
        "cifar100_resnet34",
    }
    assert len(CONFIGS) >= 2


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_valid(path):
    check_config(read_config(path))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_are_valid(path):
    study = read_study(path)
    check_study(study)
    for config in study.settings.values():
        check_config(config)
        assert config.data.name in {*SHAPES, "npz", "text", "jsonl"}
    assert len(study.seeds) >= 3


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_of_methods_compare_all_of_their_time(path):
    # Others set sizes of one model, variants of one strategy, or adapters side by side, or ask less: of text, of time.
    folders, files = (
        ("headroom", "shakespeare", "shakespeare_lora", "cifar10_vit", "fashion_small"),
        ("ablations", "omniglot_classifier", "cifar10_short", "cifar10_short_skewed", "fashion_factors"),
    )
    if path.parent.name not in folders and path.stem not in files:
        assert set(read_study(path).names) >= ALL_STRATEGIES


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(name, marks=() if name == "fedhm" else pytest.mark.long) for name in sorted(ALL_STRATEGIES)],
)
def test_every_strategy_accepts_the_fashion_study(strategy):
    study = read_study(FOLDER / "binding_capacity" / "fashion_mnist.toml")
    assert len(tier_costs(study, "dirichlet-0.3", strategy)) == 3


@pytest.mark.long
def test_widths_of_the_cifar_study_are_solved():
    fedhm, heterofl = (tier_costs(study_of("cifar10_small"), "dirichlet-0.3", name) for name in ("fedhm", "heterofl"))
    for low_rank, narrow in zip(fedhm, heterofl, strict=True):
        assert narrow.bytes_down == pytest.approx(low_rank.bytes_down, rel=0.1)


@pytest.mark.long
def test_the_paper_model_has_the_published_sizes():
    costs = tier_costs(study_of("cifar10_resnet18"), "dirichlet-0.1", "fedhm")
    assert [round(cost.parameters / 1e6, 3) for cost in costs] == [11.174, 4.158, 2.210, 1.236]
    assert [cost.clients for cost in costs] == [5, 5, 5, 5]


def test_the_proof_runs_the_study_itself_but_for_its_length():
    whole, short = study_of("cifar100_resnet34").settings["iid"], prove.shortened(prove.Arguments())
    assert (short.model, short.tiers, short.partition) == (whole.model, whole.tiers, whole.partition)
    assert short.local.augmentation == whole.local.augmentation == "crop_flip"
    assert short.server.rounds < whole.server.rounds
    check_config(short)


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist", "omniglot"])
def test_sizes_that_were_run_before_are_joined_as_they_were(tmp_path, name):
    headroom.write_csv(headroom.read_csv(headroom.HERE / f"{name}.csv"), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (headroom.HERE / f"{name}.csv").read_bytes()
