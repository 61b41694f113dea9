"""The base: a decoder trained on half of the speakers of Tiny Shakespeare, and the other half as a file of its own.

python -m experiments.shakespeare_lora input.txt --folder runs/shakespeare_lora

Writes first.jsonl and second.jsonl, a line a speaker, and the run on the first in base/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from fedhm_jax import (
    DataConfig,
    EvaluationConfig,
    LocalConfig,
    ModelConfig,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    TiersConfig,
    simulate,
)
from fedhm_jax.data.text.files import compile_pattern, texts_by_client

SPEAKER = r"(?<!.\n)^([A-Z][A-Za-z ]*):$"

# Bytes are the same in both halves, whatever characters stand in them.
PRETRAINING = SimulationConfig(
    data=DataConfig(name="jsonl", client_field="speaker", tokenizer="bytes"),
    partition=PartitionConfig("natural", min_samples=16),
    model=ModelConfig("decoder", width=64, depth=2, heads=4),
    tiers=TiersConfig(rank_factors=(1.0,)),
    strategy=StrategyConfig("fedavg"),
    local=LocalConfig(optimizer="adam", learning_rate=0.003, epochs=1, batch_size=16, clip=1.0),
    server=ServerConfig(rounds=60, cohort_size=10),
    evaluation=EvaluationConfig(every=20),
)


@dataclass(frozen=True)
class Arguments:
    """Pre-training for adapters on Shakespeare."""

    text: tyro.conf.Positional[Path]
    """Tiny Shakespeare."""
    folder: Path
    """A new folder for both halves and the base."""
    rounds: int = PRETRAINING.server.rounds
    """Rounds of pre-training."""


def main(arguments: Arguments) -> None:
    """Splits the speakers, and trains on the first half of them."""
    arguments.folder.mkdir(parents=True)
    texts = texts_by_client(arguments.text.read_text(encoding="utf-8"), compile_pattern(SPEAKER))
    for name, half in zip(("first", "second"), halves(texts), strict=True):
        lines = (json.dumps({"speaker": speaker, "text": "\n".join(half[speaker])}) for speaker in half)
        (arguments.folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = replace(
        PRETRAINING,
        data=replace(PRETRAINING.data, data_dir=arguments.folder / "first.jsonl"),
        server=replace(PRETRAINING.server, rounds=arguments.rounds),
        output=OutputConfig(folder=arguments.folder / "base", progress=True),
    )
    simulate(config)


def halves(texts: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every second speaker, and the others, in the order of how much they say.

    Args:
        texts: of each speaker.

    Returns:
        Two mappings of nearly as many characters.

    Example:
        >>> first, second = halves({"ann": ["a"], "bob": ["bbb"], "cem": ["cc"], "dan": ["dddd"]})
        >>> list(first), list(second)
        (['dan', 'cem'], ['bob', 'ann'])
    """
    order = sorted(texts, key=lambda speaker: -sum(map(len, texts[speaker])))
    first, second = ({speaker: texts[speaker] for speaker in order[start::2]} for start in (0, 1))
    return first, second


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
