"""Running out of memory: how it is known, and what to say and to try."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from fedhm_jax.config import SimulationConfig
from fedhm_jax.errors import OutOfMemoryError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that device or host ran out of memory.

    Args:
        error: from XLA, when a program is compiled or run or an array is placed, or from NumPy.

    Returns:
        The answer.

    Example:
        >>> xla = jax.errors.JaxRuntimeError
        >>> [is_out_of_memory(xla(text)) for text in ("RESOURCE_EXHAUSTED: Out of memory", "INTERNAL: no such device")]
        [True, False]
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        # XLA's CPU runtime calls a failed allocation inside a program an internal error.
        return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)
    return isinstance(error, MemoryError)


@contextmanager
def reporting_out_of_memory(sentence: Callable[[], OutOfMemoryError]) -> Iterator[None]:
    """Turns an error of a block that ran out of memory into a sentence; other errors pass.

    Args:
        sentence: builds what to raise; if it were built before, its traceback would hold on to the failed block's
            arrays.

    Yields:
        Nothing.

    Raises:
        OutOfMemoryError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise sentence() from error


def placement_error(config: SimulationConfig, samples: int, devices: int = 1) -> OutOfMemoryError:
    """What to say where data and model do not fit onto the device.

    Args:
        config: the run's.
        samples: number of training samples.
        devices: that the run spreads over.

    Returns:
        The exception, ready to raise.

    Example:
        >>> str(placement_error(SimulationConfig(), 1000, devices=2)).partition("; ")[2]
        "try server.samples = 'sharded', data.train_samples = 500 or a smaller model"
    """
    spread = "server.samples = 'sharded', " if devices > 1 and config.server.samples == "replicated" else ""
    remedy = f"{spread}data.train_samples = {samples // 2} or a smaller model"
    stage = f"placing {samples} training samples and the model on the device"
    return OutOfMemoryError.of(stage, "data.train_samples", config.data.train_samples, remedy)


def training_error(config: SimulationConfig, clients_per_chunk: int, runs: int = 1) -> OutOfMemoryError:
    """What to say where a round does not fit: half the chunk, and smaller clients if the chunk is one of them.

    Args:
        config: the run's.
        clients_per_chunk: number of clients that trained side by side.
        runs: number of runs that share the program.

    Returns:
        The exception, ready to raise; its ``clients_per_chunk`` is None if there is no smaller chunk.

    Example:
        >>> str(training_error(SimulationConfig(), 16))
        'ran out of memory while training 16 clients side by side: server.clients_per_chunk is unset; \
try server.clients_per_chunk = 8'
    """
    merge, asked, remedies = config.aggregation.merge, config.server.clients_per_chunk, []
    if merge != "mean":
        remedies.append(f"a smaller server.cohort_size (aggregation.merge = {merge!r} holds all updates of a round)")
    if runs > 1:
        remedies.append(f"fewer than {runs} runs at once")
    if clients_per_chunk == 1:
        remedy = " or ".join(["a smaller local.batch_size or model", *remedies])
        return OutOfMemoryError.of("training one client at a time", "local.batch_size", config.local.batch_size, remedy)
    half = clients_per_chunk // 2
    stage = f"training {clients_per_chunk} clients side by side"
    remedy = " or ".join([f"server.clients_per_chunk = {half}", *remedies])
    return OutOfMemoryError.of(stage, "server.clients_per_chunk", asked, remedy, clients_per_chunk=half)


def evaluation_error(config: SimulationConfig, batch_size: int) -> OutOfMemoryError:
    """What to say where testing does not fit.

    Args:
        config: the run's.
        batch_size: test samples in a batch, at most as many as there are.

    Returns:
        The exception, ready to raise.
    """
    remedy = f"evaluation.batch_size = {batch_size // 2}" if batch_size > 1 else "a smaller model"
    return OutOfMemoryError.of("evaluating", "evaluation.batch_size", config.evaluation.batch_size, remedy)
