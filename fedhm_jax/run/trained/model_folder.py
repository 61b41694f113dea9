"""The final models of a run on disk, and a finished run read back from its folder without its data.

``<run>/models`` holds ``global.safetensors`` and a file for every tier, such as ``f4.safetensors``. A tier that
predicts with the global model itself has none of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from json import loads
from pathlib import Path

import jax
from flax import linen as nn

from fedhm_jax.config import OutputConfig, SimulationConfig, read_handed_over
from fedhm_jax.errors import ConfigError
from fedhm_jax.files import writing
from fedhm_jax.models import Network
from fedhm_jax.reporting import FinishedRun, is_finished, read_run
from fedhm_jax.results import SimulationResult
from fedhm_jax.run.model_file import ModelFile, from_tensors, read_model_file, write_model_file
from fedhm_jax.run.preparation.assembly import module_of
from fedhm_jax.run.preparation.cohort import tiers_of
from fedhm_jax.run.preparation.handed_over import HandedOver, names_of, refuse_others
from fedhm_jax.run.preparation.model import check_model
from fedhm_jax.run.preparation.strategy import build_setting, build_strategy, chosen_builder
from fedhm_jax.run.traced_program import prediction_digest, refuse_other_program
from fedhm_jax.run.trained.model_inputs import inputs_from
from fedhm_jax.run.trained.trained_model import GLOBAL, Models, TrainedModel, network_and_params
from fedhm_jax.strategies import Setting, State, Strategy
from fedhm_jax.tasks import CLASSIFICATION
from fedhm_jax.tree import Params

_CODE = ("model", "strategy")
"""What predictions need of what was handed over."""


def write_models(folder: Path, models: Mapping[str, TrainedModel]) -> None:
    """Writes the final models into a run's folder.

    Args:
        folder: the run's.
        models: from `fedhm_jax.run.trained.trained_model.trained_models`.

    Raises:
        WriteError: one could not be written; those before are whole.
    """
    with writing("the trained models", folder):
        (folder / "models").mkdir(exist_ok=True)
    shared = models[GLOBAL]
    for name, model in models.items():
        if name == GLOBAL or model.params is not shared.params or model.network is not shared.network:
            write_model_file(_place(folder, name), model.as_file())


def stored_model(folder: Path, name: str) -> ModelFile:
    """The file of a finished run's model; nothing is computed.

    Args:
        folder: the run's.
        name: ``"global"`` or a tier's.

    Returns:
        What the model's own file would hold, also where it shares the global model's.

    Raises:
        ConfigError: no finished run, or it has no such model.
    """
    costs = {cost.tier: cost for cost in read_finished(folder).costs}
    if name not in (GLOBAL, *costs):
        raise ConfigError.of("model", name, "one of " + ", ".join(map(repr, (GLOBAL, *costs))))
    path = _place(folder, name)
    if path.exists():
        return read_model_file(path, "model")
    shared = read_model_file(_place(folder, GLOBAL), "model")
    return shared._replace(about={**shared.about, "model": name, "size": costs[name].size})


def load_run(
    folder: Path | str,
    *,
    model: nn.Module | None = None,
    strategy: Callable[[Setting], Strategy] | None = None,
) -> SimulationResult:
    """A finished run read back from its folder, its models ready to predict; the data set is not loaded.

    Args:
        folder: the run's, also that of a run of a study.
        model: the module, if one was handed over to the run.
        strategy: the builder, if one was handed over.

    Returns:
        Config, history, final metrics, costs, and the trained models.

    Raises:
        ConfigError: no finished run; or its model or strategy is not given again, or is another one.

    Example:
        >>> import tempfile
        >>> from fedhm_jax import ModelConfig, OutputConfig, ServerConfig, SimulationConfig
        >>> from fedhm_jax import load_dataset, load_run, simulate
        >>> with tempfile.TemporaryDirectory() as place:
        ...     config = SimulationConfig(model=ModelConfig("mlp"), server=ServerConfig(rounds=1))
        ...     result = simulate(replace(config, output=OutputConfig(folder=Path(place) / "run")))
        ...     loaded = load_run(Path(place) / "run")  # the folder is not needed any more
        >>> images = load_dataset("digits").test_images[:2]
        >>> bool((loaded.predict(images, "f4") == result.predict(images, "f4")).all())
        True
    """
    folder = Path(folder)
    run = read_finished(folder)
    then = {name: value for name, value in read_handed_over(folder / "config.toml").items() if name in _CODE}
    given = names_of(HandedOver(model=model, strategy=strategy))
    refuse_others(given, then, f"load_run({str(folder)!r}, ")
    names = (GLOBAL, *(cost.tier for cost in run.costs))
    about = stored_model(folder, GLOBAL).about
    setting, built = _method(run.config, about, model, strategy)
    loaded = {name: _load(folder, setting, built, run.config, given, names[1:], name) for name in names}
    return SimulationResult(
        config=replace(run.config, output=replace(run.config.output, folder=folder)),
        history=run.history,
        final=run.final,
        costs=run.costs,
        params=loaded[GLOBAL].params,
        folder=folder,
        models=Models(loaded.__getitem__, names),
        score=run.score,
    )


def read_finished(folder: Path) -> FinishedRun:
    """`fedhm_jax.reporting.read_run`, with a sentence of its own where there is no finished run.

    Args:
        folder: the run's.

    Returns:
        The run.

    Raises:
        ConfigError: no finished run, or one without models.
    """
    if not is_finished(folder):
        unfinished = (folder / "config.toml").exists()
        hint = f"; simulate(resume={str(folder)!r}) goes on with this one" if unfinished else ""
        raise ConfigError.of("run", str(folder), f"the folder of a finished run{hint}")
    if not (folder / "models").is_dir():
        raise ConfigError.of("run", str(folder), "the folder of a run that keeps its models; clients alone keep none")
    return read_run(folder)


def _method(
    config: SimulationConfig,
    about: Mapping[str, str],
    model: nn.Module | None,
    strategy: Callable[[Setting], Strategy] | None,
) -> tuple[Setting, Strategy[State]]:
    """The strategy as the run built it, for all that its networks depend on."""
    outputs, inputs = loads(about["classes"]), inputs_from(about).batch
    module = module_of(config, inputs, outputs, model)
    variables = check_model(module, inputs, outputs)
    tiers = tiers_of(config.tiers)
    # No prediction depends on the task, and of samples without classes no classifier's rows are anybody's own.
    task = CLASSIFICATION._replace(has_classes="image_shape" in about)
    setting = build_setting(config, module, inputs, variables, tiers, task, mean_samples=1.0)
    return setting, build_strategy(config, setting, chosen_builder(config, strategy))


def _load(
    folder: Path,
    setting: Setting,
    strategy: Strategy[State],
    config: SimulationConfig,
    given: Mapping[str, str],
    tier_names: tuple[str, ...],
    name: str,
) -> TrainedModel:
    file = stored_model(folder, name)
    about = file.about
    state = jax.eval_shape(strategy.init, setting.shapes, jax.random.key(0))
    network, shapes = _shapes(strategy, state, tier_names, name)
    statistics = jax.eval_shape(network.statistics, shapes, setting.inputs) if setting.has_statistics else {}
    try:
        params = from_tensors(file.tensors, "params", shapes)
        statistics = from_tensors(file.tensors, "batch_stats", statistics)
    except ValueError as error:
        parts = " and ".join(f"{argument} {value}" for argument, value in given.items())
        for_parts = f" for {parts}" if parts else ""
        raise ConfigError(f"the model {name!r} in {str(folder)!r} {error}{for_parts}") from error
    then = about.get("traced")
    now = prediction_digest(network, shapes, statistics, setting.inputs) if given else None
    # The words of a program are JAX's, and other in every version.
    if then is None or now is None or now.split()[:2] == then.split()[:2]:
        refuse_other_program(given, now, then)
    return TrainedModel(
        name=name,
        size=about["size"],
        params=params,
        statistics=statistics,
        inputs=inputs_from(about),
        outputs=loads(about["classes"]),
        module=about["module"],
        strategy=about["strategy"],
        config=replace(config, output=OutputConfig()),
        traced=then,
        network=network,
    )


def _shapes(strategy: Strategy[State], state: State, tier_names: tuple[str, ...], name: str) -> tuple[Network, Params]:
    network = strategy.network if name == GLOBAL else strategy.networks[tier_names.index(name)]
    return network, jax.eval_shape(lambda state: network_and_params(strategy, state, tier_names, name)[1], state)


def _place(folder: Path, name: str) -> Path:
    return folder / "models" / f"{name}.safetensors"
