"""Running out of memory: fewer clients side by side, with their results, or one sentence; other errors pass."""

import gc
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.equality import same_run

import fedhm_jax.cli
import fedhm_jax.run.host_loop
import fedhm_jax.run.preparation.assembly
from fedhm_jax import (
    AggregationConfig,
    CheckpointConfig,
    DataConfig,
    LocalConfig,
    ModelConfig,
    OutOfMemoryError,
    OutputConfig,
    PartitionConfig,
    ServerConfig,
    SimulationConfig,
    StrategyConfig,
    Study,
    TiersConfig,
    compare,
    simulate,
    simulate_seeds,
)
from fedhm_jax.cli import main
from fedhm_jax.config.config_file import write_config
from fedhm_jax.run.checkpoint import checkpoints, read_manifest
from fedhm_jax.run.memory import evaluation_error, is_out_of_memory
from fedhm_jax.run.preparation.assembly import prepare
from fedhm_jax.run.preparation.platform_defaults import clients_side_by_side
from fedhm_jax.run.program import Trained, program_of
from fedhm_jax.run.resumption import leaves_on_host, on_devices
from fedhm_jax.run.seeds import stack

SMALL = SimulationConfig(
    data=DataConfig(train_samples=128, test_samples=30),
    partition=PartitionConfig(clients=8),
    tiers=TiersConfig(rank_factors=(1,)),
    model=ModelConfig(name="mlp", hidden=(8,)),
    strategy=StrategyConfig("fedavg"),
    local=LocalConfig(epochs=1, batch_size=4),
    server=ServerConfig(rounds=2, participation=1.0),
)
"""Eight clients, so a chunk is at most eight."""
ROUNDS, EVALUATE, CHUNK = "rounds", "evaluate", "server.clients_per_chunk"


def exhausted():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")


class Poisoned:
    """A result whose computation failed after it had been started."""

    def __array__(self):
        raise exhausted()


@cache
def expected(rounds, chunk):
    """What a run that begins with so many clients side by side gives."""
    return simulate(replace(SMALL, server=replace(SMALL.server, rounds=rounds, clients_per_chunk=chunk)))


PROGRAMS = {}
"""Tests whose runs differ in number of rounds and folders alone share what is compiled."""


def compiled(runs, most_rounds):
    configs = [run.parts.plan.config for run in runs]
    parts = [[str(vars(config)[part]) for part in ("aggregation", "evaluation")] for config in configs]
    key = (str(parts), tuple(config.server.seed for config in configs), runs[0].clients_per_chunk, most_rounds)
    program = PROGRAMS[key] if key in PROGRAMS else PROGRAMS.setdefault(key, program_of(runs, most_rounds))
    return program._replace(state=runs[0].state if len(runs) == 1 else stack([run.state for run in runs]))


@pytest.fixture
def accelerator(monkeypatch):
    """The automatic chunk of an accelerator."""
    monkeypatch.setattr(
        fedhm_jax.run.preparation.assembly,
        "clients_side_by_side",
        lambda server, _: clients_side_by_side(server, "gpu"),
    )


def limit(monkeypatch, fits, stage=ROUNDS, error=exhausted, at_once=True, healthy=0):
    """Programs that run out of memory with more than ``fits`` clients side by side, after some healthy dispatches.

    A failing round has given its state's memory away, as a donated argument's is. Returns the chunk of every call.
    """
    tried = []

    def limited(runs, most_rounds):
        program, chunk, calls = compiled(runs, most_rounds), runs[0].clients_per_chunk, []

        def failing(state, *args):
            calls.append(state)
            tried.append(chunk)
            if chunk <= fits or len(calls) <= healthy:
                return getattr(program, stage)(state, *args)
            if stage == ROUNDS:
                jax.tree.map(lambda leaf: leaf.delete(), state)
            if at_once:
                raise error()
            return state, Trained(len(args[1]), Poisoned())

        if not at_once and chunk > fits:
            program = program._replace(evaluate=lambda state: [Poisoned()])
        return program._replace(**{stage: failing})

    monkeypatch.setattr(fedhm_jax.run.host_loop, "program_of", limited)
    return tried


def chunks(config, number):
    return replace(config, server=replace(config.server, clients_per_chunk=number))


def in_folder(config, folder, **sections):
    return replace(config, output=OutputConfig(folder), **sections)


# --- what it is -------------------------------------------------------------------------------------------------------


def test_errors_of_device_and_host_are_known():
    size = 2**60
    with pytest.raises(jax.errors.JaxRuntimeError) as device:
        jax.block_until_ready(jax.jit(lambda: jnp.zeros(size, jnp.uint8))())
    with pytest.raises(MemoryError) as host:
        np.ones(size, np.uint8)
    assert is_out_of_memory(device.value)
    assert is_out_of_memory(host.value)
    assert is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 549755813888 bytes"))
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: cuDNN failed"))
    assert not is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED"))


def test_a_state_comes_back_after_its_memory_was_given_away():
    state = {"w": jnp.arange(3.0), "key": jax.random.key(5)}
    arrays = [array.copy() for array in leaves_on_host(state)]
    for array in (state["w"], jax.random.key_data(state["key"])):
        array.delete()
    again = on_devices(state, arrays)
    assert again["w"].tolist() == [0.0, 1.0, 2.0]
    assert jax.random.bits(again["key"]) == jax.random.bits(jax.random.key(5))


# --- fewer clients side by side ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fits", "tried"), [pytest.param(5, [8, 4], marks=pytest.mark.long), (1, [8, 4, 2, 1])])
def test_half_the_chunk_until_it_fits_gives_the_bits_of_that_chunk(monkeypatch, accelerator, fits, tried):
    wanted, seen = expected(2, tried[-1]), limit(monkeypatch, fits)
    result = simulate(SMALL)
    assert seen == [*tried, tried[-1]]
    assert [record["clients_per_chunk"] for record in result.history] == [tried[-1]] * 2
    same_run(result, wanted)


def test_a_failure_that_shows_after_the_start_is_one_of_training(monkeypatch, accelerator):
    wanted, tried = expected(2, 4), limit(monkeypatch, 4, at_once=False)
    same_run(simulate(SMALL), wanted)
    assert tried == [8, 4, 4]


def test_a_resumed_run_begins_again_from_its_checkpoint(monkeypatch, accelerator, tmp_path):
    shorter, wanted = replace(SMALL, server=replace(SMALL.server, rounds=1)), expected(2, 4)
    limit(monkeypatch, 4)
    simulate(in_folder(shorter, tmp_path / "run"))
    tried = limit(monkeypatch, 4)
    same_run(simulate(SMALL, resume=tmp_path / "run"), wanted)
    assert tried == [8, 4]


def allocate():
    """JAX's own error, with JAX's own frames in its traceback."""
    jax.block_until_ready(jax.jit(lambda: jnp.zeros(2**60, jnp.uint8))())


FAILURES = [(exhausted, True), (allocate, True), (MemoryError, True), (exhausted, False)]


@pytest.mark.parametrize(("error", "at_once"), FAILURES)
def test_what_failed_is_out_of_the_way_when_it_is_tried_again(monkeypatch, accelerator, error, at_once):
    """Freed at once, not when cycles of references are looked for: on the device there is no room for both."""
    limit(monkeypatch, 4, error=error, at_once=at_once)
    limited, tried, failed = fedhm_jax.run.host_loop.program_of, [], []

    def looking(runs, most_rounds):
        assert [thing() for thing in failed] == [None] * len(failed)
        tried.append(runs[0].clients_per_chunk)
        program = limited(runs, most_rounds)

        def rounds(state, *args):
            given = jax.tree.map(jnp.copy, state)
            failed.extend(map(weakref.ref, jax.tree.leaves(given)))
            return program.rounds(given, *args)

        failed.append(weakref.ref(rounds))
        return program._replace(rounds=rounds)

    monkeypatch.setattr(fedhm_jax.run.host_loop, "program_of", looking)
    gc.disable()
    try:
        simulate(SMALL)
    finally:
        gc.enable()
    assert tried == [8, 4]


@pytest.mark.long
def test_seeds_that_share_a_program_begin_again_together(monkeypatch, accelerator):
    expected = simulate_seeds(chunks(SMALL, 4), (3, 5))
    tried = limit(monkeypatch, 4)
    for one, other in zip(simulate_seeds(SMALL, (3, 5)), expected, strict=True):
        same_run(one, other)
    assert tried == [8, 4, 4]


@pytest.mark.parametrize("progress", [True, False])
def test_a_line_says_so_where_progress_is_shown(monkeypatch, accelerator, capsys, progress):
    limit(monkeypatch, 1)
    simulate(replace(SMALL, output=OutputConfig(progress=progress)))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedhm: ")]
    told = [f"fedhm: ran out of memory with {now} clients side by side; trying {now // 2}" for now in (8, 4, 2)]
    assert lines == (told if progress else [])


def test_the_chunk_is_never_more_than_the_places_of_a_device(accelerator):
    assert prepare(SMALL).clients_per_chunk == 8
    assert prepare(chunks(SMALL, 99)).clients_per_chunk == 8
    assert prepare(replace(SMALL, server=replace(SMALL.server, devices=3))).clients_per_chunk == 3
    assert prepare(replace(SMALL, tiers=TiersConfig((1, 2), counts=(3, 5)))).clients_per_chunk == 5
    assert prepare(replace(SMALL, server=replace(SMALL.server, participation=0.25))).clients_per_chunk == 2


@pytest.mark.parametrize(("chunk", "copies"), [(None, 1), pytest.param(4, 0, marks=pytest.mark.long)])
def test_a_run_that_fits_is_compiled_once_and_copied_at_most_once(monkeypatch, accelerator, chunk, copies):
    copied, traced, sizes = [], [], []
    leaves, engine = fedhm_jax.run.host_loop.leaves_on_host, fedhm_jax.run.preparation.assembly.build_engine
    monkeypatch.setattr(fedhm_jax.run.host_loop, "leaves_on_host", lambda state: copied.append(1) or leaves(state))

    def counting(*args):
        built = engine(*args)
        sizes.append(args[4])
        return built._replace(round_step=lambda *step: traced.append(1) or built.round_step(*step))

    monkeypatch.setattr(fedhm_jax.run.preparation.assembly, "build_engine", counting)
    simulate(chunks(SMALL, chunk))
    assert (len(copied), len(traced), sizes) == (copies, 1, [chunk or 8])


def test_on_a_cpu_there_is_nothing_to_halve_and_nothing_to_copy(monkeypatch):
    limit(monkeypatch, 1)
    monkeypatch.setattr(fedhm_jax.run.host_loop, "leaves_on_host", lambda state: pytest.fail("copied"))
    assert {record["clients_per_chunk"] for record in simulate(SMALL).history} == {1}


# --- one sentence -----------------------------------------------------------------------------------------------------

MEDIAN = replace(SMALL, aggregation=AggregationConfig(merge="median"))
SENTENCES = [
    (chunks(SMALL, 5), f"training 5 clients side by side: {CHUNK} is 5; try {CHUNK} = 2"),
    (chunks(SMALL, 20), f"training 8 clients side by side: {CHUNK} is 20; try {CHUNK} = 4"),
    (SMALL, "training one client at a time: local.batch_size is 4; try a smaller local.batch_size or model"),
    (
        MEDIAN,
        "training one client at a time: local.batch_size is 4; try a smaller local.batch_size or model or a smaller "
        "server.cohort_size (aggregation.merge = 'median' holds all updates of a round)",
    ),
    (
        chunks(MEDIAN, 8),
        f"training 8 clients side by side: {CHUNK} is 8; try {CHUNK} = 4 or a smaller "
        "server.cohort_size (aggregation.merge = 'median' holds all updates of a round)",
    ),
]


@pytest.mark.parametrize(("config", "sentence"), SENTENCES)
def test_training_that_cannot_be_made_smaller_is_one_sentence(monkeypatch, accelerator, config, sentence):
    limit(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError) as stopped:
        simulate(config)
    assert str(stopped.value) == f"ran out of memory while {sentence}"


def test_of_runs_that_share_a_program_there_can_be_fewer(monkeypatch):
    limit(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match=r"a smaller local\.batch_size or model or fewer than 2 runs at once$"):
        simulate_seeds(SMALL, (3, 5))


def test_an_evaluation_is_not_tried_again(monkeypatch):
    """Of 30 test samples: half of the batch that there was, not of the one that was asked for."""
    tried = limit(monkeypatch, 0, EVALUATE)
    with pytest.raises(OutOfMemoryError) as stopped:
        simulate(SMALL)
    sentence = "while evaluating: evaluation.batch_size is 500; try evaluation.batch_size = 15"
    assert str(stopped.value) == f"ran out of memory {sentence}"
    assert tried == [1]


def test_a_test_sample_alone_needs_a_smaller_model():
    config = replace(SMALL, evaluation=replace(SMALL.evaluation, batch_size=1))
    assert str(evaluation_error(config, 1)).endswith("evaluation.batch_size is 1; try a smaller model")


@pytest.mark.parametrize("error", [exhausted, MemoryError])
@pytest.mark.parametrize(
    "where", ["fedhm_jax.run.preparation.assembly.samples_on_host", "fedhm_jax.run.program.stack_data"]
)
def test_data_that_do_not_fit_name_their_number(monkeypatch, tmp_path, where, error):
    def full(*_):
        raise error()

    monkeypatch.setattr(where, full)
    sentence = r"placing 128 training samples and .*: data\.train_samples is 128; try data\.train_samples = 64 or a"
    with pytest.raises(OutOfMemoryError, match=sentence):
        simulate_seeds(SMALL, (3, 5))


@pytest.mark.parametrize("error", [lambda: jax.errors.JaxRuntimeError("INTERNAL: cuDNN failed"), lambda: OSError(5)])
@pytest.mark.parametrize("stage", [ROUNDS, EVALUATE])
def test_other_errors_are_their_own_and_nothing_is_tried_again(monkeypatch, accelerator, stage, error):
    tried = limit(monkeypatch, 0, stage, error)
    with pytest.raises(type(error())) as stopped:
        simulate(SMALL)
    assert str(stopped.value) == str(error())
    assert tried == [8]


def test_a_later_dispatch_stops_the_run_which_goes_on_with_a_smaller_chunk(monkeypatch, accelerator, tmp_path):
    config = in_folder(
        replace(SMALL, server=replace(SMALL.server, rounds=3)), tmp_path / "run", checkpoint=CheckpointConfig(every=1)
    )
    with monkeypatch.context() as short:
        tried = limit(short, 4, healthy=2)
        with pytest.raises(OutOfMemoryError, match=f"{CHUNK} is unset; try {CHUNK} = 4$") as stopped:
            simulate(config)
        assert tried == [8, 8, 8]
    assert stopped.value.clients_per_chunk == 4
    assert read_manifest(checkpoints(tmp_path / "run")[-1])["round"] == 2
    result = simulate(chunks(config, 4), resume=tmp_path / "run")
    assert [record["clients_per_chunk"] for record in result.history] == [8, 8, 4]


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("healthy", [0, 1])
def test_the_command_line_says_what_to_try_and_how_to_go_on(monkeypatch, accelerator, tmp_path, capsys, healthy):
    folder = tmp_path / "run"
    write_config(chunks(SMALL, 4), tmp_path / "run.toml")
    flags = ["--config", str(tmp_path / "run.toml"), "--output.folder", str(folder), "--output.no-progress"]
    with monkeypatch.context() as short:
        limit(short, 2, healthy=healthy)
        assert main(["simulate", *flags]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"fedhm: error: ran out of memory while training 4 clients side by side: {CHUNK} is 4; try {CHUNK} = 2; "
        f"to go on: fedhm simulate --resume {folder}\n"
    )
    limit(monkeypatch, 1)
    assert main(["simulate", "--resume", str(folder), "--server.clients-per-chunk", "1", "--output.no-progress"]) == 0
    assert (folder / "summary.json").exists()


def test_the_command_line_says_that_the_data_are_too_many(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fedhm_jax.run.preparation.assembly, "samples_on_host", lambda *_: np.ones(2**60, np.uint8))
    write_config(SMALL, tmp_path / "run.toml")
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--config", "run.toml"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith("try data.train_samples = 64 or a smaller model; no round was finished\n")
    assert not Path("runs").exists()


def study(config):
    return Study("Tiny", ("fedavg",), (3, 5), {"iid": config})


@pytest.mark.long
def test_a_study_begins_its_runs_again_and_says_so(monkeypatch, accelerator, tmp_path, capsys):
    tried = limit(monkeypatch, 4)
    result = compare(study(SMALL), tmp_path / "study", progress=True)
    assert tried == [8, 4, 4]
    assert {record["clients_per_chunk"] for run in result.runs for record in run.history} == {4}
    told = "fedhm: iid, fedavg: ran out of memory with 8 clients side by side; trying 4"
    assert told in capsys.readouterr().err.splitlines()


def test_a_study_that_does_not_fit_names_the_runs(monkeypatch, accelerator, tmp_path):
    limit(monkeypatch, 2)
    sentence = f"^iid, fedavg: ran out of memory while training 4 .*; try {CHUNK} = 2 or fewer than 2 runs at once$"
    with pytest.raises(OutOfMemoryError, match=sentence):
        compare(study(chunks(SMALL, 4)), tmp_path / "study")
