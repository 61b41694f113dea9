"""Rounds compiled for chips that are not there: the program's text is counted right, the tables say what was found."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import write
from benchmarks.targets import __main__ as command
from benchmarks.targets.cases import EVERY, STEPS, Case, config_of, data_of
from benchmarks.targets.chips import CHIPS, TARGETS, what_is_missing
from benchmarks.targets.compilation import Compiled, Lowered
from benchmarks.targets.hlo import arrays, bytes_of, parse, trip_count
from benchmarks.targets.table import Row, build_report, estimated_seconds, read_rows
from benchmarks.targets.work import RoundWork, Work, round_work
from fedhm_jax.config.validation import check_config
from fedhm_jax.run import check_run
from fedhm_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]

GPU = """
HloModule jit_round_step

%taken (table: f32[100,8], row: s32[]) -> f32[8] {
  %table = f32[100,8]{1,0} parameter(0)
  %row = s32[] parameter(1)
  %slice.1 = f32[1,8]{1,0} dynamic-slice(%table, %row, %row), dynamic_slice_sizes={1,8}
  ROOT %taken.1 = f32[8]{0} bitcast(%slice.1)
}

%turned (a: f32[4,2]) -> f32[2,4] {
  %a = f32[4,2]{1,0} parameter(0)
  ROOT %turned.1 = f32[2,4]{1,0} transpose(%a), dimensions={1,0}
}

%members (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %old = f32[8]{0} get-tuple-element(%carry), index=1
  %added = f32[8]{0} fusion(%old), kind=kLoop, calls=%sum, metadata={op_name="jit(f)/while/transpose(jvp(M))/add"}
  ROOT %next = (s32[], f32[8]{0}) tuple(%old, %added)
}

%fewer (carry: (s32[], f32[8])) -> pred[] {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %index = s32[] get-tuple-element(%carry), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%index, %three), direction=LT
}

%sum (b: f32[8]) -> f32[8] {
  %b = f32[8]{0} parameter(0)
  ROOT %sum.1 = f32[8]{0} add(%b, %b)
}

%step (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %row = s32[] get-tuple-element(%carry), index=0
  %old = f32[8]{0} get-tuple-element(%carry), index=1
  %table = f32[100,8]{1,0} parameter(1)
  %batch = f32[8]{0} fusion(%table, %row), kind=kLoop, calls=%taken, metadata={op_name="jit(f)/while/body(x)/gather"}
  %conv = (f32[2,4]{1,0}, u8[0]{0}) custom-call(%batch, %old), feature_group_count=5, \
custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)/while/transpose(jvp(M))/conv"}
  %product = f32[8]{0} custom-call(%batch), custom_call_target="__cublas$gemm"
  %out = f32[2,4]{1,0} get-tuple-element(%conv), index=0
  %copy.1 = f32[2,4]{0,1} copy(%out)
  %flat = f32[4,2]{1,0} bitcast(%copy.1)
  %turn = f32[2,4]{1,0} fusion(%flat), kind=kInput, calls=%turned
  %inner = (s32[], f32[8]{0}) while(%carry), condition=%fewer, body=%members
  ROOT %next = (s32[], f32[8]{0}) tuple(%row, %product)
}

%running (carry: (s32[], f32[8])) -> pred[] {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %index = s32[] get-tuple-element(%carry), index=0
  ROOT %less = pred[] compare(%index, %index), direction=LT
}

%segment (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %old = f32[8]{0} get-tuple-element(%carry), index=1
  %order = f32[8]{0} fusion(%old), kind=kLoop, calls=%sum
  ROOT %steps = (s32[], f32[8]{0}) while(%carry), condition=%running, body=%step
}

ENTRY %main (given: f32[8]) -> f32[8] {
  %given = f32[8]{0} parameter(0)
  %clients = (s32[], f32[8]{0}) while(%given), condition=%running, body=%segment
  %twice = (s32[], f32[8]{0}) while(%given), condition=%running, body=%members2, \
backend_config={"known_trip_count":{"n":"2"}}
  %either = f32[8]{0} conditional(%given, %given, %given), branch_computations={%sum2, %sum4}
  %summed = f32[8]{0} all-reduce(%either), replica_groups={}, to_apply=%sum
  ROOT %merged = f32[8]{0} fusion(%summed), kind=kLoop, calls=%sum
}

%members2 (c: f32[8]) -> f32[8] {
  %c = f32[8]{0} parameter(0)
  ROOT %d = f32[8]{0} fusion(%c), kind=kLoop, calls=%sum
}

%sum2 (c: f32[8]) -> f32[8] {
  %c = f32[8]{0} parameter(0)
  ROOT %d = f32[8]{0} fusion(%c), kind=kLoop, calls=%sum
}

%sum4 (c: f32[8]) -> f32[8] {
  %c = f32[8]{0} parameter(0)
  %d = f32[8]{0} fusion(%c), kind=kLoop, calls=%sum
  ROOT %e = f32[8]{0} fusion(%d), kind=kLoop, calls=%sum
}
"""

TPU = """
%conv (a: f32[16,8], b: f32[8,4]) -> f32[16,4] {
  %a = f32[16,8]{1,0:T(8,128)} parameter(0)
  %b = f32[8,4]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %c = f32[16,4]{1,0:T(8,128)S(1)} convolution(%a, %b), dim_labels=bf_io->bf, batch_group_count=2
}

ENTRY %main.1 (x: f32[16,8], y: f32[8,4]) -> f32[16,4] {
  %x = f32[16,8]{1,0:T(8,128)} parameter(0)
  %y = f32[8,4]{1,0:T(8,128)} parameter(1)
  %one = s32[]{:T(128)} constant(1)
  %two = s32[]{:T(128)S(6)} add(%one, %one)
  %copy-start = (f32[8,4]{1,0:T(8,128)S(1)}, f32[8,4]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%y)
  %copy-done = f32[8,4]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %place = f32[16,4]{1,0:T(8,128)S(1)} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %out = f32[16,4]{1,0:T(8,128)S(1)} fusion(%x, %copy-done), kind=kOutput, calls=%conv
}
"""


def test_types_are_read():
    assert arrays("(f32[2,3]{1,0}, /*index=1*/s32[]{:T(128)S(1)}, pred[7]{0:T(8,128)(4,1)})") == [
        ("f32", 6, True),
        ("s32", 1, False),
        ("pred", 7, True),
    ]
    assert bytes_of("(bf16[3]{0}, u8[0]{0}, f64[2]{0}, s4[3]{0})") == 6 + 0 + 16 + 2
    assert bytes_of("(f32[8]{0:S(1)}, f32[2]{0})", main_memory_only=True) == 8


def test_instructions_are_read():
    step = parse(GPU).computations["step"]
    conv = step.by_name["conv"]
    assert (conv.shape, conv.opcode, conv.operands) == ("(f32[2,4]{1,0}, u8[0]{0})", "custom-call", ("batch", "old"))
    assert (conv.attribute("custom_call_target"), conv.group_count) == ("__cudnn$convForward", 5)
    assert step.by_name["batch"].attribute("calls") == "taken"
    assert [parameter.name for parameter in step.parameters] == ["carry", "table"]
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("nothing")


def test_lengths_of_loops_are_those_that_the_program_tells():
    program = parse(GPU)
    main, step = program.computations["main"], program.computations["step"]
    assert trip_count(program, main.by_name["twice"]) == 2
    assert trip_count(program, step.by_name["inner"]) == 3
    assert trip_count(program, main.by_name["clients"]) is None


def test_a_local_step_is_told_from_the_rest():
    (step,), rest = round_work(parse(GPU))
    # gather, convolution, product, copy, transpose, and three times the loop of known length
    assert step == Work(
        kernels=5 + 3,
        library_calls=2,
        copies=2,
        grouped=1,
        convolutions=1,
        # the gather reads an index and one row of the table; the convolution 8 + 8 and writes 8 numbers, and so on
        bytes=(4 + 32 + 32) + (64 + 32) + 64 + 64 + 64 + 3 * 64,
    )
    # the order of a segment, twice the other loop, the longer branch, the sum over devices, the merge
    assert rest == Work(kernels=1 + 2 + 2 + 1 + 1, bytes=7 * 64, reduced=32)


def test_a_tpu_keeps_what_lies_in_its_vector_memory():
    steps, rest = round_work(parse(TPU))
    assert steps == ()
    # the transfer reads 128 bytes, the product 512; its result stays where it is
    assert rest == Work(kernels=1, grouped=1, convolutions=1, bytes=128 + 512)


ROW = Row(
    **{"target": "v5e-2x4", "strategy": "fedhm", "model": "cnn", "side_by_side": 16, "batch_size": 64},
    **{"commit": "abc1234", "jax": "0.0.1", "digest": "d"},
    **{"seconds": 12.3, "memory": 2**21, "kernels": "40 60", "library_calls": "5 8", "copies": "2 6"},
    **{
        "grouped": "5 8",
        "bytes": "1000 2000",
        "flops": 1.97e11,
        "rest_kernels": 100,
        "rest_bytes": 820,
        "reduced": 2**20,
    },
)


def test_the_estimate_is_the_roofline():
    chip = CHIPS["v5e"]
    # 1 ms of arithmetic is longer than 3,000 bytes take; 100 launches in a step and as many in the rest
    expected = STEPS * (1e-3 + 100 * chip.launch) + 1e-9 + 100 * chip.launch + 2 * 7 / 8 * 2**20 / chip.interconnect
    assert estimated_seconds(ROW) == pytest.approx(expected, rel=1e-6)
    slow = ROW._replace(target="v5e", bytes="820000000 0", flops=1.0)
    assert estimated_seconds(slow) == pytest.approx(STEPS * (1e-3 + 100 * chip.launch) + 1e-9 + 100 * chip.launch)


def test_rows_are_written_shown_and_read_again(tmp_path):
    failed = ROW._replace(target="h100", failure="RESOURCE_EXHAUSTED: too much", kernels="")
    report = build_report([failed, ROW], ["v6e: libtpu cannot be imported"], "command")
    path = write(report, tmp_path)
    assert [one.title for one in report.tables] == ["h100, one chip", "v5e, 8 chips 2x4"]
    assert report.tables[0].rows[0][3] == "does not compile"
    shown = dict(zip(report.tables[1].columns, report.tables[1].rows[0], strict=True))
    assert shown["kernels a step"] == "40 / 60"
    assert shown["MiB of 16,384"] == "2"
    assert shown["all-reduce MiB"] == "1"
    text = path.read_text()
    assert "Skipped: v6e: libtpu cannot be imported." in text
    assert "h100, fedhm, cnn: RESOURCE_EXHAUSTED: too much." in text
    assert "not a measurement" in text
    assert read_rows(path.with_suffix(".csv")) == {row.key: row for row in (failed, ROW)}
    with path.with_suffix(".csv").open() as file:
        assert [row["commit"] for row in csv.DictReader(file)] == ["abc1234", "abc1234"]


def test_a_table_of_other_columns_is_not_gone_on_with(tmp_path):
    (tmp_path / "old.csv").write_text("a,b\n1,2\n")
    assert read_rows(tmp_path / "old.csv") == read_rows(tmp_path / "none.csv") == {}


def test_the_same_program_is_compiled_once(monkeypatch):
    compiled = []

    def compile_round(lowered):
        compiled.append(lowered.digest)
        return Compiled(1.0, 10, RoundWork((Work(kernels=3),), Work(kernels=2)))

    monkeypatch.setattr(command, "devices_of", lambda target: [None])
    monkeypatch.setattr(command, "compile_round", compile_round)
    monkeypatch.setattr(command, "lower", lambda case, target, devices: Lowered(None, case.model, (1.0,)))
    cases = [Case("fedhm", "mlp"), Case("fedhm", "cnn")]
    first = list(command.rows_of("h100", cases, [], again=False))
    assert [row.kernels for row in first] == ["3", "3"]
    changed = [first[0]._replace(digest="another program"), first[1]]
    assert list(command.rows_of("h100", cases, changed, again=False)) == first
    assert list(command.rows_of("h100", cases, first, again=False)) == first
    assert compiled == ["mlp", "cnn", "mlp"]
    # what was compiled at another level is not what was asked for
    less = list(command.rows_of("h100", cases[:1], first, again=False, level="O1"))
    assert compiled[3:] == ["mlp"]
    assert build_report([*first, *less], [], "").tables[0].rows[2][3] == "1 (O1)"


def test_cases_hold_every_strategy_and_every_model():
    every = {(case.strategy, case.model) for case in EVERY}
    assert {strategy for strategy, _ in every} == set(STRATEGIES)
    assert ("fedhm", "resnet34") in every
    chosen = command.cases_of(command.Options(strategies=("fjord",), models=("mlp", "cnn"), batch_size=8))
    assert chosen == [Case("fjord", "mlp", batch_size=8), Case("fjord", "cnn", batch_size=8)]
    assert {case.model for case in command.cases_of(command.Options(strategies=("fjord",)))} == {"cnn"}


@pytest.mark.parametrize("model", ["mlp", "decoder"])
def test_every_chip_has_its_clients(model):
    case = Case("fedhm", model, side_by_side=3, batch_size=4)
    check_config(config_of(case, 2))
    sampling = check_run(config_of(case, 2), data_of(case, 2)).sampling
    assert sampling.capacities == (6, 6, 6, 6)
    assert set(sampling.sizes.tolist()) == {8}


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("benchmarks.targets.chips.find_spec", lambda name: None)
    assert "pip install libtpu" in what_is_missing(TARGETS["v5e"])
    assert "jax[cuda12]" in what_is_missing(TARGETS["h100"])
    monkeypatch.setattr("benchmarks.targets.chips.find_spec", lambda name: object())
    assert what_is_missing(TARGETS["a100"]) is None


def compiled_elsewhere(tmp_path, target):
    """In a process of its own, since the compiler's library is loaded once and for all."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.targets",
        "--targets",
        target,
        "--strategies",
        "fedhm",
        "--models",
        "mlp",
    ]
    words += ["--side-by-side", "2", "--batch-size", "4", "--results", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=600, env=environment)
    (row,) = read_rows(next(tmp_path.glob("*.csv"))).values()
    return row


@pytest.mark.long
@pytest.mark.parametrize("target", ["v5e", "v5e-2x4", "h100"])
def test_a_round_compiles(tmp_path, target):
    if missing := what_is_missing(TARGETS[target]):
        pytest.skip(missing)
    row = compiled_elsewhere(tmp_path, target)
    assert row.failure == ""
    assert len(row.kernels.split()) == 4
    assert 0 < row.memory < CHIPS[TARGETS[target].chip].memory
    assert (row.reduced > 0) == (TARGETS[target].devices > 1)
    # a step of an MLP of three layers takes nine products
    assert all(int(number) >= 9 for number in row.kernels.split())
