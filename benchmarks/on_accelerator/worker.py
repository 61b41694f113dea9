"""One part in a process of its own: ``python -m benchmarks.on_accelerator.worker PART FIRST full|tiny``.

It prints a line a measurement, and says when it is ready and when a case is done, so that whoever started it keeps what
was found if it crashes or is stopped. ``python -m benchmarks.on_accelerator.worker machine`` names the machine.
"""

import json
import sys

import jax

from benchmarks.on_accelerator.measurement import Case, Measurement, sentence, to_line
from benchmarks.report import Machine, device_slug, machine

READY, DONE = "ready", "done"


def run_case(part: str, case: Case) -> None:
    """Runs a case and prints what it measures; an exception becomes a measurement that failed.

    Args:
        part: whose case.
        case: to run.
    """

    def tell(measurement: Measurement) -> None:
        print(to_line(measurement), flush=True)

    try:
        case.run(tell)
    except Exception as error:  # the other cases go on, whatever it was
        tell(Measurement(part, case.name, "", "seconds", 0, 0.0, failure=sentence(error)))
    print(DONE, flush=True)


def main() -> None:
    """Runs the part of the command line from its case number FIRST on, or names the machine."""
    if sys.argv[1:] == ["machine"]:
        print(json.dumps(Machine(device_slug(), machine())._asdict()))
        return
    # Imported here: to name the machine takes none of this.
    from benchmarks.on_accelerator.parts import PARTS
    from fedhm_jax.run.program_cache import kept_programs

    name, first, size = sys.argv[1:]
    cases = PARTS[name].cases(size == "tiny")
    print(READY, flush=True)
    with kept_programs(True):
        for case in cases[int(first) :]:
            run_case(name, case)
            # Programs of a case that is over would take the next one's memory.
            jax.clear_caches()


if __name__ == "__main__":
    main()
