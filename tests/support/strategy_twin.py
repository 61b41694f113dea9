"""The strategies that train parts of a model once more, slow and plain, in float64 NumPy with explicit index sets.

Nothing here is shared with the package: which axes hold hidden channels is said by hand, a window is a list of indices,
and the merge visits one client after another. Parameters are flat dicts from path to array, as in `twin`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from support import twin
from support.twin import Params


class Hidden(NamedTuple):
    """An axis of hidden channels; behind a flattening the channels of every pixel follow one another."""

    channels: int
    pixels: int = 1


Axes = Mapping[str, tuple[Hidden | None, ...]]
"""By path, what each axis holds; None for pixels' channels, taps and classes, which every width keeps."""
Places = dict[str, Any]
"""By path, index sets from `numpy.ix_`, or masks."""


def kept(channels: int, width: float) -> int:
    """Channels that a width keeps: the nearest number, halves up, and at least one."""
    return max(int(np.floor(width * channels + 0.5)), 1)


def window(server: Params, axes: Axes, width: float, first: int = 0) -> Places:
    """Where a narrow client's elements lie in the server's arrays, from channel ``first`` of every axis on."""
    places = {}
    for path, whole in server.items():
        sets = []
        for length, axis in zip(whole.shape, axes[path], strict=True):
            if axis is None:
                sets.append(list(range(length)))
                continue
            assert axis.channels * axis.pixels == length, (path, axis)
            channels = [(first + step) % axis.channels for step in range(kept(axis.channels, width))]
            sets.append([pixel * axis.channels + channel for pixel in range(axis.pixels) for channel in channels])
        places[path] = np.ix_(*sets)
    return places


def members(server: Params, chosen: Sequence[int]) -> Places:
    """Where some members of a stack lie."""
    return {path: np.ix_(chosen, *map(range, stack.shape[1:])) for path, stack in server.items()}


def largest(server: Params, count: int) -> Places:
    """Where the entries of largest magnitude of all kernels lie, as masks; vectors are taken whole."""
    ranked = sorted(
        ((abs(value), path, place) for path, kernel in server.items() for place, value in np.ndenumerate(kernel)),
        reverse=True,
    )
    places = {path: np.full(value.shape, value.ndim == 1) for path, value in server.items()}
    for _, path, place in [entry for entry in ranked if server[entry[1]].ndim > 1][:count]:
        places[path][place] = True
    return places


def taken(server: Params, places: Places) -> Params:
    """The elements at the places."""
    return {path: whole[places[path]] for path, whole in server.items()}


class Vote(NamedTuple):
    """What a client trained, where it belongs, its weight, and the classes it speaks for."""

    trained: Params
    places: Places
    weight: float
    owned: np.ndarray


def merge(server: Params, votes: Sequence[Vote], classifier: str | None) -> Params:
    """Mean of every element over the clients that hold it; in the classifier, that hold the column's class as well."""
    merged = {}
    for path, old in server.items():
        total, weight = np.zeros_like(old), np.zeros_like(old)
        for vote in votes:
            places = vote.places[path]
            speaks = vote.owned if path.split("/")[0] == classifier else np.ones(old.shape[-1])
            weights = np.zeros_like(old)
            weights[places] = vote.weight
            weights *= speaks
            trained = np.zeros_like(old)
            trained[places] = vote.trained[path]
            total += weights * trained
            weight += weights
        held = weight > 0
        merged[path] = old.copy()
        merged[path][held] = total[held] / weight[held]
    return merged


@dataclass(frozen=True)
class Scale:
    """HeteroFL's scaler as a layer of the twin."""

    factor: float

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, twin.Backward]:
        return x * self.factor, lambda dy: (dy * self.factor, {})


def scaled(model: Sequence[twin.Layer], factor: float) -> list[twin.Layer]:
    """The model with a scaler behind every dense layer and convolution but the last."""
    layers: list[twin.Layer] = []
    for layer in model:
        layers += [layer, Scale(factor)] if isinstance(layer, twin.Dense | twin.Conv) else [layer]
    return layers[:-1]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each sample."""
    return np.array([np.exp(z) / np.exp(z).sum() for z in logits])


def taught_loss_and_gradient(
    model: Sequence[twin.Layer], params: Params, images: np.ndarray, taught: np.ndarray
) -> tuple[float, Params]:
    """Mean cross-entropy against given probabilities, and its gradient."""
    steps_back = []
    for layer in model:
        images, backward = layer(params, images)
        steps_back.append(backward)
    answer = softmax(images)
    gradients: Params = {}
    dvalues = (answer - taught) / len(images)
    for backward in reversed(steps_back):
        dvalues, found = backward(dvalues)
        gradients |= found
    return float(-(taught * np.log(answer)).sum() / len(images)), gradients


def through_mask(
    model: Sequence[twin.Layer],
    params: Params,
    threshold: float,
    images: np.ndarray,
    labels: np.ndarray,
    counted: np.ndarray,
) -> tuple[float, Params]:
    """Summed loss of a net of the kernels' entries from a magnitude on, and FIARSE's gradient of its mean."""
    kept = {path: abs(value) >= threshold if value.ndim > 1 else True for path, value in params.items()}
    masked = {path: value * kept[path] for path, value in params.items()}
    loss, gradient = twin.loss_and_gradient(model, masked, images, labels, counted)
    for path, value in params.items():
        if value.ndim > 1:
            # d/dw of w m(|w|), with m' = 2 t / (|w| + t)^2
            by_mask = value * np.sign(value) * 2 * threshold / (abs(value) + threshold) ** 2
            gradient[path] = gradient[path] * (kept[path] + kept[path] * by_mask)
    return loss, gradient


@dataclass(frozen=True)
class Depthwise:
    """A 3 x 3 kernel for each channel, one zero around the image."""

    name: str
    stride: int

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, twin.Backward]:
        path = f"{self.name}/kernel"
        channels = [
            twin.convolve(
                x[..., [channel]],
                params[path][..., [channel]],
                (self.stride, self.stride),
                ((1, 1), (1, 1)),
            )
            for channel in range(x.shape[-1])
        ]

        def backward(dy: np.ndarray) -> tuple[np.ndarray, Params]:
            found = [back(dy[..., [channel]]) for channel, (_, back) in enumerate(channels)]
            return (
                np.concatenate([dx for dx, _ in found], axis=-1),
                {path: np.concatenate([dkernel for _, dkernel in found], axis=-1)},
            )

        return np.concatenate([y for y, _ in channels], axis=-1), backward


@dataclass(frozen=True)
class Pointwise:
    """The same matrix at every pixel."""

    name: str

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, twin.Backward]:
        path = f"{self.name}/kernel"
        kernel = params[path]
        return x @ kernel, lambda dy: (dy @ kernel.T, {path: np.einsum("nhwi,nhwo->io", x, dy)})


@dataclass(frozen=True)
class PixelMean:
    """Mean over the pixels of an image."""

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, twin.Backward]:
        pixels = x.shape[1] * x.shape[2]
        return x.mean(axis=(1, 2)), lambda dy: (np.ones_like(x) * dy[:, None, None] / pixels, {})


Chain = Sequence[twin.Layer]


def forward(chain: Chain, params: Params, x: np.ndarray) -> tuple[np.ndarray, twin.Backward]:
    """Several layers as one."""
    steps_back = []
    for layer in chain:
        x, backward = layer(params, x)
        steps_back.append(backward)

    def all_back(dy: np.ndarray) -> tuple[np.ndarray, Params]:
        gradients: Params = {}
        for backward in reversed(steps_back):
            dy, found = backward(dy)
            gradients |= found
        return dy, gradients

    return x, all_back


def of_every_head(stages: Sequence[Chain], heads: Sequence[Chain], params: Params, x: np.ndarray) -> list[np.ndarray]:
    """Logits behind each stage."""
    logits = []
    for stage, head in zip(stages, heads, strict=True):
        x, _ = forward(stage, params, x)
        logits.append(forward(head, params, x)[0])
    return logits


def mutual_loss_and_gradient(
    stages: Sequence[Chain],
    heads: Sequence[Chain],
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    counted: np.ndarray,
    distillation: float,
) -> tuple[float, float, Params]:
    """DepthFL's objective, the mean over the heads of their summed losses, and the objective's gradient."""
    hidden, logits, stages_back, heads_back = images, [], [], []
    for stage, head in zip(stages, heads, strict=True):
        hidden, backward = forward(stage, params, hidden)
        stages_back.append(backward)
        values, backward = forward(head, params, hidden)
        logits.append(values)
        heads_back.append(backward)
    samples, others = len(labels), max(len(heads) - 1, 1)
    objective, summed, slopes = 0.0, 0.0, []
    for i, values in enumerate(logits):
        masked = np.where(counted, values, 0)
        loss = twin.losses(masked, labels).sum()
        objective, summed = objective + loss / samples, summed + loss / len(heads)
        slope = np.where(counted, softmax(masked) - np.eye(len(counted))[labels], 0)
        for j, other in enumerate(logits):
            if j != i:
                teacher, pupil = softmax(other), softmax(values)
                divergence = (teacher * (np.log(teacher) - np.log(pupil))).sum()
                objective += distillation / others * divergence / samples
                slope = slope + distillation / others * (pupil - teacher)
        slopes.append(slope / samples)
    gradients: Params = {}
    dhidden = np.zeros_like(hidden)
    for position in reversed(range(len(stages))):
        by_head, found = heads_back[position](slopes[position])
        gradients |= found
        dhidden, found = stages_back[position](dhidden + by_head)
        gradients |= found
    return objective, summed, gradients
