"""Modules that are refused after a dry run on shapes, with what to use instead."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from fedhm_jax import ConfigError, LowRankDense
from fedhm_jax.run.preparation.model import check_model


class WithBatchNorm(nn.Module):
    """As Flax's own examples have it, below another module, or with averages that are never updated."""

    how: str

    @nn.compact
    def __call__(self, images, *, mask=None, train=False):
        hidden = LowRankDense(8)(images.reshape(images.shape[0], -1))
        average = True if self.how == "constant" else not train
        if self.how == "nested":
            hidden = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=average), nn.relu])(hidden)
        else:
            hidden = nn.BatchNorm(use_running_average=average)(hidden)
        return nn.Dense(3, name="classifier")(hidden)


@pytest.mark.parametrize("how", ["as in Flax", "nested", "constant"])
def test_batch_norm_with_running_averages_names_the_norms_of_the_package(how):
    with pytest.raises(ConfigError) as caught:
        check_model(WithBatchNorm(how), jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32), outputs=3)
    assert str(caught.value) == (
        "model is 'WithBatchNorm', but must be a module without nn.BatchNorm, whose running averages mean nothing in a "
        "merged model; fedhm_jax.norms has StaticBatchNorm()(x, mask=mask, train=train) in its place"
    )
