"""A round for a platform that is not at hand: traced here on shapes, to be lowered or compiled for it."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from fedhm_jax.config import SimulationConfig
from fedhm_jax.engine import Engine
from fedhm_jax.run.preparation.assembly import Run, check_run, engine_of, on_shapes
from fedhm_jax.run.preparation.handed_over import NOTHING, HandedOver
from fedhm_jax.run.preparation.platform_defaults import with_defaults_of
from fedhm_jax.server import Cohort
from fedhm_jax.strategies import State


class ForeignRun(NamedTuple):
    """A run as another platform would have it.

    Attributes:
        run: with shapes in place of arrays.
        engine: its round and its evaluation.
        round_arguments: shapes of the arguments of ``engine.round_step``.
        evaluation_arguments: shapes of the arguments of ``engine.evaluate``.
    """

    run: Run
    engine: Engine[State]
    round_arguments: tuple[Any, ...]
    evaluation_arguments: tuple[Any, ...]


def run_for(
    platform: str, config: SimulationConfig, given: HandedOver = NOTHING, mesh: Mesh | None = None
) -> ForeignRun:
    """What a platform would run: its defaults, its mesh, shapes in place of arrays; nothing is computed.

    Args:
        platform: ``cpu``, ``gpu`` or ``tpu``, as `jax.default_backend` names them.
        config: the run's.
        given: what is handed over in place of what the config says. A module or strategy of one's own has to choose
            for the platform by itself.
        mesh: devices that its clients are spread over, which need not be there; None for one device.

    Returns:
        The run.

    Raises:
        ConfigError: as in `check_run`.

    Example:
        >>> foreign = run_for("gpu", SimulationConfig())
        >>> foreign.run.clients_per_chunk  # as many as a tier can have in a cohort
        5
        >>> foreign.round_arguments[1].samples.images  # the clients' samples
        ShapeDtypeStruct(shape=(1437, 8, 8, 1), dtype=uint8)
    """
    parts = check_run(with_defaults_of(platform, config), given)._replace(mesh=mesh)
    run = on_shapes(parts)
    rate = jax.ShapeDtypeStruct((), np.float32)
    capacities = parts.sampling.capacities
    cohort = Cohort(
        tuple(jax.ShapeDtypeStruct((capacity,), np.int32) for capacity in capacities),
        jax.ShapeDtypeStruct((len(capacities),), np.int32),
    )
    return ForeignRun(
        run=run,
        engine=engine_of(run, int(parts.sampling.sizes.max())),
        round_arguments=(run.state, run.data, cohort, rate, run.key),
        evaluation_arguments=(run.state, run.data, run.test),
    )
