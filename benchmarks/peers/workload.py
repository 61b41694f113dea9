"""What every worker is asked to do, and the data it does it on. NumPy and the standard library only: each peer's
environment imports this file."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

CLASSES = 10
SEED = 0
IMAGE_SHAPES = {"cnn": (28, 28, 1), "resnet8": (32, 32, 3)}
# A pixel is uniform noise below NOISE plus its class's wave of amplitude WAVE; mean and deviation follow.
NOISE, WAVE = 96, 64.0
MEAN = ((NOISE - 1) / 2 + WAVE) / 255
STD = float(np.sqrt((NOISE**2 - 1) / 12 + WAVE**2 / 2)) / 255
PROBED_CLIENTS = 10


@dataclass(frozen=True)
class Workload:
    """Clients of equal size that run plain SGD for one epoch; the server averages them with equal weights.

    Attributes:
        model: architecture, as `fedhm_jax.build_model` names it.
        clients: registered clients.
        cohort: clients sampled each round.
        rank_factors: f of each tier of FedHM; a single 1 is FedAvg.
        samples: of each client.
        batch_size: samples per step.
        learning_rate: of plain SGD.
    """

    model: Literal["cnn", "resnet8"]
    clients: int
    cohort: int
    rank_factors: tuple[float, ...] = (1.0,)
    samples: int = 100
    batch_size: int = 20
    learning_rate: float = 0.05

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return IMAGE_SHAPES[self.model]

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps of all clients of a round together."""
        return self.cohort * -(-self.samples // self.batch_size)

    def tier_of(self, client: int) -> int:
        """Tier of a client; the first clients are the strongest, and tiers are of equal size.

        Example:
            >>> [Workload("cnn", clients=4, cohort=4, rank_factors=(1.0, 2.0)).tier_of(client) for client in range(4)]
            [0, 0, 1, 1]
        """
        return client * len(self.rank_factors) // self.clients


WORKLOADS = {
    "A": Workload("cnn", clients=100, cohort=10),
    "B": Workload("cnn", clients=1000, cohort=100),
    "C": Workload("resnet8", clients=100, cohort=10),
    # Every client is in every round, so that each round holds the same number of clients of each tier.
    "H": Workload("cnn", clients=12, cohort=12, rank_factors=(1.0, 2.0, 4.0, 8.0)),
    "HC": Workload("resnet8", clients=12, cohort=12, rank_factors=(1.0, 2.0, 4.0, 8.0)),
}


@dataclass(frozen=True)
class Task:
    """One run of one worker.

    Attributes:
        workload: what to train.
        ranks: of each tier, rank by the parameter path of the kernel; empty for a tier that trains the whole model.
        rounds: timed rounds.
        warm_up: rounds before them, counted as start-up.
        cores: CPU cores that the worker and its children may use.
        at_once: clients trained side by side, in processes or threads of the peer's own.
        threads: threads within one client's arithmetic.
        device: where PyTorch computes, ``cpu`` or ``cuda``.
    """

    workload: Workload
    ranks: tuple[dict[str, int], ...]
    rounds: int
    warm_up: int
    cores: int
    at_once: int
    threads: int
    device: str = "cpu"

    @property
    def total_rounds(self) -> int:
        """Warm-up and the timed rounds."""
        return self.warm_up + self.rounds

    def to_json(self) -> str:
        """The task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """The task that `to_json` wrote."""
        fields = json.loads(text)
        workload = fields["workload"]
        workload["rank_factors"] = tuple(workload["rank_factors"])
        return cls(**{**fields, "workload": Workload(**workload), "ranks": tuple(fields["ranks"])})


def client_data(workload: Workload, client: int) -> tuple[np.ndarray, np.ndarray]:
    """One client's samples: noise under a wave whose direction tells the class.

    Args:
        workload: shapes and sizes.
        client: its number, the seed of its draws.

    Returns:
        (samples, height, width, channels) uint8 images and (samples,) int64 labels.

    Example:
        >>> images, labels = client_data(WORKLOADS["A"], 0)
        >>> images.shape, images.dtype, labels.shape
        ((100, 28, 28, 1), dtype('uint8'), (100,))
    """
    generator = np.random.default_rng([SEED, client])
    labels = generator.integers(0, CLASSES, workload.samples)
    noise = generator.integers(0, NOISE, (workload.samples, *workload.image_shape), dtype=np.uint8)
    return noise + _waves(workload.image_shape)[labels], labels


def _waves(image_shape: tuple[int, int, int]) -> np.ndarray:
    """(classes, height, width, 1) uint8, four periods across the image."""
    height, width, _ = image_shape
    rows, columns = np.mgrid[:height, :width]
    angles = (np.pi * np.arange(CLASSES) / CLASSES).reshape(-1, 1, 1)
    phase = 2 * np.pi * 4 / width * (np.cos(angles) * columns + np.sin(angles) * rows)
    return np.rint(WAVE * (1 + np.sin(phase))).astype(np.uint8)[..., None]


def standardise(images: np.ndarray) -> np.ndarray:
    """``(images / 255 - mean) / std`` in float32, with the moments that the data have by construction."""
    return ((images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)


def probe_batches(workload: Workload) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training samples on which every worker measures the loss of its final model, in training mode.

    Args:
        workload: of the worker.

    Returns:
        Batches of standardised images, (batch, height, width, channels), and labels.
    """
    parts = [client_data(workload, client) for client in range(min(PROBED_CLIENTS, workload.clients))]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    starts = range(0, len(labels) // workload.batch_size * workload.batch_size, workload.batch_size)
    return [
        (standardise(images[start : start + workload.batch_size]), labels[start : start + workload.batch_size])
        for start in starts
    ]
