"""One round compiled for one target, and what the compiler says about it."""

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.targets.cases import Case, config_of, data_of
from benchmarks.targets.chips import CHIPS, Target, mesh_of
from benchmarks.targets.hlo import parse
from benchmarks.targets.work import RoundWork, round_work
from fedhm_jax.run.foreign import ForeignRun, run_for

_XLA_NAMES = {"gpu": "cuda", "tpu": "tpu"}


class Lowered(NamedTuple):
    """A round in XLA's words, before it is compiled.

    Attributes:
        program: the round.
        digest: of its text: two rounds of one digest are one program.
        flops: of a local step, forward and backward, of each tier's clients on one chip.
    """

    program: jax.stages.Lowered
    digest: str
    flops: tuple[float, ...]


class Compiled(NamedTuple):
    """What the compiler says.

    Attributes:
        seconds: that compiling took.
        memory: bytes that one chip holds while the round runs.
        work: what the round launches and moves on one chip.
    """

    seconds: float
    memory: int
    work: RoundWork


def lower(case: Case, target: Target, devices: Sequence[jax.Device]) -> Lowered:
    """Traces a round as a target would run it, and lowers it.

    Args:
        case: the round.
        target: what it is for.
        devices: the target's, from `benchmarks.targets.chips.devices_of`.

    Returns:
        The round.
    """
    platform, mesh = CHIPS[target.chip].platform, mesh_of(list(devices))
    foreign = run_for(platform, config_of(case, len(devices)), data_of(case, len(devices)), mesh)
    arguments = _placed(foreign, devices[0], mesh)
    traced = jax.jit(foreign.engine.round_step, donate_argnums=0).trace(*arguments)
    program = traced.lower(lowering_platforms=(_XLA_NAMES[platform],))
    digest = blake2b(program.as_text().encode(), digest_size=8).hexdigest()
    samples = case.side_by_side * case.batch_size
    # A pass backward takes the products of a pass forward twice, and a multiply-accumulate is two operations.
    flops = tuple(6.0 * cost.train_macs * samples for cost in foreign.run.parts.plan.costs)
    return Lowered(program, digest, flops)


def compile_round(lowered: Lowered) -> Compiled:
    """Compiles a round.

    Args:
        lowered: from `lower`.

    Returns:
        What the compiler says.

    Raises:
        jax.errors.JaxRuntimeError: the compiler refuses, such as a TPU's where a round does not fit.
    """
    started = time.perf_counter()
    compiled = lowered.program.compile()
    seconds = time.perf_counter() - started
    return Compiled(seconds, bytes_held(compiled), round_work(parse(compiled.as_text() or "")))


def bytes_held(compiled: jax.stages.Compiled) -> int:
    """What a device holds while a program runs: arguments, results, temporaries and code.

    Args:
        compiled: for any device.

    Returns:
        Bytes.

    Raises:
        ValueError: the compiler does not tell.
    """
    memory = compiled.memory_analysis()
    if memory is None:
        raise ValueError("the compiler does not tell how much memory the program takes")
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(arrays + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes)


def _placed(foreign: ForeignRun, device: jax.Device, mesh: Mesh | None) -> tuple[jax.ShapeDtypeStruct, ...]:
    sharding = SingleDeviceSharding(device) if mesh is None else NamedSharding(mesh, PartitionSpec())
    placed: tuple[jax.ShapeDtypeStruct, ...] = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), foreign.round_arguments
    )
    return placed
