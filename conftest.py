"""Every test and doctest: strict numerics (no array changes its type or gains an axis unasked), quick compilation, four
devices, and the user's home left alone."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib.metadata import version

import pytest

# A shell starts jobs in the background with Ctrl-C ignored, and processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Most tests compile for longer than they run. The same programs, compiled with less effort, halve the time.
_QUICK = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
# A program is compiled in one piece: to cut it in many is work, and both workers have a core of their own.
_QUICK.append("--xla_cpu_parallel_codegen_split_count=1")
if int(version("jaxlib").split(".")[1]) < 11:
    # The newer of the two emitters that jaxlib 0.10 has takes twice as long; later ones have that one alone, quicker.
    _QUICK.append("--xla_cpu_use_fusion_emitters=false")
# A number of threads that the user has set would be left alone.
os.environ.pop("OPENBLAS_NUM_THREADS", None)
# Tests of sharding need more devices than one; everything else runs on the first.
_DEVICES = 4
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_QUICK]).strip()
# Processes that tests start: a program for one device compiles in less time, and gives the same bits.
os.environ["JAX_NUM_CPU_DEVICES"] = "1"

# What runs keep for later ones lasts as long as the tests do. What one test has compiled, the others, the other worker
# and the processes that tests start take from there.
_IS_FIRST = "PYTEST_XDIST_WORKER" not in os.environ
if _IS_FIRST:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="fedhm_jax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["XDG_CACHE_HOME"], "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax  # noqa: E402  reads the variables above

from fedhm_jax.engine import sharding  # noqa: E402
from fedhm_jax.reporting import run_report, save_figure  # noqa: E402

jax.config.update("jax_num_cpu_devices", _DEVICES)
sharding.MOST_UNASKED = 1
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays, and traces are many small objects: the collector need not look through them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes what this test run has kept."""
    if _IS_FIRST:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def runs_do_not_draw() -> Iterator[None]:
    """Runs make their figures and leave empty files: drawing both takes longer than a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "save_figure", lambda figure, path: path.touch())
        yield


@pytest.fixture
def runs_draw(runs_do_not_draw: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at the figures of runs."""
    monkeypatch.setattr(run_report, "save_figure", save_figure)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For tests of benchmarks that do not depend on fast code."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
