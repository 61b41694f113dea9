"""The models of a finished run, ready to use: parameters, norm statistics and normalisation together."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedhm_jax.config import OutputConfig, SimulationConfig, config_to_toml
from fedhm_jax.engine import pick_rows, static_statistics
from fedhm_jax.errors import ConfigError
from fedhm_jax.lowrank import is_factors
from fedhm_jax.models import Network, Statistics, count_parameters
from fedhm_jax.run.model_file import FORMAT, ModelFile, as_tensors, write_model_file
from fedhm_jax.run.preparation.assembly import Run
from fedhm_jax.run.preparation.handed_over import qualified_name
from fedhm_jax.run.preparation.learning import samples_on_host
from fedhm_jax.run.traced_program import prediction_digest
from fedhm_jax.run.trained.model_inputs import ImageInputs, ModelInputs, inputs_of
from fedhm_jax.strategies import State, Strategy
from fedhm_jax.tree import Params, named_leaves

GLOBAL = "global"
"""Name of the model that the server holds, beside the tiers' names."""


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A trained model with all that it takes to predict.

    Of images: ``logits = network(params, statistics, (images / 255 - mean) / std)``

    Attributes:
        name: ``"global"``, or the tier's name such as ``"f4"``.
        size: the model in words, such as ``"ranks / 4"``.
        params: its parameters, a Flax tree; `Factors` stand where the tier holds factors. A Split-Mix model has a
            leading axis of base networks.
        statistics: static batch norm statistics as measured on training samples, a Flax collection; empty without.
        inputs: what it is given, such as the shape of images and what normalises them.
        outputs: length of the last axis of what it answers, such as the number of classes; None for a task of one's
            own.
        module: the model's class, such as ``"fedhm_jax.models.cnn.CNN"``.
        strategy: the federated method's name, or where its builder is defined.
        config: of the run.
        traced: digest of what is traced from a module or strategy that was handed over; None for built-in ones.
        network: the model as pure functions.
    """

    name: str
    size: str
    params: Params
    statistics: Statistics
    inputs: ModelInputs
    outputs: int | None
    module: str
    strategy: str
    config: SimulationConfig
    traced: str | None
    network: Network

    def __repr__(self) -> str:
        return f"TrainedModel({self.name!r}, {self.size}, {count_parameters(self.params):,} parameters)"

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of every factorized kernel by parameter path; kernels that it does not name are whole."""
        leaves = named_leaves(self.params, is_leaf=is_factors)
        return {path: kernel.rank for path, kernel in leaves.items() if is_factors(kernel)}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels), of a model of images."""
        return self._of_images.shape

    @property
    def mean(self) -> np.ndarray:
        """(channels,) of the training images, pixels in [0, 1], of a model of images."""
        return self._of_images.mean

    @property
    def std(self) -> np.ndarray:
        """(channels,) likewise."""
        return self._of_images.std

    @property
    def classes(self) -> int | None:
        """Number of classes, of a model of images."""
        return self.outputs

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """A name for each class, where the data set has them."""
        return self.inputs.class_names if isinstance(self.inputs, ImageInputs) else None

    @property
    def _of_images(self) -> ImageInputs:
        if not isinstance(self.inputs, ImageInputs):
            raise ConfigError.of("model", self.name, "one of images, for only these have a size, mean and deviation")
        return self.inputs

    def predict(self, inputs: Any) -> np.ndarray:
        """What the model answers, as the run's evaluation computes it.

        Args:
            inputs: as the run's data hold them. Images: (samples, height, width, channels) uint8, or floats in [0, 1];
                those of one channel may be (samples, height, width).

        Returns:
            (samples, ...), for images logits (samples, classes).

        Raises:
            ConfigError: inputs of another shape or type.
        """
        samples = self.inputs.checked(inputs)
        size = min(self.config.evaluation.batch_size, len(samples))
        padded = np.concatenate([samples, np.zeros((-len(samples) % size, *samples.shape[1:]), samples.dtype)])
        mask = (np.arange(len(padded)) < len(samples)).astype(np.float32)
        batches = zip(np.split(padded, len(padded) // size), np.split(mask, len(padded) // size), strict=True)
        return np.concatenate([np.asarray(self._answers(*self._arrays, *batch)) for batch in batches])[: len(samples)]

    def save(self, path: Path | str) -> None:
        """Writes the model as safetensors; docs/trained_models.md says how to read it without this package.

        Args:
            path: a file that does not exist yet.

        Raises:
            ConfigError: there is something of that name.
            WriteError: it could not be written.
        """
        if (path := Path(path).expanduser()).exists():
            raise ConfigError.of("path", str(path), "a file that does not exist yet")
        write_model_file(path, self.as_file())

    def as_file(self) -> ModelFile:
        """What the model's file holds: its arrays, and as metadata everything else but the code."""
        about = {
            "format": FORMAT,
            "model": self.name,
            "size": self.size,
            "ranks": json.dumps(self.ranks),
            **self.inputs.about(),
            "classes": json.dumps(self.outputs),
            "module": self.module,
            "strategy": self.strategy,
            "config": config_to_toml(self.config),
            "fedhm_jax": version("fedhm-jax"),
        }
        if self.traced is not None:
            about["traced"] = self.traced
        return ModelFile(as_tensors(self.params, self.statistics), about)

    @cached_property
    def _arrays(self) -> Any:
        return jax.tree.map(jnp.asarray, (self.params, self.statistics, self.inputs.arrays))

    @cached_property
    def _answers(self) -> Callable[..., jax.Array]:
        def answers(
            params: Params, statistics: Statistics, arrays: tuple[jax.Array, ...], samples: jax.Array, mask: jax.Array
        ) -> jax.Array:
            return self.network.predict(params, statistics, self.inputs.prepared(samples, *arrays), mask)

        return jax.jit(answers)


class Models(Mapping[str, TrainedModel]):
    """A run's models by name; each is put together when it is first asked for.

    Pickled, it is empty: a module and a strategy's functions cannot be. `fedhm_jax.load_run` reads models back.
    """

    def __init__(self, build: Callable[[str], TrainedModel], names: Sequence[str]) -> None:
        self._build, self._names = cache(build), tuple(names)

    def __getitem__(self, name: str) -> TrainedModel:
        if name not in self:
            raise KeyError(name)
        return self._build(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Models({', '.join(self._names)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ()


def trained_models(run: Run, state: State) -> Models:
    """The models of a run.

    Args:
        run: the run.
        state: server state after its last round.

    Returns:
        ``"global"`` and every tier's model. Norm statistics are measured when a model is first asked for, on the
        samples that evaluation measures them on; of the data, only these are kept.
    """
    parts, plan = run.parts, run.parts.plan
    setting, strategy, has_statistics = parts.setting, parts.strategy, parts.setting.has_statistics
    # Neither the data, which may be large, nor the run that holds them are kept.
    inputs, outputs, task = inputs_of(parts.dataset, run.data.samples), parts.learning.outputs, setting.task
    # Every device and every process holds the whole state; a model that is used later runs on one device alone.
    state = jax.tree.map(lambda leaf: leaf.addressable_data(0), state)
    evaluation, sample = plan.config.evaluation, None
    batch_size = min(evaluation.batch_size, parts.dataset.test_size)
    rows = pick_rows(parts.dataset.train_size, evaluation.statistics_samples, batch_size, parts.statistics_seed)
    if has_statistics:
        sample = jax.tree.map(jnp.asarray, samples_on_host(parts.dataset.with_train(rows.reshape(-1)))[0])
    if isinstance(inputs, ImageInputs) and sample is not None:
        sample = sample._replace(mean=jnp.asarray(inputs.mean), std=jnp.asarray(inputs.std))

    def statistics(network: Network, params: Params) -> Statistics:
        if sample is None:
            return {}
        batches = jnp.arange(rows.size, dtype=jnp.int32).reshape(rows.shape)
        return jax.jit(partial(static_statistics, network, task=task))(params, samples=sample, rows=batches)

    def build(name: str) -> TrainedModel:
        network, params = network_and_params(strategy, state, plan.tier_names, name)
        measured = statistics(network, params)
        custom = {"model", "strategy"} & set(plan.handed_over)
        return TrainedModel(
            name=name,
            size=size_in_words(strategy, plan.tier_names, name),
            params=params,
            statistics=measured,
            inputs=inputs,
            outputs=outputs,
            module=qualified_name(type(setting.module)),
            strategy=plan.handed_over.get("strategy", plan.config.strategy.name),
            config=replace(plan.config, output=OutputConfig()),
            traced=prediction_digest(network, params, measured, setting.inputs) if custom else None,
            network=network,
        )

    return Models(build, (GLOBAL, *plan.tier_names))


def network_and_params(
    strategy: Strategy[State], state: State, tier_names: Sequence[str], name: str
) -> tuple[Network, Params]:
    """How one of a strategy's models computes, and what with.

    Args:
        strategy: the federated method.
        state: its server state.
        tier_names: names of the tiers.
        name: ``"global"`` or one of them.

    Returns:
        Functions and parameters; of a tier that predicts with the global model, that model's own objects.
    """
    if name == GLOBAL:
        return strategy.network, strategy.global_model(state)
    tier = tier_names.index(name)
    return strategy.networks[tier], strategy.tier_model(state, tier)


def size_in_words(strategy: Strategy[State], tier_names: Sequence[str], name: str) -> str:
    """What a model's size is called.

    Args:
        strategy: the federated method.
        tier_names: names of the tiers.
        name: ``"global"`` or one of them.

    Returns:
        Such as ``"ranks / 4"``.
    """
    return "global model" if name == GLOBAL else strategy.sizes[tier_names.index(name)]
