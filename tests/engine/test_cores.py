"""How many devices a CPU shows."""

import os
import subprocess
import sys

import pytest

from fedhm_jax.engine.cores import show_cores, usable_cores

COUNT = """
import os, sys
import jax
from fedhm_jax.engine.cores import show_cores
if "pinned" in sys.argv:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
show_cores(*(eval(word) for word in sys.argv[1:] if word != "pinned"))
limits = os.environ["XLA_FLAGS"].count("timeout_seconds=")
first = jax.device_count()
show_cores(first + 1)
print(first, jax.device_count(), limits)
"""


def counted(*arguments, **variables):
    """Devices that a fresh process sees."""
    clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    run = subprocess.run(
        [sys.executable, "-c", COUNT, *map(str, arguments)],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    first, afterwards, limits = map(int, run.stdout.split())
    assert afterwards == first, "once JAX has counted its devices, their number stays"
    assert limits == 2
    return first


@pytest.mark.long
def test_a_cpu_shows_its_cores_unless_told_otherwise():
    flag = "--xla_force_host_platform_device_count=5"
    assert counted() == usable_cores()
    assert counted("pinned") == 1
    assert counted(3 + usable_cores()) == 3 + usable_cores()
    assert counted(JAX_NUM_CPU_DEVICES="3") == 3
    assert counted(4, JAX_NUM_CPU_DEVICES="3") == 4
    assert counted(2, XLA_FLAGS=flag) == 5
    assert counted(None, 2) == 1
    assert counted(6, 2) == 3
    assert counted(None, 2, JAX_NUM_CPU_DEVICES="3") == 3


def test_nothing_is_set_once_jax_has_counted_its_devices(monkeypatch):
    """As here, where four are in use."""
    before = os.environ["XLA_FLAGS"]
    show_cores(9)
    assert os.environ["XLA_FLAGS"] == before
