"""What a run gives back. Standard library only; reporting reads these and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import ConfigError
from fedhm_jax.score import ACCURACY, Score

if TYPE_CHECKING:
    import numpy as np

Record = Mapping[str, Any]
"""One round, ready for JSON.

Keys: ``round`` (1-based int), ``learning_rate``, ``seconds`` (wall time of the round, evaluation included),
``clients_per_chunk`` (most clients side by side), and, keyed by tier name, ``clients`` (number whose update entered the
merge), ``train_loss`` (mean over their steps; null if there are none), ``bytes_down``, ``bytes_up`` and ``macs``
(forward MACs of all their training samples of the round), with running totals ``total_bytes_down``, ``total_bytes_up``
and ``total_macs`` over all tiers. Sampled clients that are left out of the merge, by tier name: ``stragglers`` (missed
the deadline), ``dropouts`` (failed) and ``rejected`` (their update was not finite or too long, or they have no
samples); to all of them the model was sent, and only from the rejected something came back. ``failed_rounds`` counts
the rounds in a row, up to this one, in which every update was rejected and the model stayed. ``simulated_seconds`` of
the round on the clients' devices, and their running total ``total_simulated_seconds``. With privacy, ``epsilon`` of all
rounds so far, at ``delta``. Rounds that were evaluated also have ``accuracy``, ``top5`` and ``loss`` (each in [0, 1] or
nats), keyed by ``"global"`` and the tier names, and with ``evaluation.worst_client`` the ``worst_client``: the lowest
accuracy in [0, 1] of a client on its own share of the test set (null if the test set has no class that a client holds);
with ``evaluation.spectral_norms`` the ``spectral_norm`` by tier, the largest singular value among its factorized
kernels.
"""


@dataclass(frozen=True)
class TierCost:
    """What one client of a tier carries.

    Attributes:
        tier: name of the tier, such as ``"f4"``.
        rank_factor: the tier's rank factor f.
        size: the tier's model in words, such as ``"ranks / 4"``.
        clients: number of registered clients (expected number, for a dynamic assignment).
        parameters: trained parameters.
        macs: multiply-accumulates of one sample's forward pass (convolutions and dense layers).
        train_macs: multiply-accumulates of the forward passes that training makes of one sample.
        bytes_down: bytes sent to a client each round.
        bytes_up: bytes a client sends back each round.
    """

    tier: str
    rank_factor: float
    size: str
    clients: float
    parameters: int
    macs: int
    train_macs: int
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class RunPlan:
    """What is known once a run has passed all checks, before its first round.

    Attributes:
        config: the config that will be run.
        costs: one `TierCost` per tier, strongest first.
        label_counts: (clients, classes) int, training samples of each class at each client.
        tier_of_client: (clients,) int, index of each client's tier; None for a dynamic assignment.
        tier_names: names of the tiers, strongest first, such as ``("f1", "f2")``.
        handed_over: names of what was handed over in Python in place of the config's, by the argument of `simulate`.
        score: the metric that models are compared by.
        metrics: names of what the test measures, as they stand in the records.
    """

    config: SimulationConfig
    costs: Sequence[TierCost]
    label_counts: "np.ndarray"
    tier_of_client: "np.ndarray | None"
    tier_names: tuple[str, ...]
    handed_over: Mapping[str, str] = field(default_factory=dict)
    score: Score = ACCURACY
    metrics: tuple[str, ...] = ("accuracy", "top5", "loss")


class Model(Protocol):
    """A trained model as results know it; `fedhm_jax.TrainedModel` says what it is and all that it holds."""

    @property
    def params(self) -> Any:
        """Its parameters, a Flax tree."""

    @property
    def statistics(self) -> Any:
        """Its norm statistics, a Flax collection."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """A name for each class, where the data set has them."""

    def predict(self, inputs: Any) -> "np.ndarray":
        """What it answers to inputs as the data hold them, for images logits (samples, classes)."""

    def save(self, path: Path | str) -> None:
        """Writes it as safetensors."""


@dataclass(frozen=True, repr=False)
class SimulationResult:
    """Everything a run produced.

    Attributes:
        config: the config that was run.
        history: one `Record` a round.
        final: metrics of the task after the last round, for images ``final["accuracy"]["global"]``, likewise ``top5``
            and ``loss``, and ``worst_client`` where it is asked for.
        costs: one `TierCost` per tier.
        params: the full-rank global model, a Flax parameter tree.
        folder: where the run's files are, or None if none were written.
        models: the trained models by name, ``"global"`` and the tiers', ready to predict.
        score: the metric that its task is judged by.
    """

    config: SimulationConfig
    history: Sequence[Record]
    final: Record
    costs: Sequence[TierCost]
    params: Any
    folder: Path | None
    models: Mapping[str, Model] = field(default_factory=dict, compare=False)
    score: Score = ACCURACY

    def __repr__(self) -> str:
        # Clients that train alone leave no global model.
        reached = self.final[self.score.metric]
        shown = "global" if "global" in reached else self.score.worst(reached)
        words = f"{shown} {self.score.name} {self.score.shown(reached[shown])}"
        rounds = f"{len(self.history)} round{'s' if len(self.history) != 1 else ''}"
        where = "" if self.folder is None else f", in {str(self.folder)!r}"
        return f"SimulationResult({rounds}, {words}{where})"

    def tier(self, name: str) -> Model:
        """One of the trained models: what a device of the tier holds, and what it takes to predict with it.

        Args:
            name: of the tier, such as ``"f4"``, or ``"global"``.

        Returns:
            The model.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.models:
            allowed = "one of " + ", ".join(map(repr, self.models)) if self.models else "one of a result with models"
            raise ConfigError.of("model", name, allowed)
        return self.models[name]

    def predict(self, inputs: Any, model: str = "global") -> "np.ndarray":
        """What a model answers, as the run's evaluation computes it, norms with their static statistics.

        Args:
            inputs: as the data hold them; images (samples, height, width, channels) uint8, or floats in [0, 1].
            model: ``"global"`` or the name of a tier.

        Returns:
            (samples, ...), for images logits (samples, classes).

        Raises:
            ConfigError: no model of that name, or inputs of another shape or type.
        """
        return self.tier(model).predict(inputs)
