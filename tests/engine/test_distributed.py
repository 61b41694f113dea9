"""Two processes on loopback run one simulation, and one of them may be lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from support.own_samples import CLIENTS

from fedhm_jax import ConfigError
from fedhm_jax.engine import join, watch_first

FLAGS = (
    *("--model.name", "mlp", "--model.hidden", "16", "--tiers.rank-factors", "1", "4"),
    *("--partition.clients", "9", "--server.cohort-size", "7", "--local.epochs", "1"),
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(folder, *flags):
    """Processes 0 and 1, two devices each, as docs/scaling.md tells to start them."""
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--server.devices", "4")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder.parent / "programs")
    commands = [
        [sys.executable, "-m", "fedhm_jax", "simulate", *FLAGS, *together, "--process", str(process), *flags]
        for process in range(2)
    ]
    return [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for command in commands
    ]


def ends(processes, within=300):
    """Exit codes and what they wrote to standard error."""
    errors = [process.communicate(timeout=within)[1] for process in processes]
    return [process.returncode for process in processes], errors


def records(folder):
    path = Path(folder) / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def single(folder, *flags):
    command = [sys.executable, "-m", "fedhm_jax", "simulate", *FLAGS, *flags, "--output.folder", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return records(folder)


@pytest.mark.long
@pytest.mark.parametrize("samples", ["replicated", "sharded"])
def test_two_processes_give_the_run_of_one_and_write_once(tmp_path, samples):
    rounds, folder = ("--server.rounds", "2"), str(tmp_path / "two")
    codes, errors = ends(start(tmp_path / "two", *rounds, "--server.samples", samples, "--output.folder", folder))
    assert codes == [0, 0], errors
    alone, together = single(tmp_path / "one", *rounds), records(tmp_path / "two")
    assert [record["round"] for record in together] == [1, 2]
    for one, other in zip(alone, together, strict=True):
        assert other["clients"] == one["clients"]
        for name in ("train_loss", "loss", "accuracy"):
            assert other[name] == pytest.approx(one[name], abs=2e-4, nan_ok=True)


@pytest.mark.long
def test_a_process_has_the_samples_of_its_own_clients_alone():
    """Two devices of four each, with an even share and one client more at most."""
    script, coordinator = Path(__file__).parents[1] / "support" / "own_samples.py", f"127.0.0.1:{free_port()}"
    unset = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), coordinator, str(process)],
            env={name: value for name, value in os.environ.items() if name not in unset},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    shown = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    first, second = (json.loads(output) for output, _ in shown)
    assert (len(first["held"]), len(second["held"]), len(first["held"] | second["held"])) == (2, 2, 4)
    most = max((first["held"] | second["held"]).values())
    assert most <= first["whole"] / 4 + first["whole"] / CLIENTS + 64


@pytest.mark.long
@pytest.mark.parametrize("samples", ["replicated", "sharded"])
def test_a_lost_process_is_told_and_the_run_goes_on(tmp_path, samples):
    folder = tmp_path / "run"
    forever = ("--server.rounds", "100000", "--checkpoint.every", "1", "--server.samples", samples)
    first, second = start(folder, *forever, "--output.folder", str(folder))
    deadline = time.monotonic() + 240
    while len(records(folder)) < 3 and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    codes, errors = ends([first, second])
    assert codes[0] == 1, errors[0]
    assert "another process of this run was lost; to go on" in errors[0]
    assert "Traceback" not in errors[0]
    finished = len(records(folder))
    assert finished >= 3
    codes, errors = ends(start(folder, "--resume", str(folder), "--server.rounds", str(finished + 2)))
    assert codes == [0, 0], errors
    assert [record["round"] for record in records(folder)] == list(range(1, finished + 3))


def test_a_sum_that_fails_first_leaves_the_word_to_the_watch():
    """The loss is heard a moment after JAX has noticed it."""
    script = """
import socket, threading, jax
from fedhm_jax.engine import distributed
jax.process_count = lambda: 2
here, there = socket.socketpair()
threading.Thread(target=distributed._listen, args=(here,), daemon=True).start()
threading.Timer(0.5, there.close).start()
with distributed.watch_first():
    raise jax.errors.JaxRuntimeError("Gloo all-to-all failed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "another process of this run was lost" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_a_single_process_is_raised_at_once(monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such device"), watch_first():
        raise jax.errors.JaxRuntimeError("no such device")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("localhost", 2, 0), r"coordinator is 'localhost', but must be HOST:PORT of the first process"),
        (("127.0.0.1:9911", 2, 2), r"process is 2, but must be from 0 to 1"),
    ],
)
def test_addresses_and_numbers_are_checked(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        join(*arguments)
