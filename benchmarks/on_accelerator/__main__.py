"""``python -m benchmarks.on_accelerator``: all that one would want to know on a GPU or a TPU, in ten minutes.

Only the standard library, JAX, Flax, Optax and rich are needed; matplotlib for the figure, PyTorch for the loop beside.
"""

import argparse
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.on_accelerator.defaults import verdicts
from benchmarks.on_accelerator.measurement import Measurement, read_measurements, sentence
from benchmarks.on_accelerator.part import Part, in_a_cell
from benchmarks.on_accelerator.parts import PARTS
from benchmarks.on_accelerator.processes import command_of, limits, measure_part, name_machine
from benchmarks.report import RESULTS, Machine, Report, ResultTable, show, write

SCRIPT = "on_accelerator"
SECONDS = 550
"""For all parts together."""


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's options.

    Args:
        arguments: of the command line.

    Returns:
        parts, seconds, tiny, results.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_accelerator", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), help="what to measure")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU too: shows that everything runs")
    parser.add_argument("--results", type=Path, help="folder of the tables; with --tiny none are written without it")
    return parser.parse_args(arguments)


def build_report(measurements: Sequence[Measurement], notes: Sequence[str], command: str) -> Report:
    """The tables of all parts that have measurements, and the verdicts on the defaults.

    Args:
        measurements: of all parts.
        notes: beside those of the parts.
        command: the command line.

    Returns:
        The report.
    """
    measured = [part for part in PARTS.values() if any(one.part == part.name for one in measurements)]
    about = (
        "Median (least..most). An asterisk marks what fedhm_jax does by itself here. Every part ran in a process of "
        "its own; the ways of a row were timed in turn.",
        *(part.notes for part in measured),
        *notes,
        f"Defaults and figures against these measurements. {' '.join(verdicts(measured, measurements))}",
    )
    tables = [table_of(part, measurements) for part in measured]
    return Report(SCRIPT, command, tables, about, [one._asdict() for one in measurements])


def table_of(part: Part, measurements: Sequence[Measurement]) -> ResultTable:
    """A part's table; a mistake in one must not cost the results of the others.

    Args:
        part: whose table.
        measurements: of all parts.

    Returns:
        The table, or one with the mistake in its place.
    """
    try:
        return part.table(measurements)
    except Exception as error:
        return ResultTable(part.name, ("result",), [(in_a_cell(f"no table: {sentence(error)}"),)])


def measure(names: Sequence[str], seconds: float, tiny: bool) -> Generator[Measurement, None, None]:
    """Runs parts, and says on standard error what is under way.

    Args:
        names: of the parts.
        seconds: for all of them together.
        tiny: at sizes that a test can afford.

    Yields:
        What was measured.
    """
    parts = [PARTS[name] for name in PARTS if name in names]
    shares = limits([part.weight for part in parts], seconds)
    limit = next(shares)
    for part in parts:
        print(f"{part.name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
        started = time.monotonic()
        cases = [case.name for case in part.cases(tiny)]
        yield from measure_part(part.name, cases, command_of(part, tiny), limit)
        if part is not parts[-1]:
            limit = shares.send(time.monotonic() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts and writes after every measurement, so that an interruption loses nothing.

    Args:
        arguments: in place of the process's own.

    Returns:
        The exit code: 1 where there is no accelerator.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = options_of(given)
    where = name_machine()
    if where.device == "cpu" and not options.tiny:
        print("benchmarks.on_accelerator: JAX sees no accelerator here; --tiny runs it on a CPU", file=sys.stderr)
        return 1
    command = " ".join(("python -m benchmarks.on_accelerator", *given))
    folder: Path | None = options.results or (None if options.tiny else RESULTS)
    measurements = kept(folder, where, options.parts) if folder else []
    notes = ["Tiny sizes in place of those named here: the times mean nothing."] if options.tiny else []
    if measurements:
        notes.append(f"From an earlier run: {', '.join(dict.fromkeys(one.part for one in measurements))}.")
    # Closed, whatever happens: a part's process must not outlive this one.
    with closing(measure(options.parts, options.seconds, options.tiny)) as found:
        for measurement in found:
            measurements.append(measurement)
            if folder:
                write(build_report(measurements, notes, command), folder, where)
    show(build_report(measurements, notes, command))
    if folder:
        print(f"Written to {folder / f'{SCRIPT}-{where.device}.md'}{draw(measurements, folder, where)}")
    return 0


def kept(folder: Path, where: Machine, parts: Sequence[str]) -> list[Measurement]:
    """What an earlier run on such a device has measured in the parts that are not run now.

    Args:
        folder: of the results.
        where: the device.
        parts: that are run now.

    Returns:
        The measurements.
    """
    return [one for one in read_measurements(folder / f"{SCRIPT}-{where.device}.csv") if one.part not in parts]


def draw(measurements: Sequence[Measurement], folder: Path, where: Machine) -> str:
    """Saves the figure beside the tables.

    Args:
        measurements: of all parts.
        folder: of the results.
        where: the device.

    Returns:
        To go on with: the figure's name, or that there is none.
    """
    try:
        from benchmarks.on_accelerator.figure import overview
        from fedhm_jax.reporting.figures import save_figure

        path = folder / f"{SCRIPT}-{where.device}.png"
        save_figure(overview(measurements, where.device), path)
    except ImportError as error:
        return f"; no figure: {error}"
    return f" and {path.name}"


def _leave(signal_number: int, _: object) -> None:
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    # By way of an exception, so that the part's process is ended as well.
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())
