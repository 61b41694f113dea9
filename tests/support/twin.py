"""FedHM once more, slow and plain: a whole round in float64 NumPy, written from the method's formulas.

The tests hold the fast path against it, so it shares no numeric code with it. It has its own forward pass, its own
gradients and its own server, and there is no padding and no masking of samples in it: a short batch is a small array,
an absent client is not in the list. Only the order of the samples is handed in.

Parameters are flat dicts from path to array. A whole kernel stands at ``name/kernel`` in Flax's layout; a factorized
one stands at ``name/kernel/u`` and ``name/kernel/v`` as the paper's matrices u (o * kh, r) and v (r, i * kw).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

Params = dict[str, np.ndarray]
Backward = Callable[[np.ndarray], tuple[np.ndarray, Params]]
"""From the gradient by a layer's output to the gradients by its input and by its parameters."""
Pair = tuple[int, int]


# ---------------------------------------------------------------------------------------------------------------------
# Layers: forward returns the output and the function that goes back.


class Layer(Protocol):
    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]: ...


@dataclass(frozen=True)
class Flatten:
    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return x.reshape(len(x), -1), lambda dy: (dy.reshape(x.shape), {})


@dataclass(frozen=True)
class ReLU:
    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        return np.where(x > 0, x, 0), lambda dy: (np.where(x > 0, dy, 0), {})


@dataclass(frozen=True)
class MaxPool:
    """Largest of each 2 x 2 window; an odd last row or column is dropped."""

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        batch, height, width, channels = x.shape
        y = np.zeros((batch, height // 2, width // 2, channels))
        for row in range(height // 2):
            for column in range(width // 2):
                y[:, row, column] = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].max(axis=(1, 2))

        def backward(dy: np.ndarray) -> tuple[np.ndarray, Params]:
            dx = np.zeros_like(x)
            for row in range(height // 2):
                for column in range(width // 2):
                    window = np.s_[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                    largest = x[window] == y[:, row, None, column, None]
                    dx[window] = largest * dy[:, row, None, column, None]
            return dx, {}

        return y, backward


@dataclass(frozen=True)
class Dense:
    """Dense layer; a whole kernel may be that of a convolution over all of a map, which is read flat."""

    name: str

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        kernel, bias = f"{self.name}/kernel", f"{self.name}/bias"
        if kernel in params:
            whole = params[kernel].reshape(-1, params[kernel].shape[-1])
            y = x @ whole
        else:
            u, v = params[f"{kernel}/u"], params[f"{kernel}/v"]
            narrow = x @ v.T
            y = narrow @ u.T

        def backward(dy: np.ndarray) -> tuple[np.ndarray, Params]:
            gradients = {bias: dy.sum(axis=0)}
            if kernel in params:
                return dy @ whole.T, gradients | {kernel: (x.T @ dy).reshape(params[kernel].shape)}
            dnarrow = dy @ u
            return dnarrow @ v, gradients | {f"{kernel}/u": dy.T @ narrow, f"{kernel}/v": dnarrow.T @ x}

        return y + params[bias], backward


@dataclass(frozen=True)
class Conv:
    """Convolution; with factors a 1 x kw convolution and then a kh x 1 convolution.

    ``padding`` None means as many zeros as ceil(size / stride) outputs need, the odd one at the end.
    """

    name: str
    kernel_size: Pair = (3, 3)
    strides: Pair = (1, 1)
    padding: tuple[Pair, Pair] | None = None

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        kernel, bias = f"{self.name}/kernel", f"{self.name}/bias"
        rows, columns = self.padding or [
            _same(size, taps, stride)
            for size, taps, stride in zip(x.shape[1:3], self.kernel_size, self.strides, strict=True)
        ]
        if kernel in params:
            y, whole_backward = convolve(x, params[kernel], self.strides, (rows, columns))
        else:
            u, v = params[f"{kernel}/u"], params[f"{kernel}/v"]
            (kh, kw), (s, t), rank = self.kernel_size, self.strides, u.shape[1]
            outputs, inputs = u.shape[0] // kh, v.shape[1] // kw
            wide = v.reshape(rank, inputs, kw).transpose(2, 1, 0)[None]  # (1, kw, i, r)
            high = u.reshape(outputs, kh, rank).transpose(1, 2, 0)[:, None]  # (kh, 1, r, o)
            narrow, v_backward = convolve(x, wide, (1, t), ((0, 0), columns))
            y, u_backward = convolve(narrow, high, (s, 1), (rows, (0, 0)))

        def backward(dy: np.ndarray) -> tuple[np.ndarray, Params]:
            gradients = {bias: dy.sum(axis=(0, 1, 2))} if bias in params else {}
            if kernel in params:
                dx, dkernel = whole_backward(dy)
                return dx, gradients | {kernel: dkernel}
            dnarrow, dhigh = u_backward(dy)
            dx, dwide = v_backward(dnarrow)
            du = dhigh[:, 0].transpose(2, 0, 1).reshape(u.shape)
            dv = dwide[0].transpose(2, 1, 0).reshape(v.shape)
            return dx, gradients | {f"{kernel}/u": du, f"{kernel}/v": dv}

        return y + params[bias] if bias in params else y, backward


def _same(size: int, taps: int, stride: int) -> Pair:
    outputs = int(np.ceil(size / stride))
    zeros = max((outputs - 1) * stride + taps - size, 0)
    return int(np.floor(zeros / 2)), int(np.ceil(zeros / 2))


def convolve(
    x: np.ndarray, kernel: np.ndarray, strides: Pair, padding: tuple[Pair, Pair]
) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """Pixel by pixel: each output is the sum over one window of the padded image times the kernel."""
    (top, bottom), (left, right) = padding
    (kh, kw), (s, t) = kernel.shape[:2], strides
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width = (padded.shape[1] - kh) // s + 1, (padded.shape[2] - kw) // t + 1
    y = np.zeros((len(x), height, width, kernel.shape[3]))
    for row in range(height):
        for column in range(width):
            window = padded[:, s * row : s * row + kh, t * column : t * column + kw]
            y[:, row, column] = np.einsum("nabi,abio->no", window, kernel)

    def backward(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
        for row in range(height):
            for column in range(width):
                window = np.s_[:, s * row : s * row + kh, t * column : t * column + kw]
                dpadded[window] += np.einsum("no,abio->nabi", dy[:, row, column], kernel)
                dkernel += np.einsum("no,nabi->abio", dy[:, row, column], padded[window])
        return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]], dkernel

    return y, backward


@dataclass(frozen=True)
class BatchNorm:
    """Statistics of the batch; those in ``params`` instead, if it holds a mean and a mean square for this layer."""

    name: str
    epsilon: float = 1e-5

    def __call__(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        axes = tuple(range(x.ndim - 1))
        scale, bias = params[f"{self.name}/scale"], params[f"{self.name}/bias"]
        if f"{self.name}/mean" in params:
            mean, mean_square = params[f"{self.name}/mean"], params[f"{self.name}/mean_square"]
            variance = mean_square - mean**2
        else:
            mean = x.mean(axis=axes)
            variance = ((x - mean) ** 2).mean(axis=axes)
        deviation = np.sqrt(variance + self.epsilon)
        normalised = (x - mean) / deviation

        def backward(dy: np.ndarray) -> tuple[np.ndarray, Params]:
            """Of training mode: mean and variance depend on x."""
            dnormalised = dy * scale
            dx = dnormalised - dnormalised.mean(axis=axes) - normalised * (dnormalised * normalised).mean(axis=axes)
            gradients = {f"{self.name}/scale": (dy * normalised).sum(axis=axes), f"{self.name}/bias": dy.sum(axis=axes)}
            return dx / deviation, gradients

        return scale * normalised + bias, backward


# ---------------------------------------------------------------------------------------------------------------------
# A client.


@dataclass(frozen=True)
class Recipe:
    """How clients train: plain SGD and what pulls on the parameters."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    frobenius_decay: float = 0.0
    proximal: float = 0.0
    clip: float | None = None
    masked_loss: bool = False


@dataclass(frozen=True)
class Client:
    """One client of a round: its tier, its sample count, the classes it holds, and its batches in order."""

    tier: int
    samples: float
    owned: np.ndarray
    batches: Sequence[np.ndarray]


def predict(model: Sequence[Layer], params: Params, images: np.ndarray) -> np.ndarray:
    """Logits."""
    for layer in model:
        images, _ = layer(params, images)
    return images


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sample."""
    return np.array([np.log(np.exp(z).sum()) - z[label] for z, label in zip(logits, labels, strict=True)])


def loss_and_gradient(
    model: Sequence[Layer], params: Params, images: np.ndarray, labels: np.ndarray, counted: np.ndarray
) -> tuple[float, Params]:
    """Summed loss of a batch, and the gradient of its mean; logits of classes that do not count are zero."""
    steps_back = []
    values = images
    for layer in model:
        values, backward = layer(params, values)
        steps_back.append(backward)
    logits = np.where(counted, values, 0)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    dvalues = np.where(counted, shares - np.eye(len(counted))[labels], 0) / len(labels)
    gradients: Params = {}
    for backward in reversed(steps_back):
        dvalues, found = backward(dvalues)
        gradients |= found
    return losses(logits, labels).sum(), gradients


def train(
    model: Sequence[Layer], received: Params, images: np.ndarray, labels: np.ndarray, client: Client, recipe: Recipe
) -> tuple[Params, float]:
    """The client's parameters after its batches, and the sum of its samples' losses on the way."""
    params, loss_sum = dict(received), 0.0
    velocity = {path: np.zeros_like(value) for path, value in params.items()}
    counted = client.owned if recipe.masked_loss else np.ones_like(client.owned)
    for batch in client.batches:
        loss, gradients = loss_and_gradient(model, params, images[batch], labels[batch], counted)
        loss_sum += loss
        pulled = {}
        for path, value in params.items():
            gradient = gradients[path] + recipe.weight_decay * value + recipe.proximal * (value - received[path])
            if path.endswith("/u"):
                u, v = value, params[path[:-1] + "v"]
                gradient = gradient + recipe.frobenius_decay * u @ v @ v.T
            if path.endswith("/v"):
                u, v = params[path[:-1] + "u"], value
                gradient = gradient + recipe.frobenius_decay * u.T @ u @ v
            pulled[path] = gradient
        length = np.sqrt(sum((gradient**2).sum() for gradient in pulled.values()))
        share = 1 if recipe.clip is None else min(1, recipe.clip / length)
        velocity = {path: recipe.momentum * velocity[path] + share * gradient for path, gradient in pulled.items()}
        params = {path: value - recipe.learning_rate * velocity[path] for path, value in params.items()}
    return params, loss_sum


# ---------------------------------------------------------------------------------------------------------------------
# The server.


@dataclass(frozen=True)
class Method:
    """FedHM's choices: ranks by path and rank factor of each tier, the merge's weights, and what joins it."""

    plans: Sequence[Mapping[str, int]]
    rank_factors: Sequence[float]
    weighting: str = "uniform"
    temperature: float = 1.0
    history_samples: float | None = 1.0
    classifier: str | None = None


class Trained(NamedTuple):
    """Sums over a tier's training."""

    loss: float
    samples: int
    clients: int


def to_matrix(kernel: np.ndarray) -> np.ndarray:
    """Rows (o, kh), columns (i, kw); a dense kernel is o x i."""
    if kernel.ndim == 2:
        return kernel.T
    kh, kw, inputs, outputs = kernel.shape
    return kernel.transpose(3, 0, 2, 1).reshape(outputs * kh, inputs * kw)


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The kernel that a matrix stands for."""
    if len(shape) == 2:
        return matrix.T
    kh, kw, inputs, outputs = shape
    return matrix.reshape(outputs, kh, inputs, kw).transpose(1, 3, 2, 0)


def distribute(server: Params, plan: Mapping[str, int]) -> Params:
    """A tier's model: u = U_r sqrt(S_r), v = sqrt(S_r) V_r^T for the kernels of its plan, all else as it is."""
    received = {path: value for path, value in server.items() if path not in plan}
    for path, rank in plan.items():
        left, values, right = np.linalg.svd(to_matrix(server[path]), full_matrices=False)
        root = np.diag(np.sqrt(values[:rank]))
        received |= {f"{path}/u": left[:, :rank] @ root, f"{path}/v": root @ right[:rank]}
    return received


def recover(trained: Params, server: Params) -> Params:
    """Full-rank parameters, W = u v."""
    return {
        path: trained[path]
        if path in trained
        else from_matrix(trained[f"{path}/u"] @ trained[f"{path}/v"], value.shape)
        for path, value in server.items()
    }


class Vote(NamedTuple):
    """One model in the merge, with its unnormalised weight and the classes it speaks for."""

    params: Params
    weight: float
    owned: np.ndarray


def merge(server: Params, votes: Sequence[Vote], classifier: str | None) -> Params:
    """sum_k w_k W_k with weights that sum to one; class by class in the classifier, over those that hold the class."""
    merged = {}
    for path, old in server.items():
        by_class = classifier is not None and path.startswith(f"{classifier}/")
        new = old.copy()
        for last in range(old.shape[-1]):
            voters = [vote for vote in votes if vote.owned[last]] if by_class else votes
            total = sum(vote.weight for vote in voters)
            if voters:
                new[..., last] = sum(vote.weight / total * vote.params[path][..., last] for vote in voters)
        merged[path] = new
    return merged


def fedhm_round(
    server: Params,
    model: Sequence[Layer],
    images: np.ndarray,
    labels: np.ndarray,
    clients: Sequence[Client],
    recipe: Recipe,
    method: Method,
) -> tuple[Params, list[Trained]]:
    """One round: the server's new parameters, and what each tier's training summed up to."""
    weights = {
        "uniform": lambda client: 1.0,
        "samples": lambda client: float(client.samples),
        "rank_softmax": lambda client: float(np.exp(-method.rank_factors[client.tier] / method.temperature)),
    }[method.weighting]
    votes, sums = [], [Trained(0.0, 0, 0)] * len(method.plans)
    for client in clients:
        received = distribute(server, method.plans[client.tier])
        trained, loss = train(model, received, images, labels, client, recipe)
        votes.append(Vote(recover(trained, server), weights(client), client.owned))
        before = sums[client.tier]
        samples = sum(len(batch) for batch in client.batches)
        sums[client.tier] = Trained(before.loss + loss, before.samples + samples, before.clients + 1)
    if method.history_samples is not None and clients and all(client.tier != 0 for client in clients):
        everything = np.ones_like(clients[0].owned)
        old = {
            "uniform": 1.0,
            "samples": method.history_samples,
            "rank_softmax": float(np.exp(-1 / method.temperature)),  # the old model has full rank
        }
        votes.append(Vote(server, old[method.weighting], everything))
    return merge(server, votes, method.classifier), sums


# ---------------------------------------------------------------------------------------------------------------------
# Data and evaluation.


def normalise(images: np.ndarray, training_images: np.ndarray) -> np.ndarray:
    """Channels with mean 0 and deviation 1 on the training images."""
    scaled, reference = images / 255, training_images / 255
    return (scaled - reference.mean(axis=(0, 1, 2))) / reference.std(axis=(0, 1, 2))


def static_statistics(model: Sequence[Layer], params: Params, batches: Sequence[np.ndarray]) -> Params:
    """Each batch norm's mean and mean square: those of every batch, averaged over the batches."""
    found: dict[str, list[np.ndarray]] = {}
    for values in batches:
        for layer in model:
            if isinstance(layer, BatchNorm):
                axes = tuple(range(values.ndim - 1))
                found.setdefault(f"{layer.name}/mean", []).append(values.mean(axis=axes))
                found.setdefault(f"{layer.name}/mean_square", []).append((values**2).mean(axis=axes))
            values, _ = layer(params, values)
    return {path: np.mean(entries, axis=0) for path, entries in found.items()}


def hits(logits: np.ndarray, labels: np.ndarray, k: int) -> int:
    """How many samples have their label among the k largest logits."""
    return sum(label in np.argsort(-z)[:k] for z, label in zip(logits, labels, strict=True))
