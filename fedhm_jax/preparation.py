"""From a config to the parts of a run: the one place where config fields meet numeric code."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedhm_jax.client import Apply, LocalTraining, build_local_update
from fedhm_jax.client_data import ClientData, place_clients
from fedhm_jax.cohort import cohort_capacities
from fedhm_jax.config import DataConfig, LocalConfig, ModelConfig, PartitionConfig, ServerConfig, SimulationConfig
from fedhm_jax.costs import count_bytes, count_macs, count_parameters
from fedhm_jax.data import Dataset, dataset_from_arrays, label_counts, load_dataset, partition
from fedhm_jax.decomposition import is_factors
from fedhm_jax.engine import Engine, build_engine
from fedhm_jax.errors import ConfigError
from fedhm_jax.evaluation import EvaluationData, build_evaluate, place_evaluation
from fedhm_jax.models import RESNETS, build_model
from fedhm_jax.optimizers import optimizer_by_name
from fedhm_jax.rank_plan import factorizable_kernels, plan_ranks
from fedhm_jax.results import RunPlan, TierCost
from fedhm_jax.strategies import Strategy, fedhm
from fedhm_jax.strategies.base import State
from fedhm_jax.tiers import Tier, assign_tiers, make_tiers, tier_sizes
from fedhm_jax.tree import Params, named_leaves

CLASSIFIER = "classifier"


class CohortSampling(NamedTuple):
    """Arguments of `fedhm_jax.cohort.sample_cohort` that stay the same all run long; see there."""

    sizes: np.ndarray
    tier_of_client: np.ndarray | None
    shares: tuple[float, ...]
    capacities: tuple[int, ...]
    cohort_size: int
    seed: int


class Preparation(NamedTuple):
    """A run, ready to start.

    Attributes:
        engine: round and evaluation.
        strategy: the federated method.
        state: server state before the first round.
        data: the clients' samples, on the device.
        test: the test set, on the device.
        sampling: how cohorts are drawn.
        key: PRNG key of the rounds.
        plan: what reports may know.
    """

    engine: Engine
    strategy: Strategy
    state: State
    data: ClientData
    test: EvaluationData
    sampling: CohortSampling
    key: jax.Array
    plan: RunPlan


def prepare(config: SimulationConfig, data: Dataset | None = None, model: nn.Module | None = None) -> Preparation:
    """Builds every part of a run and refuses what cannot run, before anything is compiled.

    Args:
        config: a config that passed `fedhm_jax.validation.check_config`.
        data: in place of ``config.data``.
        model: in place of ``config.model``.

    Returns:
        The parts.

    Raises:
        ConfigError: data, model and config do not fit together.
    """
    server = config.server
    partition_seed, tier_seed, cohort_seed, statistics_seed = (
        np.random.SeedSequence(server.seed).generate_state(4).tolist()
    )
    training = _local_training(config.local)
    # A data set put together by hand passes the same checks as arrays.
    dataset = dataset_from_arrays(*data[:4], classes=data.classes, name=data.name) if data else _load(config.data)
    parts = _deal(dataset, config.partition, partition_seed)
    _check_batch_size(training.batch_size, parts)

    model = model if model is not None else _built_in_model(config.model, dataset.classes, server)
    images = jax.ShapeDtypeStruct((2, *dataset.train_images.shape[1:]), jnp.float32)
    shapes = _check_model(model, images, dataset.classes)
    tiers = make_tiers(config.tiers.rank_factors, config.tiers.shares, config.tiers.counts)
    sampling = _sampling(config, tiers, np.array([len(part) for part in parts]), tier_seed, cohort_seed)
    strategy = _strategy(config, model, images, shapes["params"], tiers, mean_samples=float(sampling.sizes.mean()))
    tier_names = tuple(tier.name for tier in tiers)

    init_key, round_key = jax.random.split(jax.random.key(server.seed))
    return Preparation(
        engine=build_engine(
            strategy,
            build_local_update(_training_mode(model), training, capacity=int(sampling.sizes.max())),
            build_evaluate(model, has_statistics="batch_stats" in shapes),
            tier_names,
            _clients_per_chunk(server),
        ),
        strategy=strategy,
        state=jax.jit(lambda key: strategy.init(model.init(key, jnp.zeros(images.shape, images.dtype))["params"]))(
            init_key
        ),
        data=place_clients(dataset.train_images, dataset.train_labels, parts, dataset.classes),
        test=place_evaluation(
            dataset.test_images,
            dataset.test_labels,
            config.evaluation.batch_size,
            train_samples=len(dataset.train_labels),
            statistics_samples=config.evaluation.statistics_samples,
            seed=statistics_seed,
        ),
        sampling=sampling,
        key=round_key,
        plan=RunPlan(
            config=config,
            costs=_tier_costs(model, strategy, shapes["params"], images, tiers, sampling),
            label_counts=label_counts(dataset.train_labels, parts, dataset.classes),
            tier_of_client=sampling.tier_of_client,
            tier_names=tier_names,
        ),
    )


def _training_mode(model: nn.Module) -> Apply:
    def apply(params: Params, images: jax.Array, *, mask: jax.Array | None, train: bool, key: jax.Array) -> jax.Array:
        logits: Any = model.apply({"params": params}, images, mask=mask, train=train, rngs={"dropout": key})
        return logits

    return apply


def _sampling(
    config: SimulationConfig, tiers: Sequence[Tier], sizes: np.ndarray, tier_seed: int, cohort_seed: int
) -> CohortSampling:
    server, clients = config.server, len(sizes)
    dynamic = config.tiers.assignment == "dynamic"
    drawn = server.cohort_size if server.cohort_size is not None else max(round(server.participation * clients), 1)
    return CohortSampling(
        sizes=sizes,
        tier_of_client=None if dynamic else assign_tiers(tiers, clients, tier_seed),
        shares=tuple(tier.share for tier in tiers),
        capacities=cohort_capacities(tiers, clients, drawn, dynamic),
        cohort_size=drawn,
        seed=cohort_seed,
    )


def _load(data: DataConfig) -> Dataset:
    return load_dataset(
        data.name,
        data_dir=data.data_dir,
        train_split=data.train_split,
        test_split=data.test_split,
        train_samples=data.train_samples,
        test_samples=data.test_samples,
        cache_dir=data.cache_dir,
    )


def _deal(dataset: Dataset, dealing: PartitionConfig, seed: int) -> list[np.ndarray]:
    return partition(
        dealing.method,
        dataset.train_labels,
        dataset.classes,
        clients=dealing.clients,
        alpha=dealing.alpha,
        min_samples=dealing.min_samples,
        classes_per_client=dealing.classes_per_client,
        seed=seed,
    )


def _check_batch_size(batch_size: int, parts: list[np.ndarray]) -> None:
    smallest = min(len(part) for part in parts)
    if batch_size > smallest:
        raise ConfigError.of(
            "local.batch_size", batch_size, f"at most {smallest}, the number of samples of the smallest client"
        )


def _local_training(local: LocalConfig) -> LocalTraining:
    return LocalTraining(
        optimizer=optimizer_by_name(local.optimizer, local.momentum),
        batch_size=local.batch_size,
        epochs=local.epochs,
        steps=local.steps,
        weight_decay=local.weight_decay,
        frobenius_decay=local.frobenius_decay,
        proximal=local.proximal,
        masked_loss=local.masked_loss,
        augment=local.augmentation == "crop_flip",
    )


def _built_in_model(model: ModelConfig, classes: int, server: ServerConfig) -> nn.Module:
    if model.full_rank_blocks is not None and model.full_rank_blocks > (most := sum(RESNETS[model.name][0])):
        raise ConfigError.of("model.full_rank_blocks", model.full_rank_blocks, f"from 0 to {most} for {model.name}")
    return build_model(
        model.name,
        classes,
        norm=model.norm,
        full_rank_blocks=model.full_rank_blocks,
        hidden=model.hidden,
        convolution=server.convolution,
    )


def _check_model(model: nn.Module, images: jax.ShapeDtypeStruct, classes: int) -> Params:
    """Shapes of the model's variables, after a dry run on a batch of the right shape."""
    if not isinstance(model, nn.Module):
        raise ConfigError.of("model", model, "an instance of flax.linen.Module")
    size = " x ".join(str(length) for length in images.shape[1:])
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        for path, leaf in named_leaves(variables["params"]).items():
            if leaf.size == 0:
                raise ValueError(f"{path} would be empty, its shape is {leaf.shape}")
        mask = jax.ShapeDtypeStruct(images.shape[:1], images.dtype)
        logits = jax.eval_shape(
            lambda params, x, m: _training_mode(model)(params, x, mask=m, train=True, key=jax.random.key(0)),
            variables["params"],
            images,
            mask,
        )
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"model is {type(model).__name__}, but must be a module that maps images of {size} pixels with "
            f"module(images, mask=mask, train=train) ({type(error).__name__}: {first_line})"
        ) from error
    if logits.shape != (images.shape[0], classes):
        raise ConfigError.of(
            "model", type(model).__name__, f"a module with output (batch, {classes}); its output is {logits.shape}"
        )
    if any(map(is_factors, jax.tree.leaves(variables["params"], is_leaf=is_factors))):
        raise ConfigError.of(
            "model", type(model).__name__, "a module whose layers have rank=None; the tiers set the ranks"
        )
    if set(variables) - {"params", "batch_stats"}:
        raise ConfigError.of(
            "model", type(model).__name__, "a module without variables other than 'params' and 'batch_stats'"
        )
    return variables


def _strategy(
    config: SimulationConfig,
    model: nn.Module,
    images: jax.ShapeDtypeStruct,
    params: Params,
    tiers: Sequence[Tier],
    mean_samples: float,
) -> Strategy:
    kernels = factorizable_kernels(model, images)
    plans = [plan_ranks(kernels, tier.rank_factor) for tier in tiers]
    for tier, plan in zip(tiers, plans, strict=True):
        if tier.rank_factor > 1 and not plan:
            raise ConfigError.of(
                "tiers.rank_factors",
                tier.rank_factor,
                f"1 for {type(model).__name__}, which has no low-rank layer that this factor makes smaller",
            )
    owned_rows = config.strategy.classifier_rows == "owned"
    if owned_rows and not any(path.split("/")[0] == CLASSIFIER for path in named_leaves(params)):
        raise ConfigError.of(
            "strategy.classifier_rows", "owned", f"'all' for a model without a layer named {CLASSIFIER!r}"
        )
    return fedhm(
        plans,
        [tier.rank_factor for tier in tiers],
        weighting=config.strategy.weighting,
        temperature=config.strategy.temperature,
        history_samples=mean_samples if config.strategy.history else None,
        classifier=CLASSIFIER if owned_rows else None,
    )


def _clients_per_chunk(server: ServerConfig) -> int:
    if server.clients_per_chunk is not None:
        return server.clients_per_chunk
    return 1 if jax.default_backend() == "cpu" else 16


def _tier_costs(
    model: nn.Module,
    strategy: Strategy,
    params: Params,
    images: jax.ShapeDtypeStruct,
    tiers: Sequence[Tier],
    sampling: CohortSampling,
) -> tuple[TierCost, ...]:
    one_image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)

    def forward(params: Params, images: jax.Array) -> jax.Array:
        # Training mode, so that no statistics are needed; it multiplies nothing that evaluation does not.
        return _training_mode(model)(params, images, mask=None, train=True, key=jax.random.key(0))

    clients, fixed = len(sampling.sizes), sampling.tier_of_client is not None
    numbers = tier_sizes(tiers, clients).tolist() if fixed else [tier.share * clients for tier in tiers]
    received = jax.eval_shape(lambda tree: strategy.distribute(strategy.init(tree)), params)
    return tuple(
        TierCost(
            tier=tier.name,
            rank_factor=tier.rank_factor,
            clients=number,
            parameters=count_parameters(tree),
            macs=count_macs(forward, tree, one_image),
            bytes_down=count_bytes(tree),
            bytes_up=count_bytes(tree),
        )
        for tier, tree, number in zip(tiers, received, numbers, strict=True)
    )
