"""What a client of each tier carries under every strategy of a study, in costs.md beside it; nothing is trained.

python -m experiments.costs experiments/cifar10_resnet18/cifar10_resnet18.toml
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.stand_in import stand_in
from fedhm_jax import Study, read_study
from fedhm_jax.comparison.variants import config_of, strategy_name
from fedhm_jax.config import number_of_clients
from fedhm_jax.config.validation import check_config
from fedhm_jax.results import TierCost
from fedhm_jax.run.preparation.assembly import check_run
from fedhm_jax.run.preparation.handed_over import HandedOver
from fedhm_jax.strategies import STRATEGIES


@dataclass(frozen=True)
class Arguments:
    """Costs of a study's clients."""

    study: tyro.conf.Positional[Path]
    """The study's TOML file."""


def main(arguments: Arguments) -> None:
    """Plans every strategy in the first setting and writes the table."""
    study = read_study(arguments.study)
    lines = [
        f"`python -m experiments.costs {arguments.study.as_posix()}`",
        "",
        "| strategy | tier | model | parameters | KiB down | KiB up | MMAC, one image | the same in training |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for strategy in [variant.name for variant in study.variants if strategy_name(variant) in STRATEGIES]:
        for cost in tier_costs(study, next(iter(study.settings)), strategy):
            cells = [strategy, cost.tier, cost.size, f"{cost.parameters:,}"]
            cells += [f"{sent / 1024:,.1f}" for sent in (cost.bytes_down, cost.bytes_up)]
            cells += [f"{macs / 1e6:,.3f}" for macs in (cost.macs, cost.train_macs)]
            lines.append(f"| {' | '.join(cells)} |")
    (arguments.study.parent / "costs.md").write_text("\n".join([*lines, ""]))


def tier_costs(study: Study, setting: str, strategy: str) -> tuple[TierCost, ...]:
    """Checks one run of a study as if its data were there.

    Args:
        study: the study.
        setting: one of its settings.
        strategy: name of one of its strategies; frames and strategies of one's own have no costs here.

    Returns:
        One cost a tier.

    Raises:
        ConfigError: the strategy cannot run in the setting.
    """
    [variant] = [variant for variant in study.variants if variant.name == strategy]
    config = config_of(study.settings[setting], variant, {})
    check_config(config)
    clients = number_of_clients(config.partition)
    assert clients is not None  # no study here deals by the data's own clients
    # twice what equal slices need, so that unequal ones reach their floor
    samples = 2 * clients * max(config.local.batch_size, config.partition.min_samples)
    return tuple(check_run(config, HandedOver(stand_in(config.data.name, samples, 100))).plan.costs)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
