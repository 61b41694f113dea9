"""An image file of any kind in the shape of a data set's images."""

import warnings
from pathlib import Path

import numpy as np

from fedhm_jax.errors import ConfigError

_MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an image with Pillow, as grayscale or RGB, and brings it to a size.

    Args:
        path: the file.
        shape: (height, width, channels) of the result.

    Returns:
        The pixels, uint8; as they are in a file of that size, else resampled (bicubic).

    Raises:
        ConfigError: the file cannot be read, or the data set's images are neither grayscale nor RGB.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (16, 16), "white").save(Path(folder) / "white.png")
        ...     pixels = read_image(Path(folder) / "white.png", (8, 8, 1))
        >>> pixels.shape, int(pixels.min())
        ((8, 8, 1), 255)
    """
    from PIL import Image

    height, width, channels = shape
    if channels not in _MODES:
        raise ConfigError.of("image", str(path), f"an array, for the model reads images of {channels} channels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata; the pixels are fine
        try:
            with Image.open(path) as image:
                converted = image.convert(_MODES[channels])
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError.of("image", str(path), f"an image file that can be read ({reason})") from error
    resized = converted if converted.size == (width, height) else converted.resize((width, height))
    return np.asarray(resized, np.uint8).reshape(shape)
