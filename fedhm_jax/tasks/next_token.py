"""Text, and the token that follows each of its tokens."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fedhm_jax.data import TokenUnit, Windows
from fedhm_jax.score import Score
from fedhm_jax.tasks.base import Metric, Task
from fedhm_jax.tasks.losses import cross_entropy, divergence, in_top

SCORES = {
    "character": Score("bits", "bits per character", "", 1.0, 2, higher_is_better=False),
    "byte": Score("bits", "bits per byte", "", 1.0, 2, higher_is_better=False),
    "piece": Score("loss", "loss", "nats per token", 1.0, 2, higher_is_better=False),
}
"""What models are compared by, by what a token is."""


def next_token(window: int, unit: TokenUnit) -> Task:
    """The task of a language model: at every place of a window, the next token.

        loss = -(1 / window) sum_t log p(x_t+1 | x_1 ... x_t),  bits = loss / log 2,  perplexity = exp(loss)

    Args:
        window: tokens that a sample predicts.
        unit: what a token is: models of characters and of bytes are judged by bits, of pieces of text by the loss.

    Returns:
        The task. ``loss`` is in nats a token.

    Example:
        >>> task = next_token(2, "character")
        >>> text = Windows(tokens=jnp.array([3, 1, 4, 1, 5], jnp.uint8), starts=jnp.array([0, 2], jnp.int32))
        >>> inputs, targets = task.look_up(text, jnp.array([1]))
        >>> inputs.tolist(), targets.tolist()
        ([[4, 1]], [[1, 5]])
        >>> metrics = task.measure(jnp.zeros((1, 2, 8)), targets, jnp.ones(1))
        >>> float(metrics["bits"].sum / metrics["bits"].weight)  # one of eight
        3.0
    """

    def look_up(samples: Windows, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        places = samples.starts[rows][:, None] + jnp.arange(window + 1, dtype=jnp.int32)[None, :]
        tokens = samples.tokens[places].astype(jnp.int32)
        return tokens[:, :-1], tokens[:, 1:]

    def measure(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> Mapping[str, Metric]:
        samples = mask.sum()
        loss = (cross_entropy(logits, targets).mean(1) * mask).sum()
        found = (in_top(logits, targets, 1).astype(mask.dtype).mean(1) * mask).sum()
        bits = {"bits": Metric(loss / math.log(2), samples)} if SCORES[unit].metric == "bits" else {}
        return {**bits, "loss": Metric(loss, samples), "accuracy": Metric(found, samples)}

    return Task(
        name="next token",
        look_up=look_up,
        loss=_mean_over_places(cross_entropy),
        teach=_mean_over_places(divergence),
        measure=measure,
        score=SCORES[unit],
    )


def _mean_over_places(by_place: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda outputs, other: by_place(outputs, other).mean(1)
