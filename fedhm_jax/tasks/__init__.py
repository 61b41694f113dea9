"""What is learned: classes of images, the next token of a text, or a task of one's own."""

from fedhm_jax.tasks.base import Batch, Metric, Task
from fedhm_jax.tasks.classification import BY_CLASS, CLASSIFICATION
from fedhm_jax.tasks.losses import cross_entropy, divergence, in_top, mask_absent_classes
from fedhm_jax.tasks.next_token import next_token
from fedhm_jax.tasks.regression import REGRESSION

__all__ = [
    "BY_CLASS",
    "CLASSIFICATION",
    "REGRESSION",
    "Batch",
    "Metric",
    "Task",
    "cross_entropy",
    "divergence",
    "in_top",
    "mask_absent_classes",
    "next_token",
]
