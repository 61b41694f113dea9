"""The samples that workers train on, drawn client by client from one seed. NumPy only: each peer's environment imports
this file."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.peers.workload import Workload

SEED = 0
CLASSES = 10
# A pixel is uniform noise below NOISE plus its class's wave of amplitude WAVE; mean and deviation follow.
NOISE, WAVE = 96, 64.0
MEAN = ((NOISE - 1) / 2 + WAVE) / 255
STD = float(np.sqrt((NOISE**2 - 1) / 12 + WAVE**2 / 2)) / 255
SYMBOLS, FOLLOWERS, WINDOW = 64, 4, 64
PROBED_CLIENTS = 10

Samples = tuple[np.ndarray, np.ndarray]
"""Inputs and targets."""


class Source(NamedTuple):
    """What a model reads and predicts.

    Attributes:
        shape: of a sample's input.
        dtype: of inputs as the model reads them.
        classes: that it tells apart.
        unit: what one prediction is about, in the plural.
        predictions: of a sample.
        draw: a client's samples, (samples, *shape) inputs and int64 targets, from its generator and their number.
        prepare: inputs as drawn, to inputs as the model reads them.
    """

    shape: tuple[int, ...]
    dtype: str
    classes: int
    unit: str
    predictions: int
    draw: Callable[[np.random.Generator, int], Samples]
    prepare: Callable[[np.ndarray], np.ndarray]


def client_data(workload: Workload, client: int) -> Samples:
    """One client's samples, as its source draws them.

    Args:
        workload: model and sizes.
        client: its number, the seed of its draws.

    Returns:
        (samples, height, width, channels) uint8 images and (samples,) int64 labels, or (samples, window) int32 tokens
        and the int64 tokens that follow them.

    Example:
        >>> images, labels = client_data(Workload("cnn", clients=100, cohort=10), 0)
        >>> images.shape, images.dtype, labels.shape
        ((100, 28, 28, 1), dtype('uint8'), (100,))
        >>> tokens, following = client_data(Workload("decoder", clients=100, cohort=10, samples=2), 0)
        >>> tokens.shape, (tokens[:, 1:] == following[:, :-1]).all()
        ((2, 64), np.True_)
    """
    return SOURCES[workload.model].draw(np.random.default_rng([SEED, client]), workload.samples)


def client_inputs(workload: Workload, client: int) -> Samples:
    """`client_data`, with inputs as the model reads them."""
    inputs, targets = client_data(workload, client)
    return SOURCES[workload.model].prepare(inputs), targets


def probe_batches(workload: Workload) -> list[Samples]:
    """Training samples on which every worker measures the loss of its final model, in training mode.

    Args:
        workload: of the worker.

    Returns:
        Batches of inputs as the model reads them, and of targets.
    """
    parts = [client_inputs(workload, client) for client in range(min(PROBED_CLIENTS, workload.clients))]
    inputs, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    starts = range(0, len(targets) // workload.batch_size * workload.batch_size, workload.batch_size)
    batches = [slice(start, start + workload.batch_size) for start in starts]
    return [(inputs[batch], targets[batch]) for batch in batches]


def standardise(images: np.ndarray) -> np.ndarray:
    """``(images / 255 - mean) / std`` in float32, with the moments that the data have by construction."""
    return ((images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)


def _draw_images(shape: tuple[int, int, int], generator: np.random.Generator, samples: int) -> Samples:
    """Noise under a wave whose direction tells the class."""
    labels = generator.integers(0, CLASSES, samples)
    noise = generator.integers(0, NOISE, (samples, *shape), dtype=np.uint8)
    return noise + _waves(shape)[labels], labels


def _waves(image_shape: tuple[int, int, int]) -> np.ndarray:
    """(classes, height, width, 1) uint8, four periods across the image."""
    height, width, _ = image_shape
    rows, columns = np.mgrid[:height, :width]
    angles = (np.pi * np.arange(CLASSES) / CLASSES).reshape(-1, 1, 1)
    phase = 2 * np.pi * 4 / width * (np.cos(angles) * columns + np.sin(angles) * rows)
    return np.rint(WAVE * (1 + np.sin(phase))).astype(np.uint8)[..., None]


def followers() -> np.ndarray:
    """(symbols, 4): what may follow each symbol, one as likely as the other; the same for all clients.

    Every column is a permutation, so that all symbols are equally frequent, and who knows no more than that has a loss
    of log 64; who knows the table, at most log 4.
    """
    generator = np.random.default_rng(SEED)
    return np.stack([generator.permutation(SYMBOLS) for _ in range(FOLLOWERS)], axis=1)


def _draw_windows(generator: np.random.Generator, samples: int) -> Samples:
    """Windows side by side in one chain of symbols."""
    table = followers().tolist()
    chain = [int(generator.integers(SYMBOLS))]
    for choice in generator.integers(0, FOLLOWERS, samples * WINDOW).tolist():
        chain.append(table[chain[-1]][choice])
    tokens = np.array(chain)
    return tokens[:-1].reshape(samples, WINDOW).astype(np.int32), tokens[1:].reshape(samples, WINDOW)


def _images(shape: tuple[int, int, int]) -> Source:
    return Source(shape, "float32", CLASSES, "images", 1, partial(_draw_images, shape), standardise)


SOURCES = {
    "cnn": _images((28, 28, 1)),
    "resnet8": _images((32, 32, 3)),
    "decoder": Source((WINDOW,), "int32", SYMBOLS, "tokens", WINDOW, _draw_windows, lambda tokens: tokens),
}
"""What each model of `workload.Workload` reads."""
