"""What fields must fulfil in view of other fields."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedhm_jax.config.rules import LARGEST
from fedhm_jax.config.schema import ModelConfig, SimulationConfig


class Relation(NamedTuple):
    """What a field must fulfil in view of other fields."""

    field: str
    holds: Callable[[SimulationConfig], bool]
    allowed: str


def value_at(config: SimulationConfig, field: str) -> Any:
    """The value of a field.

    Args:
        config: the config.
        field: a dotted path.

    Returns:
        The value.

    Example:
        >>> value_at(SimulationConfig(), "local.epochs")
        5
    """
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _is_transformer(model: ModelConfig) -> bool:
    return model.name in ("vit", "decoder")


def _of_transformers(name: str) -> Relation:
    default = getattr(ModelConfig(), name)
    return Relation(
        f"model.{name}",
        lambda config: _is_transformer(config.model) or getattr(config.model, name) == default,
        f"left at {default} unless model.name is 'vit' or 'decoder' (model.name is {{config.model.name!r}})",
    )


def _one_or_per_tier(name: str) -> Relation:
    return Relation(
        name,
        lambda config: len(value_at(config, name)) in (1, len(config.tiers.rank_factors)),
        "one value for all tiers, or one per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    )


def _with_privacy(name: str, holds: Callable[[SimulationConfig], bool], allowed: str) -> Relation:
    """What a field must fulfil for the privacy guarantee to hold."""
    return Relation(
        name,
        lambda config: config.privacy.noise_multiplier is None or holds(config),
        f"{allowed} when privacy.noise_multiplier is set",
    )


def _noise_fits(config: SimulationConfig) -> bool:
    multiplier, clip = config.privacy.noise_multiplier, config.aggregation.clip
    return multiplier is None or clip is None or multiplier <= LARGEST / clip


_PRIVACY_RELATIONS: tuple[Relation, ...] = (
    Relation(
        "privacy.noise_multiplier",
        _noise_fits,
        f"at most {LARGEST:g} when multiplied by aggregation.clip (which is {{config.aggregation.clip}})",
    ),
    _with_privacy(
        "aggregation.clip",
        lambda config: config.aggregation.clip is not None,
        "a number, which bounds what one client can change,",
    ),
    _with_privacy("aggregation.merge", lambda config: config.aggregation.merge == "mean", "'mean'"),
    _with_privacy(
        "aggregation.reject",
        lambda config: config.aggregation.reject is None,
        "unset, since it would make the number of merged clients depend on their data,",
    ),
    _with_privacy("strategy.weighting", lambda config: config.strategy.weighting == "uniform", "'uniform'"),
    _with_privacy(
        "strategy.classifier_rows",
        lambda config: config.strategy.classifier_rows == "all",
        "'all', since weights by class tell who holds it,",
    ),
    _with_privacy(
        "strategy.history",
        lambda config: config.strategy.name != "fedhm" or not config.strategy.history,
        "False, since it makes the merge depend on which tiers were sampled,",
    ),
    _with_privacy(
        "devices.deadline",
        lambda config: config.devices.deadline is None,
        "unset, since who is late depends on the size of its data,",
    ),
)


_FILES_OF_TEXT = ("text", "jsonl", "huggingface")
_A_TEXT = "'text', 'jsonl', 'huggingface' or 'tfds_text'"


def _is_text(name: str) -> bool:
    return name in _FILES_OF_TEXT or name.startswith(("huggingface:", "tfds_text:"))


def _left_as_it_is(name: str, needed: Callable[[str], bool], where: str) -> Relation:
    """A field of the data that some data sets do not have: there it keeps its default."""
    default = value_at(SimulationConfig(), name)
    return Relation(
        name,
        lambda config: value_at(config, name) == default or needed(config.data.name),
        f"{'unset' if default is None else repr(default)} {where} (data.name is {{config.data.name!r}})",
    )


_TEXT_RELATIONS: tuple[Relation, ...] = (
    Relation(
        "data.data_dir",
        lambda config: config.data.name not in _FILES_OF_TEXT or config.data.data_dir is not None,
        "where the text is when data.name is {config.data.name!r}",
    ),
    *(
        _left_as_it_is(f"data.{name}", _is_text, f"unless data.name is {_A_TEXT}")
        for name in ("window", "test_share", "tokenizer")
    ),
    _left_as_it_is("data.client_pattern", lambda source: source == "text", "unless data.name is 'text'"),
    *(
        _left_as_it_is(
            f"data.{name}",
            lambda name: _is_text(name) and name != "text",
            "unless data.name is 'jsonl', 'huggingface' or 'tfds_text'",
        )
        for name in ("text_field", "client_field")
    ),
    _left_as_it_is(
        "data.train_split", lambda source: source not in ("text", "jsonl"), "for a text, whose split is data.test_share"
    ),
    _left_as_it_is("data.test_split", lambda name: not _is_text(name), "for a text, whose split is data.test_share"),
    Relation(
        "partition.method",
        lambda config: (
            not _is_text(config.data.name) or config.partition.method not in ("dirichlet", "dirichlet_equal", "shards")
        ),
        "'iid', 'quantity', 'natural' or 'given' for a text, whose samples have no classes",
    ),
)


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "aggregation.merge",
        lambda config: config.aggregation.merge == "mean" or config.strategy.weighting == "uniform",
        "'mean' unless strategy.weighting is 'uniform' (strategy.weighting is {config.strategy.weighting!r})",
    ),
    *_PRIVACY_RELATIONS,
    Relation(
        "data.data_dir",
        lambda config: config.data.name != "folder" or config.data.data_dir is not None,
        "the folder of the images when data.name is 'folder'",
    ),
    Relation(
        "data.data_dir",
        lambda config: config.data.name != "npz" or config.data.data_dir is not None,
        "the file of the arrays when data.name is 'npz'",
    ),
    *_TEXT_RELATIONS,
    Relation(
        "data.client_feature",
        lambda config: (
            config.data.client_feature is None
            or not (config.data.name in ("digits", "folder") or _is_text(config.data.name))
        ),
        "unset when data.name is {config.data.name!r}",
    ),
    Relation(
        "model.full_rank_blocks",
        lambda config: config.model.full_rank_blocks is None or config.model.name.startswith("resnet"),
        "unset unless model.name is a ResNet (model.name is {config.model.name!r})",
    ),
    *(_of_transformers(name) for name in ("width", "depth", "heads")),
    Relation(
        "model.width",
        lambda config: not _is_transformer(config.model) or config.model.width % config.model.heads == 0,
        "a multiple of model.heads (model.heads is {config.model.heads})",
    ),
    Relation(
        "model.norm",
        lambda config: config.model.norm is None or not _is_transformer(config.model),
        "unset when model.name is {config.model.name!r}, which has layer norms",
    ),
    Relation(
        "model.norm",
        lambda config: config.model.norm != "group" or config.strategy.name != "fedrolex",
        "'none', 'batch_static' or 'batch_test' when strategy.name is 'fedrolex', whose rolling mixes the groups",
    ),
    Relation(
        "tiers.shares",
        lambda config: config.tiers.shares is None or len(config.tiers.shares) == len(config.tiers.rank_factors),
        "one share per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "tiers.counts",
        lambda config: config.tiers.counts is None or config.tiers.shares is None,
        "unset when tiers.shares is given (tiers.shares is {config.tiers.shares})",
    ),
    Relation(
        "tiers.counts",
        lambda config: config.tiers.counts is None or len(config.tiers.counts) == len(config.tiers.rank_factors),
        "one count per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "tiers.of_client",
        lambda config: config.tiers.of_client is None or config.tiers.shares is config.tiers.counts is None,
        "unset when tiers.shares or tiers.counts is given",
    ),
    Relation(
        "tiers.of_client",
        lambda config: config.tiers.of_client is None or config.tiers.assignment == "fixed",
        "unset unless tiers.assignment is 'fixed' (tiers.assignment is {config.tiers.assignment!r})",
    ),
    Relation(
        "tiers.of_client",
        lambda config: max(config.tiers.of_client or (0,)) < len(config.tiers.rank_factors),
        "numbers of tiers, from 0 to the number of tiers less one (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "strategy.widths",
        lambda config: config.strategy.widths is None or len(config.strategy.widths) == len(config.tiers.rank_factors),
        "one width per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "strategy.densities",
        lambda config: (
            config.strategy.densities is None or len(config.strategy.densities) == len(config.tiers.rank_factors)
        ),
        "one density per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "strategy.depths",
        lambda config: config.strategy.depths is None or len(config.strategy.depths) == len(config.tiers.rank_factors),
        "one depth per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    Relation(
        "strategy.adapter_ranks",
        lambda config: (
            config.strategy.adapter_ranks is None
            or len(config.strategy.adapter_ranks) == len(config.tiers.rank_factors)
        ),
        "one rank per tier (tiers.rank_factors is {config.tiers.rank_factors})",
    ),
    *(_one_or_per_tier(f"devices.{name}") for name in ("flops", "download", "upload", "latency")),
    Relation(
        "local.milestones",
        lambda config: config.local.schedule != "step" or len(config.local.milestones) > 0,
        "one or more rounds when local.schedule is 'step'",
    ),
)
