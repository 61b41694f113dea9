"""What a trained model is given: how it is checked, and how it becomes what the module reads."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.data import AnyData, Dataset, Text, as_images, normalise
from fedhm_jax.errors import ConfigError


class ImageInputs(NamedTuple):
    """Images as a data set holds them.

    Attributes:
        shape: (height, width, channels).
        mean: (channels,) of the training images, pixels in [0, 1].
        std: (channels,) likewise.
        class_names: a name for each class, where the data set has them.
    """

    shape: tuple[int, ...]
    mean: np.ndarray
    std: np.ndarray
    class_names: tuple[str, ...] | None

    @property
    def batch(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of two of the module's inputs."""
        return jax.ShapeDtypeStruct((2, *self.shape), jnp.float32)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What `prepared` needs beside the samples."""
        return self.mean, self.std

    def checked(self, given: Any) -> np.ndarray:
        """Images of the model's size, as uint8."""
        images = as_images(given, "images")
        if images.shape[1:] != self.shape:
            sizes = " x ".join(map(str, self.shape))
            raise ConfigError(f"images has shape {images.shape}, but must hold images of {sizes} pixels")
        return images

    def prepared(self, images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
        """What the module reads."""
        return normalise(images, mean, std)

    def about(self) -> dict[str, str]:
        """Metadata of the model's file."""
        names = {} if self.class_names is None else {"class_names": json.dumps(self.class_names)}
        return {
            "mean": json.dumps(self.mean.tolist()),
            "std": json.dumps(self.std.tolist()),
            "image_shape": json.dumps(self.shape),
            **names,
        }


class ArrayInputs(NamedTuple):
    """Inputs of a task of one's own.

    Attributes:
        shape: of one sample.
        dtype: of its numbers.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def batch(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of two of the module's inputs."""
        return jax.ShapeDtypeStruct((2, *self.shape), self.dtype)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What `prepared` needs beside the samples."""
        return ()

    def checked(self, given: Any) -> np.ndarray:
        """Samples of the model's shape and type."""
        inputs = np.asarray(given)
        same_kind = np.can_cast(inputs.dtype, self.dtype, "same_kind")
        if inputs.shape[1:] != self.shape or not inputs.size or not same_kind:
            raise ConfigError(
                f"inputs is of shape {inputs.shape} and type {inputs.dtype}, but must hold samples of shape "
                f"{self.shape} and type {self.dtype}"
            )
        return inputs.astype(self.dtype)

    def prepared(self, inputs: jax.Array) -> jax.Array:
        """What the module reads."""
        return inputs

    def about(self) -> dict[str, str]:
        """Metadata of the model's file."""
        return {"input_shape": json.dumps(self.shape), "input_dtype": self.dtype}


class TokenInputs(NamedTuple):
    """Windows of a text.

    Attributes:
        window: most tokens of a window.
        vocabulary: a string for each token.
    """

    window: int
    vocabulary: tuple[str, ...]

    @property
    def batch(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of two of the module's inputs."""
        return jax.ShapeDtypeStruct((2, self.window), jnp.int32)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What `prepared` needs beside the samples."""
        return ()

    def checked(self, given: Any) -> np.ndarray:
        """Rows of tokens, as int32."""
        tokens, size = np.asarray(given), len(self.vocabulary)
        fits = tokens.ndim == 2 and tokens.size and tokens.shape[1] <= self.window
        if not fits or not np.issubdtype(tokens.dtype, np.integer):
            raise ConfigError(
                f"tokens is of shape {tokens.shape} and type {tokens.dtype}, but must be (samples, tokens) integers, "
                f"at most {self.window} tokens a sample"
            )
        if tokens.min() < 0 or tokens.max() >= size:
            outside = tokens.max() if tokens.max() >= size else tokens.min()
            raise ConfigError(f"tokens holds the token {outside}, but must hold tokens from 0 to {size - 1}")
        return tokens.astype(np.int32)

    def prepared(self, tokens: jax.Array) -> jax.Array:
        """What the module reads."""
        return tokens

    def about(self) -> dict[str, str]:
        """Metadata of the model's file."""
        return {"window": str(self.window), "vocabulary": json.dumps(self.vocabulary)}


ModelInputs = ImageInputs | TokenInputs | ArrayInputs


def inputs_of(dataset: AnyData, samples: Any) -> ModelInputs:
    """What a run's models are given.

    Args:
        dataset: its data.
        samples: of the training set, on the device.

    Returns:
        The inputs.
    """
    if isinstance(dataset, Dataset):
        mean, std = (np.asarray(array.addressable_data(0)) for array in (samples.mean, samples.std))
        return ImageInputs(dataset.train_images.shape[1:], mean, std, dataset.class_names)
    if isinstance(dataset, Text):
        return TokenInputs(dataset.window, dataset.vocabulary)
    return ArrayInputs(dataset.train_inputs.shape[1:], dataset.train_inputs.dtype.name)


def inputs_from(about: Mapping[str, str]) -> ModelInputs:
    """What a model is given, from its file.

    Args:
        about: the file's metadata.

    Returns:
        The inputs.
    """
    if "image_shape" in about:
        names = about.get("class_names")
        return ImageInputs(
            tuple(json.loads(about["image_shape"])),
            np.array(json.loads(about["mean"]), np.float32),
            np.array(json.loads(about["std"]), np.float32),
            None if names is None else tuple(json.loads(names)),
        )
    if "vocabulary" in about:
        return TokenInputs(int(about["window"]), tuple(json.loads(about["vocabulary"])))
    return ArrayInputs(tuple(json.loads(about["input_shape"])), about["input_dtype"])
