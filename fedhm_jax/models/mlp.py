"""Multilayer perceptron."""

import jax
from flax import linen as nn

from fedhm_jax.layers import NORMS, LowRankDense


class MLP(nn.Module):
    """Flattened image, hidden layers with ReLU, linear classifier. Hidden kernels may be factorized, the classifier
    stays whole.

    Attributes:
        classes: number of outputs.
        hidden: widths of the hidden layers.
        norm: a name in `fedhm_jax.layers.norms.NORMS`.
    """

    classes: int
    hidden: tuple[int, ...] = (128, 128)
    norm: str = "none"

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
        for index, width in enumerate(self.hidden):
            hidden = LowRankDense(width, name=f"dense_{index}")(hidden)
            hidden = nn.relu(NORMS[self.norm](name=f"norm_{index}")(hidden, mask=mask, train=train))
        return nn.Dense(self.classes, name="classifier")(hidden)
