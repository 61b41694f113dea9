"""Which way to compute a convolution is the fastest?

``python -m benchmarks.convolution``. Forward pass and gradients inside a loop, as local training runs them, for
the convolutions of ResNet-8, of the CNN, and of ResNet-18, whole and factorized.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import lax
from rich.progress import track

from benchmarks.report import RESULTS, Report, ResultTable, show, write
from benchmarks.timing import Timing, compile_timed, time_in_turn
from fedhm_jax.layers.convolution import ConvMethod, Padding, Pair, conv2d, same_padding

METHODS: tuple[ConvMethod, ...] = ("gemm", "canonical", "auto")


class Shape(NamedTuple):
    """One convolution.

    Attributes:
        name: what it is.
        batch: images.
        size: side length in pixels.
        inputs: channels.
        outputs: channels.
        taps: (kh, kw).
        strides: along height and width.
    """

    name: str
    batch: int
    size: int
    inputs: int
    outputs: int
    taps: Pair = (3, 3)
    strides: Pair = (1, 1)


SHAPES = (
    Shape("CNN stem", 20, 28, 1, 16),
    Shape("CNN conv", 20, 14, 16, 32),
    Shape("ResNet stem", 20, 32, 3, 16),
    Shape("ResNet-8 stage 1", 20, 32, 16, 16),
    Shape("ResNet-8 stage 2", 20, 16, 32, 32),
    Shape("ResNet-8 stage 3", 20, 8, 64, 64),
    Shape("ResNet-8 stride 2", 20, 32, 16, 32, strides=(2, 2)),
    Shape("ResNet-8 shortcut", 20, 32, 16, 32, taps=(1, 1), strides=(2, 2)),
    Shape("ResNet-8 factor v", 20, 32, 16, 8, taps=(1, 3)),
    Shape("ResNet-8 factor u", 20, 32, 8, 16, taps=(3, 1)),
    Shape("ResNet-18 stage 1", 32, 32, 64, 64),
    Shape("ResNet-18 stage 2", 32, 16, 128, 128),
    Shape("ResNet-18 stage 3", 32, 8, 256, 256),
    Shape("ResNet-18 stage 4", 32, 4, 512, 512),
    Shape("ResNet-18 stride 2", 32, 32, 64, 128, strides=(2, 2)),
    Shape("ResNet-18 factor v", 32, 16, 128, 64, taps=(1, 3)),
    Shape("ResNet-18 factor u", 32, 16, 64, 128, taps=(3, 1)),
)


def measure(shapes: Sequence[Shape], steps: int, repetitions: int) -> Iterator[tuple[Shape, dict[str, Timing]]]:
    """Times every shape in every way.

    Args:
        shapes: convolutions.
        steps: of the loop.
        repetitions: timings of each.

    Yields:
        Seconds of one step, by method.
    """
    for shape in shapes:
        images, kernel = operands(shape)
        calls: dict[str, Any] = {}
        for method in METHODS:
            loop = local_steps(shape, steps, method)
            calls[method] = partial(compile_timed(loop, images, kernel).call, images, kernel)
        timings = time_in_turn(calls, repetitions)
        yield shape, {method: timing.scaled(1 / steps) for method, timing in timings.items()}


def operands(shape: Shape, *clients: int) -> tuple[jax.Array, jax.Array]:
    """Random images and a random kernel.

    Args:
        shape: the convolution.
        *clients: leading axes.

    Returns:
        (*clients, batch, size, size, inputs) and (*clients, kh, kw, inputs, outputs).

    Example:
        >>> [operand.shape for operand in operands(Shape("tiny", 2, 6, 2, 3), 5)]
        [(5, 2, 6, 6, 2), (5, 3, 3, 2, 3)]
    """
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.normal(keys[0], (*clients, shape.batch, shape.size, shape.size, shape.inputs))
    return images, jax.random.normal(keys[1], (*clients, *shape.taps, shape.inputs, shape.outputs)) * 0.05


def local_steps(
    shape: Shape, steps: int, method: ConvMethod
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """A loop of forward passes and gradients of one client, as local training runs them.

    Args:
        shape: the convolution.
        steps: of the loop.
        method: how it is computed.

    Returns:
        ``loop(images, kernel) -> (images, kernel)``.
    """
    rows, columns = (same_padding(shape.size, k, stride) for k, stride in zip(shape.taps, shape.strides, strict=True))
    return partial(_descend, steps, shape.strides, (rows, columns), method)


def _descend(
    steps: int, strides: Pair, padding: Padding, method: ConvMethod, images: jax.Array, kernel: jax.Array
) -> Any:
    """Descends a quadratic of the outputs, so that every step needs the one before it, and the gradients that training
    needs: of a first layer's kernel only."""

    def loss(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.square(conv2d(images, kernel, strides, padding, method)).sum() * 1e-6

    def first_layer(_: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        gradient = jax.grad(loss, 1)(*pair)
        return pair[0] + 1e-6 * gradient.mean(), pair[1] - 1e-3 * gradient

    def step(_: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        gradients = jax.grad(loss, (0, 1))(*pair)
        return pair[0] - 1e-3 * gradients[0], pair[1] - 1e-3 * gradients[1]

    return lax.fori_loop(0, steps, first_layer if images.shape[-1] < 4 else step, (images, kernel))


def build_report(rows: Sequence[tuple[Shape, dict[str, Timing]]], command: str) -> Report:
    """Table, notes and CSV rows.

    Args:
        rows: from `measure`.
        command: the command line.

    Returns:
        The report.
    """
    table = ResultTable(
        "Milliseconds of a forward pass and its gradients: median (least..most)",
        ("convolution", "images", "kernel", *METHODS, "auto / better of the others"),
        [
            (
                *(shape.name, f"{shape.batch} x {shape.size} x {shape.size} x {shape.inputs}"),
                "x".join(map(str, (*shape.taps, shape.inputs, shape.outputs))),
                *(timings[method].text(1000) for method in METHODS),
                f"{timings['auto'].median / min(timings[m].median for m in METHODS if m != 'auto'):.2f}",
            )
            for shape, timings in rows
        ],
    )
    notes = ("Inside a loop of steps, as local training runs it, one client at a time. auto: the simulator's choice.",)
    measurements = [
        {"convolution": shape.name, "method": method, "repetition": repetition, "seconds": seconds}
        for shape, timings in rows
        for method, timing in timings.items()
        for repetition, seconds in enumerate(timing.values)
    ]
    return Report("convolution", command, (table,), notes, measurements)


@dataclass(frozen=True)
class Options:
    """Times the ways to compute a convolution."""

    steps: int = 5
    """Steps of the loop."""
    repetitions: int = 5
    """Timings of each; the table gives their median and spread."""
    quick: bool = False
    """One small shape, one repetition, nothing written: shows that the benchmark runs."""
    results: Path = RESULTS
    """Folder of the written tables."""


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    import tyro

    options = tyro.cli(Options, prog="python -m benchmarks.convolution")
    shapes = (Shape("tiny", 2, 6, 2, 3),) if options.quick else SHAPES
    found = measure(shapes, options.steps, 1 if options.quick else options.repetitions)
    rows = list(track(found, "Timing convolutions", total=len(shapes)))
    report = build_report(rows, " ".join(("python -m benchmarks.convolution", *sys.argv[1:])))
    show(report)
    if not options.quick:
        print(f"Written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
