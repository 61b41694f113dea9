"""Multilayer perceptron."""

from functools import partial

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, LowRankDense
from fedhm_jax.models.classifier import LastLayer, classifier
from fedhm_jax.models.depth import Stage


class MLP(nn.Module):
    """Flattened image, hidden layers with ReLU, linear classifier. Hidden kernels may be factorized, the classifier
    stays whole unless ``last_layer`` says otherwise.

    Attributes:
        classes: number of outputs.
        hidden: widths of the hidden layers.
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
        last_layer: ``whole`` or ``factorized``, see `fedhm_jax.models.classifier`.
    """

    classes: int
    hidden: tuple[int, ...] = (128, 128)
    norm: str = "none"
    last_layer: LastLayer = "whole"

    @nn.compact
    def __call__(self, images: jax.Array, *, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Class scores.

        Args:
            images: (batch, height, width, channels).
            mask: (batch,), 0 for padded samples, or None.
            train: training mode of the norms.

        Returns:
            (batch, classes).
        """
        hidden = images.reshape(images.shape[0], -1)
        for stage in self.stages():
            hidden = stage(hidden, mask=mask, train=train)
        return classifier(self.classes, self.last_layer)(hidden)

    def stages(self) -> tuple[Stage, ...]:
        """A hidden layer each, see `fedhm_jax.models.depth`."""
        return tuple(partial(_hidden_layer, self, index) for index in range(len(self.hidden)))


def _hidden_layer(model: MLP, index: int, hidden: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
    hidden = LowRankDense(model.hidden[index], name=f"dense_{index}")(hidden.reshape(hidden.shape[0], -1))
    return nn.relu(NORMS[model.norm](name=f"norm_{index}")(hidden, mask=mask, train=train))
