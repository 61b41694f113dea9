"""The benchmark for an accelerator: no part can cost another's results, tables divide right, and verdicts are just."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.convolution import Shape, local_steps, operands
from benchmarks.on_accelerator import __main__ as command
from benchmarks.on_accelerator import convolutions, estimates, paper, peers
from benchmarks.on_accelerator.defaults import verdict, verdicts
from benchmarks.on_accelerator.estimates import name_of, read_estimates
from benchmarks.on_accelerator.figure import overview
from benchmarks.on_accelerator.measurement import (
    Case,
    Measurement,
    compare,
    from_line,
    read_measurements,
    sentence,
    to_line,
)
from benchmarks.on_accelerator.part import Choice
from benchmarks.on_accelerator.parts import PARTS
from benchmarks.on_accelerator.processes import limits, measure_part
from benchmarks.on_accelerator.worker import run_case
from benchmarks.report import Machine, write
from benchmarks.targets import cases as targets
from benchmarks.targets.chips import CHIPS
from benchmarks.targets.table import Row, build_report
from fedhm_jax.config.validation import check_config

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).parents[2]
WHERE = Machine("some-chip", "some chip; some versions")


def values(part, case, way, *seconds, quantity="seconds", default=False):
    return [Measurement(part, case, way, quantity, i, value, default) for i, value in enumerate(seconds)]


def failed(part, case, reason, way=""):
    return Measurement(part, case, way, "seconds", 0, 0.0, failure=reason)


def cells(part, measurements):
    """First rows of a part's table, by heading."""
    table = PARTS[part].table(measurements)
    assert all(len(row) == len(table.columns) for row in table.rows)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_measurements_survive_the_pipe_and_the_file(tmp_path):
    found = [
        *values("chip", "copy", "", 0.25, 0.5),
        *values("server", "cnn", "gram", 1e-9, default=True),
        failed("peers", "A", 'it said "no", twice | and more'),
    ]
    assert [from_line(to_line(one)) for one in found] == found
    assert from_line("[1, 2]") is from_line("done") is from_line('{"a": 1}') is None
    path = write(command.build_report(found, (), "the command"), tmp_path, WHERE)
    assert path.name == "on_accelerator-some-chip.md"
    assert read_measurements(path.with_suffix(".csv")) == found
    assert read_measurements(tmp_path / "missing.csv") == []
    assert "some chip; some versions" in path.read_text()


def test_time_that_is_left_is_shared_by_weight():
    shares = limits([1, 3, 2], 120)
    assert next(shares) == 20
    # 110 s are left for weights 3 and 2
    assert shares.send(10) == pytest.approx(66)
    assert shares.send(200) == 0


SAY = "print('ready'); "
HALF = to_line(Measurement("p", "a", "w", "seconds", 0, 0.5))


def run(script, limit=60, cases=("a", "b", "c")):
    """A part whose processes are scripts that are told the number of their first case; and how many were started."""
    started = []

    def start(first):
        started.append(first)
        return sys.executable, "-c", f"import os, sys, time; first = {first}; {script}"

    return list(measure_part("p", cases, start, limit)), started


def test_a_crash_costs_the_case_it_happens_in():
    script = SAY + f"print({HALF!r}) if first == 0 else None; print('done'); sys.stdout.flush(); "
    script += "first == 0 and (print('last words', file=sys.stderr), sys.stderr.flush(), os._exit(9)); print('done')"
    found, started = run(script)
    assert found == [
        from_line(HALF),
        failed("p", "b", "the process ended with exit code 9: last words"),
    ]
    # The second process begins behind the case that failed; what it says beyond the last case is nobody's.
    assert started == [0, 2]


@pytest.mark.long
def test_a_part_that_hangs_is_stopped_and_keeps_what_it_found():
    script = SAY + f"print({HALF!r}); print('done', flush=True); time.sleep(300)"
    found, started = run(script, limit=6)
    assert found[0] == from_line(HALF)
    assert [(one.case, one.failure[:12]) for one in found[1:]] == [("b", "not finished"), ("c", "not reached ")]
    assert started == [0]


def test_a_part_that_cannot_begin_is_not_tried_for_every_case():
    found, started = run("sys.exit('no such module')")
    assert {one.failure for one in found} == {"the process ended with exit code 1: no such module"}
    assert [one.case for one in found] == ["a", "b", "c"]
    assert started == [0]


def test_an_exception_is_one_line(capsys):
    def run(emit):
        emit(from_line(HALF))
        raise RuntimeError("RESOURCE_EXHAUSTED: 12 GiB\nand a stack")

    run_case("p", Case("a", run))
    first, second, done = capsys.readouterr().out.splitlines()
    assert first == HALF
    assert from_line(second) == failed("p", "a", "RuntimeError: RESOURCE_EXHAUSTED: 12 GiB")
    assert done == "done"
    assert len(sentence(ValueError("x" * 1000))) == 200


def test_a_way_that_fails_is_told_and_left_out():
    found = []

    def missing():
        raise ValueError("no such convolution")

    ways = {"good": lambda: lambda: jnp.zeros(2), "bad": missing, "worse": lambda: missing}
    compare("p", "a", ways, found.append, repetitions=2, default="good", scale=0.0)
    assert [one for one in found if one.failure] == [
        failed("p", "a", "ValueError: no such convolution", way) for way in ("bad", "worse")
    ]
    assert [one for one in found if not one.failure] == values("p", "a", "good", 0.0, 0.0, default=True)


CHOICE = Choice("The default", lambda way: way != "approximate")


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ({"a": (2.0, 3.0), "b": (1.0, 1.5)}, "The default is contradicted in 1 of 1 cases: for x, b takes 0.50 of"),
        # a slow repetition of the rival is no faster than a quick one of the default
        ({"a": (2.0, 3.0), "b": (1.0, 2.5)}, "The default is not contradicted in any of 1 cases."),
        ({"a": (2.0, 3.0), "b": (9.0, 9.0)}, "The default is not contradicted in any of 1 cases."),
        ({"a": (2.0, 3.0), "approximate": (1.0, 1.5)}, "The default: nothing was measured to compare."),
        ({"b": (2.0, 3.0)}, "The default: nothing was measured to compare."),
    ],
)
def test_a_default_is_contradicted_only_by_what_is_clearly_faster(ways, said):
    found = [one for way, seconds in ways.items() for one in values("p", "x", way, *seconds, default=way == "a")]
    assert verdict(CHOICE, "p", found).startswith(said)


def test_what_failed_is_no_rival():
    found = [*values("p", "x", "a", 2.0, default=True), failed("p", "x", "out of memory", "b")]
    assert verdict(CHOICE, "p", found) == "The default: nothing was measured to compare."


def test_subspace_iteration_cannot_contradict_an_exact_default():
    ways = {"gram": 3.0, "svd": 2.0, "subspace": 1.0}
    found = [one for way, s in ways.items() for one in values("decomposition", "192", way, s, default=way == "gram")]
    found += values("server", "resnet18", "gram", 0.03)
    fastest, assumed = verdicts([PARTS["decomposition"]], found)
    assert "for 192, svd takes 0.67 of the time of gram (2e+03 against 3e+03 ms)" in fastest
    assert assumed.startswith("docs/scaling.md assumes 0.1 s")
    assert "takes 0.03 s" in assumed
    assert "assumed 0.1 s on a GPU" in (ROOT / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize("name", PARTS)
def test_a_failure_is_one_line_of_every_table(name):
    (row,) = cells(name, [failed(name, "case", "no room | at all")])
    assert "no room / at all" in row.values()


def test_a_mistake_in_a_table_costs_that_table_alone():
    broken = PARTS["chip"]._replace(table=lambda measurements: [][0])
    assert command.table_of(broken, []).rows == [("no table: IndexError: list index out of range",)]


def test_ways_stand_side_by_side_with_the_default_marked():
    found = [*values("convolution", "stem", "lax", 2e-6, default=True), failed("convolution", "stem", "no", "gemm")]
    found += [*values("convolution", "stage", "gemm", 3e-6), failed("convolution", "stage 2", "not reached")]
    assert cells("convolution", found) == [
        {"convolution": "stem", "lax": "2.00 (2.00..2.00) *", "gemm": "no"},
        {"convolution": "stage", "lax": "-", "gemm": "3.00 (3.00..3.00)"},
        {"convolution": "stage 2", "lax": "not reached", "gemm": "-"},
    ]


def test_peers_are_compared_turn_by_turn():
    ours, theirs = values("peers", "A", peers.OURS, 0.1, 0.2), values("peers", "A", peers.TORCH, 0.3)
    (row,) = cells("peers", ours + theirs)
    # The second turn has no PyTorch.
    assert row["PyTorch / fedhm_jax"] == "3.00 (3.00..3.00)"
    (alone,) = cells("peers", [*ours, failed("peers", "A", "left out", peers.TORCH)])
    assert alone["PyTorch loop, ms a round"] == "left out"
    assert alone["PyTorch / fedhm_jax"] == "-"


def test_rates_memory_and_shares():
    product = values("chip", "product", "bfloat16", 0.5) + values("chip", "product", "bfloat16", 2e12, quantity="flops")
    assert cells("chip", product)[0]["rate"] == "4 TFLOP/s"

    passes = values("compute", "cnn, f1", "float32", 0.5) + values("compute", "cnn, f1", "bfloat16", 0.25)
    passes += values("compute", "cnn, f1", "", 1e12, quantity="flops")
    (row,) = cells("compute", passes)
    assert (row["bfloat16 / float32"], row["bfloat16, TFLOP/s"]) == ("0.500 (0.500..0.500)", "4")

    lanes = values("side_by_side", "cnn", "lax, 16", 0.001, default=True)
    lanes += values("side_by_side", "cnn", "lax, 16", 3 * 2**20, quantity="bytes")
    lanes += values("side_by_side", "cnn", "peak, 16", 5 * 2**20, quantity="peak bytes")
    (row,) = cells("side_by_side", lanes)
    assert list(row.values()) == ["cnn", "16", "1.00 (1.00..1.00) *", "-", "3", "-", "5"]

    server = values("server", "resnet18", "gram", 1.0)
    for quantity, value in (("decomposition", 0.5), ("training, 1 epochs", 3.0), ("training, 10 epochs", 9.0)):
        server += values("server", "resnet18", "gram", value, quantity=quantity)
    whole = values("paper", paper.ROUND, "float32", 5.0, 4.0, 6.0)
    (row,) = cells("server", server + whole)
    assert list(row.values())[2:] == ["500", "1000", "25.00%", "10.00%", "20.00%"]
    # 160 rounds of 5 s
    assert cells("paper", whole)[0]["hours of 160 rounds"] == "0.22"


def test_estimates_are_those_of_the_chip(tmp_path):
    assert read_estimates("NVIDIA H100 80GB HBM3", tmp_path / "nothing.csv") == {}

    def row(target, model, **found):
        return Row(target, "fedhm", model, 16, 64, commit="c", jax="j", digest="d", **found)

    rows = [
        # 2 GB at an H100's 3.35 TB/s in each of 20 steps, no kernels and nothing else
        row("h100", "cnn", bytes="2000000000"),
        row("h100", "resnet18", failure="does not fit"),
        row("a100", "cnn", bytes="1"),
        row("v5e", "cnn", bytes="1"),
    ]
    write(build_report(rows, (), "command"), tmp_path, WHERE)
    (path,) = tmp_path.glob("targets-*.csv")
    one = targets.Case("fedhm", "cnn", 16, 64)
    seconds = 20 * 2e9 / CHIPS["h100"].bandwidth
    assert read_estimates("NVIDIA H100 80GB HBM3", path) == {one: pytest.approx(seconds)}
    assert set(read_estimates("TPU v5 lite", path)) == {one}
    assert read_estimates("NVIDIA H200", path) == {}
    found = values("estimates", name_of(one), "measured", 0.5) + values(
        "estimates", name_of(one), "estimate", 0.25, quantity="estimated seconds"
    )
    (cell,) = cells("estimates", found)
    assert (cell["estimated, ms"], cell["measured / estimated"]) == ("250", "2.00")


def test_rounds_are_those_that_are_promised():
    config = paper.config_of("bfloat16", tiny=False)
    check_config(config)
    assert (config.model.name, config.local.epochs, config.local.batch_size) == ("resnet18", 10, 64)
    assert (config.partition.clients, config.server.participation, config.local.compute) == (20, 0.5, "bfloat16")
    for one in estimates.ROUNDS:
        config = estimates.config_of(one, targets.STEPS)
        check_config(config)
        # every client of four tiers
        assert config.partition.clients == 64
        assert config.server.participation == 1


def test_arrangements_train_the_same():
    shape = Shape("tiny", 2, 5, 4, 3)
    images, kernels = operands(shape, 4)
    loop = local_steps(shape, 2, "gemm")
    results = [
        jax.jit(convolutions._over_clients, static_argnums=(0, 3))(loop, images, kernels, together)[1]
        for together in (4, 1, 2)
    ]
    assert not np.allclose(results[0], kernels)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5)


def test_the_figure_shows_what_there_is():
    found = values("peers", "A", peers.OURS, 0.001) + values("side_by_side", "cnn", "lax, 4", 0.002)
    found += values("side_by_side", "cnn", "lax, 8", 0.001)
    rounds, decomposed, time, memory = overview(found, "some-chip").axes
    assert [bar.get_height() for bar in rounds.patches] == [1.0]
    assert time.lines[0].get_xydata().tolist() == [[4, 2], [8, 1]]
    assert [panel.texts[0].get_text() for panel in (decomposed, memory)] == ["not measured"] * 2


def test_results_are_written_as_they_come_and_other_parts_are_kept(tmp_path, monkeypatch):
    csv_file = tmp_path / "on_accelerator-some-chip.csv"
    monkeypatch.setattr(command, "name_machine", lambda: WHERE)
    old, new = values("chip", "copy", "", 1.0), values("decomposition", "192", "gram", 1.0, 2.0)

    def measure(parts, seconds, tiny):
        yield new[0]
        assert read_measurements(csv_file)[-1] == new[0]
        yield new[1]
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", lambda *_: (one for one in old))
    assert command.main(["--parts", "chip", "--results", str(tmp_path)]) == 0
    monkeypatch.setattr(command, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--parts", "decomposition", "--results", str(tmp_path)])
    assert read_measurements(csv_file) == old + new
    assert "From an earlier run: chip." in csv_file.with_suffix(".md").read_text()


def test_a_cpu_is_no_accelerator(monkeypatch, capsys):
    monkeypatch.setattr(command, "name_machine", lambda: Machine("cpu", "a CPU"))
    assert command.main([]) == 1
    assert "no accelerator" in capsys.readouterr().err


BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tyro", "tensorflow_datasets", "array_record", "tomli_w", "matplotlib"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
import benchmarks.on_accelerator.__main__
from benchmarks.on_accelerator.parts import PARTS
assert all(part.cases(tiny) for part in PARTS.values() for tiny in (True, False))
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


@pytest.mark.long
def test_the_first_process_needs_few_packages_and_leaves_the_device_alone():
    finished = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.long
def test_everything_runs_tiny(tmp_path):
    assert command.main(["--tiny", "--seconds", "3000", "--results", str(tmp_path)]) == 0
    found = read_measurements(tmp_path / "on_accelerator-cpu.csv")
    assert {one.part for one in found} == set(PARTS)
    assert {one.failure for one in found if not one.failure.startswith("left out")} == {""}
    assert (tmp_path / "on_accelerator-cpu.png").stat().st_size > 0
