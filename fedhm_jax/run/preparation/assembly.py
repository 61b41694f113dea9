"""From a config to the parts of a run: the one place where config fields meet numeric code."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from fedhm_jax.client import LocalTraining
from fedhm_jax.config import SimulationConfig, check_clients
from fedhm_jax.data import AnyData, ClientData, Text, assign_holders, deal_out
from fedhm_jax.engine import (
    Engine,
    EvaluationData,
    build_engine,
    client_mesh,
    deal_batches,
    replicate,
    shard_clients,
    shard_evaluation,
    show_cores,
)
from fedhm_jax.errors import ConfigError
from fedhm_jax.results import RunPlan
from fedhm_jax.run.memory import placement_error, reporting_out_of_memory
from fedhm_jax.run.preparation.cohort import CohortSampling, client_seconds_of, clients_by_tier, sampling_of, tiers_of
from fedhm_jax.run.preparation.data import build_dataset, deal, notices_of
from fedhm_jax.run.preparation.handed_over import NOTHING, HandedOver, names_of, qualified_name
from fedhm_jax.run.preparation.learning import (
    Learning,
    counts_by_class,
    learning_of,
    metrics_of,
    samples_on_host,
)
from fedhm_jax.run.preparation.local import check_batch_size, check_samples, local_training
from fedhm_jax.run.preparation.merge import build_account, build_rule
from fedhm_jax.run.preparation.model import built_in_model, check_model, initial_params
from fedhm_jax.run.preparation.own_strategy import check_own_strategy
from fedhm_jax.run.preparation.platform_defaults import (
    RUNS_ONCE,
    clients_side_by_side,
    compiler_options,
    convolution_method,
)
from fedhm_jax.run.preparation.server import optimized
from fedhm_jax.run.preparation.strategy import (
    build_setting,
    build_strategy,
    chosen_builder,
    tier_costs,
)
from fedhm_jax.run.spectral_norms import largest_spectral_norm
from fedhm_jax.server import MergeRule, PrivacyAccount
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tree import Params


class RunParts(NamedTuple):
    """A run after all checks, before anything is on a device.

    Attributes:
        dataset: its samples.
        learning: what they are to teach.
        dealt: indices of each client's training samples.
        training: how clients train.
        setting: what the strategy was built for.
        first_params: the parameters to start from; None to initialise the model anew.
        strategy: the federated method.
        rule: how updates are judged and merged.
        account: what rounds cost in privacy; None without.
        sampling: how cohorts are drawn.
        client_seconds: (tiers, clients) simulated seconds that each client's round takes in each tier.
        statistics_seed: picks the samples that static batch norm statistics are measured on.
        mesh: the devices that its rounds spread over; None for a single one.
        plan: what reports may know.
        notices: what was decided that the user may not expect, in lines.
    """

    dataset: AnyData
    learning: Learning
    dealt: list[np.ndarray]
    training: LocalTraining
    setting: Setting
    first_params: Params | None
    strategy: Strategy[State]
    rule: MergeRule
    account: PrivacyAccount | None
    sampling: CohortSampling
    client_seconds: np.ndarray
    statistics_seed: int
    mesh: Mesh | None
    plan: RunPlan
    notices: tuple[str, ...]


class Run(NamedTuple):
    """A run on its devices, ready to start.

    Attributes:
        parts: what it consists of.
        clients_per_chunk: clients to train side by side; never more than there can be.
        state: server state before the first round.
        data: the clients' samples.
        test: the test set.
        key: PRNG key of the rounds.
    """

    parts: RunParts
    clients_per_chunk: int
    state: State
    data: ClientData
    test: EvaluationData
    key: jax.Array


def check_run(config: SimulationConfig, given: HandedOver = NOTHING) -> RunParts:
    """Builds the parts of a run and refuses what cannot run; nothing is compiled or put on a device.

    Args:
        config: a config that passed `fedhm_jax.config.check_config`.
        given: what is handed over in place of what the config says.

    Returns:
        The parts, with the costs of every tier in their plan.

    Raises:
        ConfigError: data, model, strategy, devices and config do not fit together.

    Example:
        >>> [cost.parameters for cost in check_run(SimulationConfig()).plan.costs]
        [13706, 9354, 5130, 3018]
    """
    show_cores(config.server.devices)
    builder = chosen_builder(config, given.strategy)
    partition_seed, tier_seed, cohort_seed, statistics_seed = (
        np.random.SeedSequence(config.server.seed).generate_state(4).tolist()
    )
    dataset = build_dataset(config.data, given.data)
    learning = learning_of(dataset, config.local, given.task)
    training = local_training(config.local, learning.task)
    dealt = deal(dataset, config.data, config.partition, given.partition, partition_seed)
    check_clients(config, len(dealt))
    check_batch_size(training.batch_size, dealt)

    model = module_of(config, learning.inputs, learning.outputs, given.model)
    variables = check_model(model, learning.inputs, learning.outputs)
    first_params = initial_params(config.model, given.init, variables["params"])
    tiers = tiers_of(config.tiers)
    sampling = sampling_of(config, tiers, np.array([len(part) for part in dealt]), tier_seed, cohort_seed)
    check_samples(config.local, sampling.sizes, sampling.cohort_size)
    mesh = client_mesh(config.server.devices, sampling.cohort_size)
    clients, mean_samples = clients_by_tier(tiers, sampling), float(sampling.sizes.mean())
    setting = build_setting(config, model, learning.inputs, variables, tiers, learning.task, mean_samples, clients)
    metrics = metrics_of(setting, learning, config.evaluation.worst_client)
    method = build_strategy(config, setting, builder)
    if builder is not None:
        check_own_strategy(method, setting, learning, qualified_name(builder))
    built = optimized(method, setting, config.server, given.server_optimizer)
    rule = build_rule(config, setting, built, learning.classes, handed_over=builder is not None)
    plan = RunPlan(
        config=config,
        costs=tier_costs(built, setting, tiers, clients, learning, config.local.batch_size),
        label_counts=counts_by_class(dataset, dealt),
        tier_of_client=sampling.tier_of_client,
        tier_names=tuple(tier.name for tier in tiers),
        handed_over=names_of(given),
        score=learning.task.score,
        metrics=metrics,
    )
    return RunParts(
        dataset=dataset,
        learning=learning,
        dealt=dealt,
        training=training,
        setting=setting,
        first_params=first_params,
        strategy=built,
        rule=rule,
        account=build_account(config, len(dealt), sampling.cohort_size),
        sampling=sampling,
        client_seconds=client_seconds_of(config, plan.costs, sampling.sizes),
        statistics_seed=statistics_seed,
        mesh=mesh,
        plan=plan,
        notices=notices_of(dataset, config.partition, tiers, None if config.tiers.counts else sampling.tier_of_client),
    )


def prepare(config: SimulationConfig, given: HandedOver = NOTHING) -> Run:
    """`check_run`, and then data and first model on the devices; arguments as there.

    Returns:
        The run before its first round.

    Raises:
        ConfigError: as in `check_run`.
        OutOfMemoryError: data and model are too large for the device.
    """
    parts = check_run(config, given)
    devices = 1 if parts.mesh is None else parts.mesh.size
    with reporting_out_of_memory(partial(placement_error, config, parts.dataset.train_size, devices)):
        return _place(parts)


def module_of(
    config: SimulationConfig, inputs: jax.ShapeDtypeStruct, outputs: int | None, given: nn.Module | None
) -> nn.Module:
    """The full-rank model of a run.

    Args:
        config: the run's.
        inputs: shape and dtype of a batch.
        outputs: how many it has to have; None where only the task can tell.
        given: in place of the one that the config names.

    Returns:
        The module, not checked yet.

    Raises:
        ConfigError: the config asks for what its model does not have.
    """
    if given is not None:
        return given
    if outputs is None:
        raise ConfigError("model is not given, but must be for data from data_from_arrays: simulate(..., model=...)")
    return built_in_model(config.model, inputs, outputs, convolution_method(config.server, jax.default_backend()))


def engine_of(run: Run, capacity: int) -> Engine[State]:
    """Round and evaluation of a run.

    Args:
        run: the run.
        capacity: samples of the largest client that it must serve.

    Returns:
        The engine, for as many clients side by side as the run asks for.
    """
    parts = run.parts
    watched: Any = {"watch": largest_spectral_norm} if parts.plan.config.evaluation.spectral_norms else {}
    return build_engine(
        parts.strategy,
        parts.training,
        capacity,
        parts.plan.tier_names,
        run.clients_per_chunk,
        parts.mesh,
        parts.rule,
        **watched,
    )


def _place(parts: RunParts) -> Run:
    model_key, round_key = jax.random.split(jax.random.key(parts.plan.config.server.seed))
    options = compiler_options(jax.default_backend(), RUNS_ONCE)
    begin = jax.jit(partial(_first_state, parts.strategy, parts.setting), compiler_options=options)
    state = begin(model_key, parts.first_params)
    state, round_key = replicate((state, round_key), parts.mesh)
    return _run_of(parts, (state, *place_data(parts), round_key))


def place_data(parts: RunParts) -> tuple[ClientData, EvaluationData]:
    """Puts the clients' samples and the test set on the devices.

    Args:
        parts: from `check_run`.

    Returns:
        Both, as ``server.samples`` has them.
    """
    (data, test), mesh, sampling = data_on_host(parts), parts.mesh, parts.sampling
    if parts.plan.config.server.samples == "replicated" or mesh is None:
        replicated: tuple[ClientData, EvaluationData] = replicate((data, test), mesh)
        return replicated
    holders = assign_holders(sampling.sizes, sampling.tier_of_client, mesh.size)
    window = parts.dataset.window if isinstance(parts.dataset, Text) else None
    measured_on = data.samples if parts.setting.has_statistics else None
    return shard_clients(data, holders, mesh, window), shard_evaluation(test, measured_on, mesh, window)


def on_shapes(parts: RunParts) -> Run:
    """A run whose state, data, test set and key are shapes, to be traced and compiled for devices that are not there.

    Args:
        parts: from `check_run`; samples are taken as replicated.

    Returns:
        The run, with `jax.ShapeDtypeStruct` in place of arrays.

    Example:
        >>> run = on_shapes(check_run(SimulationConfig()))
        >>> run.data.samples.images.shape, run.clients_per_chunk
        ((1437, 8, 8, 1), 1)
    """
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    state = jax.eval_shape(partial(_first_state, parts.strategy, parts.setting), key, parts.first_params)
    return _run_of(parts, (state, *jax.eval_shape(partial(data_on_host, parts)), key))


def _run_of(parts: RunParts, arrays: tuple[State, ClientData, EvaluationData, jax.Array]) -> Run:
    most_clients = -(-max(parts.sampling.capacities) // (1 if parts.mesh is None else parts.mesh.size))
    asked = clients_side_by_side(parts.plan.config.server, jax.default_backend())
    return Run(parts, min(asked, most_clients), *arrays)


def data_on_host(parts: RunParts) -> tuple[ClientData, EvaluationData]:
    """The clients' samples and the test set before they are on a device.

    Args:
        parts: from `check_run`.

    Returns:
        Both, in host memory; samples are the data set's own arrays.
    """
    dataset, evaluation = parts.dataset, parts.plan.config.evaluation
    train, held_back = samples_on_host(dataset)
    test = deal_batches(
        held_back,
        dataset.test_size,
        evaluation.batch_size,
        train_samples=dataset.train_size,
        statistics_samples=evaluation.statistics_samples,
        seed=parts.statistics_seed,
    )
    owned = parts.plan.label_counts > 0 if parts.learning.task.has_classes else None
    return deal_out(train, parts.dealt, owned), test


def _first_state(strategy: Strategy[State], setting: Setting, key: jax.Array, params: Params | None) -> State:
    if params is None:
        params = setting.module.init(key, jnp.zeros(setting.inputs.shape, setting.inputs.dtype))["params"]
    return strategy.init(params, jax.random.fold_in(key, 1))
