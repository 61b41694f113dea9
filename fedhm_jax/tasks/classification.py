"""Images and the classes they show."""

from collections.abc import Mapping

import jax

from fedhm_jax.data import Images, normalise
from fedhm_jax.score import ACCURACY
from fedhm_jax.tasks.base import Metric, Task
from fedhm_jax.tasks.losses import cross_entropy, divergence, in_top


def _look_up(samples: Images, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return normalise(samples.images[rows], samples.mean, samples.std), samples.labels[rows]


def _measure(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Mapping[str, Metric]:
    found, samples = in_top(logits, labels, 1).astype(mask.dtype) * mask, mask.sum()
    by_class = found @ jax.nn.one_hot(labels, logits.shape[-1], dtype=mask.dtype)
    return {
        "accuracy": Metric(found.sum(), samples),
        "top5": Metric((in_top(logits, labels, 5).astype(mask.dtype) * mask).sum(), samples),
        "loss": Metric((cross_entropy(logits, labels) * mask).sum(), samples),
        BY_CLASS: Metric(by_class, samples),
    }


BY_CLASS = "by_class"
"""(classes,) number of samples of each class whose label has the largest logit; no metric of its own."""

CLASSIFICATION = Task(
    name="classification",
    look_up=_look_up,
    loss=cross_entropy,
    teach=divergence,
    measure=_measure,
    score=ACCURACY,
    has_classes=True,
)
"""Cross-entropy of one class an image, in nats; accuracy, and that among the five largest logits."""
