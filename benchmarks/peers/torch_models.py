"""The models, the data and the final loss as PyTorch has them; shared by every peer that trains with PyTorch.

Layers bear the names that fedhm_jax gives them, so that its rank plans apply. Initialisation is fedhm_jax's: He normal
before a ReLU, LeCun normal elsewhere, biases zero, embeddings of deviation 0.1. Batch norms use the statistics of their
batch and keep no running ones: in training that is what fedhm_jax's default norm does.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers.data import CLASSES, client_inputs, probe_batches
from benchmarks.peers.torch_decoder import Decoder
from benchmarks.peers.workload import Workload

Ranks = Mapping[str, int]
"""Rank of every factorized layer, keyed by the layer's name such as ``"stage_0_block_0.conv_0"``."""


def layer_ranks(ranks: Mapping[str, int]) -> dict[str, int]:
    """A rank plan of fedhm_jax, keyed by layer: ``"a/kernel"`` becomes ``"a"``, ``"a/b/kernel"`` ``"a.b"``."""
    return {path.removesuffix("/kernel").replace("/", "."): rank for path, rank in ranks.items()}


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = False, rank: int | None = None) -> nn.Module:
    """3x3 convolution, whole, or 1x3 to ``rank`` channels and then 3x1."""
    if rank is None:
        return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
    return nn.Sequential(
        OrderedDict(
            v=nn.Conv2d(inputs, rank, (1, 3), (1, stride), padding=(0, 1), bias=False),
            u=nn.Conv2d(rank, outputs, (3, 1), (stride, 1), padding=(1, 0), bias=bias),
        )
    )


class _WholeMap(nn.Conv2d):
    """Convolution with a kernel as large as its map, computed as the product that it is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to (batch, outputs)."""
        return F.linear(images.flatten(1), self.weight.flatten(1), self.bias)


def _dense(channels: int, size: int, outputs: int, rank: int | None) -> nn.Module:
    """Dense layer over a square map, whole, or 1 x size to ``rank`` channels and then size x 1."""
    if rank is None:
        return _WholeMap(channels, outputs, size)
    return nn.Sequential(
        OrderedDict(
            v=nn.Conv2d(channels, rank, (1, size), bias=False),
            u=nn.Conv2d(rank, outputs, (size, 1)),
            flat=nn.Flatten(),
        )
    )


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, track_running_stats=False)


class CNN(nn.Module):
    """conv 3x3 16, pool, conv 3x3 32, pool, dense 64, classifier."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.stem = _conv(1, 16, bias=True)
        self.conv = _conv(16, 32, bias=True, rank=ranks.get("conv"))
        self.dense = _dense(32, 7, 64, ranks.get("dense"))
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 1, 28, 28) to (batch, classes)."""
        hidden = F.max_pool2d(F.relu(self.stem(images)), 2)
        hidden = F.max_pool2d(F.relu(self.conv(hidden)), 2)
        return self.classifier(F.relu(self.dense(hidden)))


class Block(nn.Module):
    """Basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int, name: str, ranks: Ranks) -> None:
        super().__init__()
        self.conv_0 = _conv(inputs, outputs, stride=stride, rank=ranks.get(f"{name}.conv_0"))
        self.norm_0 = _norm(outputs)
        self.conv_1 = _conv(outputs, outputs, rank=ranks.get(f"{name}.conv_1"))
        self.norm_1 = _norm(outputs)
        self.projects = stride > 1
        if self.projects:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = _norm(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        hidden = F.relu(self.norm_0(self.conv_0(images)))
        hidden = self.norm_1(self.conv_1(hidden))
        return F.relu(hidden + (self.shortcut_norm(self.shortcut(images)) if self.projects else images))


class ResNet8(nn.Module):
    """Stem and one basic block at each of the widths 16, 32 and 64, global mean, classifier."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.stem = _conv(3, 16)
        self.stem_norm = _norm(16)
        self.stage_0_block_0 = Block(16, 16, 1, "stage_0_block_0", ranks)
        self.stage_1_block_0 = Block(16, 32, 2, "stage_1_block_0", ranks)
        self.stage_2_block_0 = Block(32, 64, 2, "stage_2_block_0", ranks)
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, 32, 32) to (batch, classes)."""
        hidden = F.relu(self.stem_norm(self.stem(images)))
        hidden = self.stage_2_block_0(self.stage_1_block_0(self.stage_0_block_0(hidden)))
        return self.classifier(hidden.mean((2, 3)))


class Architecture(NamedTuple):
    """A model and how it is used.

    Attributes:
        build: the module, given the rank of every factorized layer.
        before: activation that its layers but the classifier are initialised for.
        read: inputs from `data`, (samples, ...), to those of the module.
    """

    build: Callable[[Ranks], nn.Module]
    before: Literal["relu", "linear"]
    read: Callable[[np.ndarray], torch.Tensor]


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


MODELS = {
    "cnn": Architecture(CNN, "relu", _channels_first),
    "resnet8": Architecture(ResNet8, "relu", _channels_first),
    "decoder": Architecture(lambda ranks: Decoder(), "linear", torch.from_numpy),
}


def build_model(name: str, ranks: Ranks | None = None) -> nn.Module:
    """A freshly initialised model.

    Args:
        name: key of `MODELS`.
        ranks: rank by layer name; None for the whole model. The decoder has no factorized layers.

    Returns:
        The module.
    """
    model = MODELS[name].build(ranks or {})
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity=MODELS[name].before)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
    nn.init.kaiming_normal_(model.classifier.weight, nonlinearity="linear")
    return model


def loss_of(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all predictions: (samples,) of images, (samples, positions) of text."""
    return F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())


def client_tensors(workload: Workload, client: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """One client's inputs, as its model reads them, and targets."""
    inputs, targets = client_inputs(workload, client)
    return MODELS[workload.model].read(inputs).to(device), torch.from_numpy(targets).to(device)


@torch.no_grad()
def probe_loss(model: nn.Module, workload: Workload) -> float:
    """Mean loss of a model on `data.probe_batches`, in training mode."""
    model.train()
    device = next(model.parameters()).device
    read = MODELS[workload.model].read
    losses = [
        loss_of(model, read(inputs).to(device), torch.from_numpy(targets).to(device))
        for inputs, targets in probe_batches(workload)
    ]
    return float(torch.stack(losses).mean())
