"""Ways to compute a convolution, with clients side by side, in chunks, and one after another: for every shape."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import lax

from benchmarks.convolution import SHAPES, Shape, local_steps, operands
from benchmarks.on_accelerator.measurement import Case, Emit, Measurement, compare, compiled, repetitions_of
from benchmarks.on_accelerator.part import Choice, Part, table_of_ways
from benchmarks.report import ResultTable
from benchmarks.utilisation import default_scale
from fedhm_jax.layers.convolution import ConvMethod, automatic_method

NAME = "convolution"
METHODS: tuple[ConvMethod, ...] = ("lax", "gemm", "canonical")
CLIENTS, CHUNK = 16, 4
# What tells most comes first: the time may be over before the end of the list.
_ORDER = (
    *("ResNet-8 stage 1", "ResNet-18 stage 2", "ResNet-18 factor v", "CNN conv", "ResNet-18 factor u"),
    *("ResNet-8 stage 3", "ResNet-18 stage 4", "ResNet-18 stride 2", "ResNet-8 factor v", "ResNet-18 stage 1"),
    *("ResNet stem", "ResNet-8 stage 2", "ResNet-8 shortcut"),
)


def cases(tiny: bool) -> Sequence[Case]:
    """The shapes of `benchmarks.convolution`.

    Args:
        tiny: one of them, small, and two clients.

    Returns:
        A case a shape.
    """
    if tiny:
        return [Case("tiny", partial(_measure, Shape("tiny", 2, 6, 2, 3), 2, 1, 1, 1))]
    by_name = {shape.name: shape for shape in SHAPES}
    return [Case(name, partial(_measure, by_name[name], CLIENTS, CHUNK, 20, repetitions_of(tiny))) for name in _ORDER]


def _measure(shape: Shape, clients: int, chunk: int, steps: int, repetitions: int, emit: Emit) -> None:
    images, kernels = operands(shape, clients)
    at_once = {"side by side": clients, f"chunks of {chunk}": chunk, "one by one": 1}

    def build(method: ConvMethod, together: int) -> Callable[[], Any]:
        loop = local_steps(shape, steps, method)
        return compiled(lambda images, kernels: _over_clients(loop, images, kernels, together), images, kernels)

    ways = {
        f"{method}, {name}": partial(build, method, together)
        for name, together in at_once.items()
        for method in METHODS
    }
    kernel = (*shape.taps, shape.inputs, shape.outputs)
    method = automatic_method(kernel, shape.strides, jax.default_backend())
    arrangement = "one by one" if default_scale().clients_per_chunk == 1 else "side by side"
    compare(
        *(NAME, shape.name, ways, emit, repetitions),
        default=f"{method}, {arrangement}",
        scale=1 / (steps * clients),
    )


def _over_clients(loop: Callable[..., Any], images: jax.Array, kernels: jax.Array, together: int) -> Any:
    if together == len(images):
        return jax.vmap(loop)(images, kernels)
    if together == 1:
        return lax.map(lambda pair: loop(*pair), (images, kernels))
    return lax.map(lambda pair: loop(*pair), (images, kernels), batch_size=together)


def table(measurements: Sequence[Measurement]) -> ResultTable:
    """Microseconds a client and step, by shape and way."""
    title = "Convolutions: microseconds a client's step"
    return table_of_ways(NAME, title, measurements, factor=1e6, heading="convolution")


PART = Part(
    NAME,
    120,
    cases,
    table,
    f"Convolutions: forward pass and gradients in a loop of 20 steps of {CLIENTS} clients, each with a kernel of its "
    "own, float32; shapes are those of benchmarks/convolution.py.",
    Choice(
        "The automatic choice of a convolution (`automatic_method` in fedhm_jax/layers/convolution.py, with "
        "`server.clients_per_chunk` unset)"
    ),
)
