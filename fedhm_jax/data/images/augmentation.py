"""Random changes to training images, on the device."""

import jax
import jax.numpy as jnp
from jax import lax


def crop_flip(key: jax.Array, images: jax.Array, pad: int = 4) -> jax.Array:
    """Random crop after zero padding, then a horizontal flip with probability one half; drawn for each image on its
    own.

    Args:
        key: PRNG key.
        images: (batch, height, width, channels), normalised, so that zero is the mean colour.
        pad: zeros on each side, in pixels.

    Returns:
        Same shape as ``images``.

    Example:
        >>> crop_flip(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 3)

    Source: He et al., Deep Residual Learning (1512.03385), section 4.2.
    """
    batch, height, width, _ = images.shape
    key_offset, key_flip = jax.random.split(key)
    offsets = jax.random.randint(key_offset, (batch, 2), 0, 2 * pad + 1)
    flips = jax.random.bernoulli(key_flip, shape=(batch, 1, 1, 1))
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    crop = jax.vmap(lambda image, at: lax.dynamic_slice(image, (at[0], at[1], 0), (height, width, image.shape[2])))
    cropped = crop(padded, offsets)
    return jnp.where(flips, cropped[:, :, ::-1], cropped)
