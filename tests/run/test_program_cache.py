"""Compiled programs on disk: kept for the next run, and nothing of it is left in the process."""

import os
import subprocess
import sys

import jax
import pytest

from fedhm_jax.run.program_cache import kept_programs

SCRIPT = """
import sys
import jax
from fedhm_jax import *

events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))

def settings():
    return jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs

before = settings()
config = SimulationConfig(
    model=ModelConfig(name="mlp", hidden=(4,)),
    server=ServerConfig(rounds=1),
    output=OutputConfig(compilation_cache=sys.argv[1] == "True"),
)
hits = []
for _ in range(int(sys.argv[2])):
    events.clear()
    simulate(config)
    hits.append(events.count("/jax/compilation_cache/cache_hits"))
assert settings() == before
print(*hits)
"""


def run(tmp_path, asked, times, **environment):
    """How often each of several equal runs in one process found a program, and the files of the usual folder."""
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    inherited |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), **environment}
    command = [sys.executable, "-c", SCRIPT, str(asked), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, env=inherited)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "cache" / "fedhm_jax" / "programs"
    return [int(hits) for hits in done.stdout.split()], list(folder.glob("*")) if folder.exists() else []


@pytest.mark.long
def test_a_second_run_starts_from_the_programs_of_the_first(tmp_path):
    (first, second), files = run(tmp_path, True, 2)
    assert first == 0 < second
    assert files
    (third,), _ = run(tmp_path, True, 1)
    assert third > 0


@pytest.mark.long
def test_a_folder_of_the_user_is_respected(tmp_path):
    _, files = run(tmp_path, True, 2, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert files == []
    assert list((tmp_path / "mine").glob("*"))


@pytest.mark.long
def test_it_can_be_turned_off(tmp_path):
    assert run(tmp_path, False, 1) == ([0], [])
    assert run(tmp_path, True, 1, JAX_ENABLE_COMPILATION_CACHE="false") == ([0], [])


@pytest.fixture
def no_folder(tmp_path, monkeypatch):
    """As where the user has set nothing; the settings of the tests are put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "fedhm_jax" / "programs"
    jax.config.update("jax_compilation_cache_dir", own)


def settings():
    return jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs


def test_settings_hold_for_the_block_alone(no_folder):
    before = settings()
    with kept_programs(True):
        assert settings() == (str(no_folder), 0.3)
        with kept_programs(True):  # as a run within a callback of another
            pass
        assert settings() == (str(no_folder), 0.3)
    assert settings() == before
    with pytest.raises(ZeroDivisionError), kept_programs(True):
        raise ZeroDivisionError
    assert settings() == before
    assert no_folder.is_dir()
    with kept_programs(False):
        assert settings() == before


def test_where_nothing_can_be_written_nothing_is_kept(no_folder):
    no_folder.parent.write_text("a file")
    before = settings()
    with kept_programs(True):
        assert settings() == before
