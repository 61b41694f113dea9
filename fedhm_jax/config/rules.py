"""What the value of each field must fulfil by itself."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What one field's value must fulfil by itself; an unset field (None) is not looked at."""

    field: str
    holds: Callable[[Any], bool]
    allowed: str


def _at_least(bound: int, *names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: value >= bound, f"an integer of at least {bound}") for name in names)


def _not_negative(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: value >= 0, "a number of at least 0") for name in names)


def _below_1(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: 0 <= value < 1, "a number of at least 0 and below 1") for name in names)


def _positive(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: value > 0, "a number above 0") for name in names)


def _all_positive(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda values: min(values, default=0) > 0, "numbers above 0") for name in names)


def _not_empty(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: bool(value.strip()), "a name that is not empty") for name in names)


LARGEST = 3.4e38
"""The training's numbers have 32 bits."""


def _fits_32_bits(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: value <= LARGEST, f"a number of at most {LARGEST:g}") for name in names)


def _below_2_31(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, lambda value: value < 2**31, "an integer below 2**31") for name in names)


def _all_within(least: float, *names: str) -> tuple[Rule, ...]:
    allowed = f"numbers from {least:g} to 1e+30"
    return tuple(Rule(name, lambda values: all(least <= value <= 1e30 for value in values), allowed) for name in names)


def _shrinking(*names: str) -> tuple[Rule, ...]:
    def holds(shares: tuple[float, ...]) -> bool:
        return len(shares) > 0 and shares[0] <= 1 and shares[-1] > 0 and _increases(shares[::-1])

    return tuple(Rule(name, holds, "one or more numbers above 0 and at most 1, strictly decreasing") for name in names)


def _possible_paths(*names: str) -> tuple[Rule, ...]:
    allowed = "a path without a null character, and with a home directory where it begins with ~"
    return tuple(Rule(name, _is_possible_path, allowed) for name in names)


def _is_possible_path(path: Path) -> bool:
    try:
        return "\0" not in str(path.expanduser())
    except RuntimeError:  # nobody of that name
        return False


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _increases(values: tuple[float, ...]) -> bool:
    return all(left < right for left, right in pairwise(values))


RULES: tuple[Rule, ...] = (
    *_not_empty("data.name", "data.train_split", "data.test_split", "data.client_feature", "local.optimizer"),
    *_not_empty("data.tokenizer", "data.client_pattern", "data.text_field", "data.client_field"),
    Rule("data.client_pattern", _is_pattern, "a regular expression"),
    *_at_least(1, "data.window"),
    *_below_2_31("data.window"),
    Rule("data.test_share", lambda share: 0 < share < 1, "a number above 0 and below 1"),
    *_possible_paths("data.data_dir", "data.cache_dir", "model.init", "output.folder"),
    *_at_least(1, "data.train_samples", "data.test_samples", "data.holdout"),
    *_at_least(1, "partition.clients", "partition.min_samples", "partition.classes_per_client"),
    *_positive("partition.alpha"),
    *_at_least(0, "model.full_rank_blocks"),
    *_at_least(1, "model.width", "model.depth", "model.heads"),
    Rule("model.hidden", lambda widths: all(width >= 1 for width in widths), "integers of at least 1"),
    Rule("model.hidden", lambda widths: all(width < 2**31 for width in widths), "integers below 2**31"),
    Rule(
        "tiers.rank_factors",
        lambda factors: len(factors) > 0 and factors[0] >= 1 and _increases(factors),
        "one or more numbers of at least 1, strictly increasing",
    ),
    Rule(
        "tiers.shares",
        lambda shares: min(shares, default=0) >= 0 and abs(math.fsum(shares) - 1) <= 1e-6,
        "numbers of at least 0 that sum to 1",
    ),
    *_shrinking("strategy.widths", "strategy.densities"),
    Rule(
        "strategy.depths",
        lambda depths: len(depths) > 0 and depths[-1] >= 1 and all(one >= other for one, other in pairwise(depths)),
        "one or more integers of at least 1, not increasing",
    ),
    Rule(
        "strategy.adapter_ranks",
        lambda ranks: len(ranks) > 0 and ranks[-1] >= 1 and all(one >= other for one, other in pairwise(ranks)),
        "one or more integers of at least 1, not increasing",
    ),
    Rule("strategy.energy", lambda share: 0 < share <= 1, "a number above 0 and at most 1"),
    Rule("strategy.alpha", lambda alpha: 1e-6 <= alpha <= 1e6, "a number from 1e-6 to 1e6"),
    Rule(
        "strategy.builder",
        lambda name: re.fullmatch(r".+\.py:[^\W\d]\w*", name) is not None,
        "a Python file and a name in it, such as 'mine.py:build'",
    ),
    *_not_negative("strategy.distillation"),
    Rule("tiers.counts", lambda counts: min(counts, default=0) >= 0, "integers of at least 0"),
    Rule("tiers.of_client", lambda tiers: min(tiers, default=0) >= 0, "integers of at least 0"),
    *_positive("strategy.temperature", "local.learning_rate", "server.learning_rate", "devices.deadline"),
    *_positive("local.clip", "aggregation.clip", "aggregation.reject", "privacy.noise_multiplier"),
    Rule("aggregation.trim", lambda share: 0 <= share < 0.5, "a number of at least 0 and below 0.5"),
    Rule("devices.dropout", lambda share: 0 <= share < 1, "a number of at least 0 and below 1"),
    *_all_positive("devices.flops", "devices.download", "devices.upload"),
    Rule("devices.latency", lambda values: min(values, default=-1) >= 0, "numbers of at least 0"),
    *_below_1("local.momentum", "server.momentum", "server.second_moment"),
    Rule("server.epsilon", lambda value: 1e-15 <= value <= 1e15, "a number from 1e-15 to 1e15"),
    *_at_least(1, "local.epochs", "local.steps", "local.batch_size"),
    *_not_negative("local.weight_decay", "local.frobenius_decay", "local.proximal"),
    Rule(
        "local.milestones",
        lambda rounds: min(rounds, default=1) >= 1 and _increases(rounds),
        "integers of at least 1, strictly increasing",
    ),
    Rule("local.decay_rate", lambda rate: 0 < rate <= 1, "a number above 0 and at most 1"),
    *_at_least(1, "server.rounds", "server.cohort_size", "server.devices", "server.clients_per_chunk"),
    Rule("server.participation", lambda share: 0 < share <= 1, "a number above 0 and at most 1"),
    Rule("server.seed", lambda seed: 0 <= seed < 2**32, "an integer of at least 0 and below 2**32"),
    *_all_within(1e-30, "devices.flops", "devices.download", "devices.upload"),
    *_all_within(0, "devices.latency"),
    Rule("privacy.noise_multiplier", lambda value: 1e-6 <= value <= 1e6, "a number from 1e-6 to 1e6"),
    *_below_2_31("local.epochs", "local.steps", "server.rounds", "model.width"),
    *_fits_32_bits("local.learning_rate", "local.weight_decay", "local.frobenius_decay", "local.proximal"),
    *_fits_32_bits(
        "strategy.distillation", "local.clip", "aggregation.clip", "aggregation.reject", "server.learning_rate"
    ),
    *_at_least(1, "evaluation.every", "evaluation.batch_size", "evaluation.statistics_samples"),
    *_at_least(1, "checkpoint.every", "checkpoint.keep"),
)
