"""Slips in a strategy of one's own, and data that look as if they were meant otherwise: a sentence each."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from fedhm_jax import (
    ConfigError,
    ModelConfig,
    PartitionConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    dataset_from_arrays,
)
from fedhm_jax.run import HandedOver, check_run
from fedhm_jax.strategies import Setting, Strategy, fedhm

SMALL = SimulationConfig(
    strategy=StrategyConfig("fedhm"), model=ModelConfig("mlp", hidden=(8,)), tiers=TiersConfig((1.0, 2.0))
)


def slip(**changes: Any) -> Any:
    def mine(setting: Setting) -> Strategy:
        return fedhm(setting)._replace(**changes)

    return mine


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        (lambda setting: None, r"a function that returns a Strategy; this one returned a NoneType"),
        (slip(distribute=lambda state, tier, client: None), r"one whose objective can be traced"),
        (slip(contribute=lambda *args: None), r"one whose contribute gives a Contribution, not NoneType"),
        (slip(aggregate=lambda *args: None), r"one whose aggregate gives a state like that of init"),
        (slip(tier_model=lambda state: state), r"one whose tier_model can be traced \(TypeError: "),
        (
            slip(aggregate=lambda state, sent, clients: jax.tree.map(lambda leaf: leaf[..., None], state)),
            r"one whose aggregate gives a state like that of init, in structure, shapes and types",
        ),
    ],
)
def test_a_slip_is_said_in_a_sentence(builder: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        check_run(SMALL, HandedOver(strategy=builder))
    assert "\n" not in str(refused.value)


def test_what_looks_odd_is_said() -> None:
    images, labels = np.zeros((40, 3, 8, 8), np.uint8), np.arange(40) % 2 + 1
    data = dataset_from_arrays(images, labels, images[:4], labels[:4])
    config = replace(SMALL, partition=PartitionConfig("iid", clients=2), tiers=TiersConfig((1.0, 2.0, 4.0)))
    config = replace(config, local=replace(config.local, batch_size=4))
    notices = check_run(config, HandedOver(data)).notices
    assert [notice.split(" ")[0] for notice in notices] == ["no", "images", "no"]
    assert notices[0].endswith(": 2 are dealt out to 3 tiers")
    assert notices[1].endswith("height 3, width 8 and 8 channels; channels come last")
    assert notices[2] == "no sample is of class 0, and 3 classes are counted; labels begin with 0"
    assert check_run(SMALL).notices == ()
