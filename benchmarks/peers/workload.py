"""What every worker is asked to do. Standard library only: each peer's environment imports this file."""

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Workload:
    """Clients of equal size that run plain SGD for one epoch; the server averages them with equal weights.

    Attributes:
        model: architecture, as `fedhm_jax.build_model` names it; `data.SOURCES` has what it reads.
        clients: registered clients.
        cohort: clients sampled each round.
        rank_factors: f of each tier of FedHM; a single 1 is FedAvg.
        samples: of each client.
        batch_size: samples per step.
        learning_rate: of plain SGD.
    """

    model: Literal["cnn", "resnet8", "decoder"]
    clients: int
    cohort: int
    rank_factors: tuple[float, ...] = (1.0,)
    samples: int = 100
    batch_size: int = 20
    learning_rate: float = 0.05

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
    "T": Workload("decoder", clients=100, cohort=10, samples=64, batch_size=16, learning_rate=0.3),
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
