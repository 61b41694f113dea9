"""The profile of local training: where an operation's time is counted."""

import pytest

from benchmarks import hot_spots
from benchmarks.hot_spots import Row, Share, add_up

PROGRAM = """
%with_convolution (p: f32[2]) -> f32[2] {
  %inner.8 = f32[2]{0} convolution(%p)
}

%without (p: f32[2]) -> f32[2] {
  %inner.9 = f32[2]{0} add(%p)
}

%body {
  %fusion.1 = f32[2]{0} fusion(%a), kind=kLoop, metadata={op_name="jit(f)/while/body/jvp(ResNet)/stem/norm_0/mul" id=1}
  %dot.2 = f32[2]{0} dot(%a), metadata={op_name="jit(f)/while/body/transpose(jvp(CNN))/dense_0/dot_general"}
  ROOT %conv.3 = f32[2]{0} convolution(%a), metadata={op_name="jit(f)/while/body/jvp(CNN)/conv/conv_general_dilated"}
  %gather.4 = f32[2]{0} gather(%a), metadata={op_name="jit(f)/while/body/gather"}
  %fusion.7 = f32[2]{0} fusion(%a), calls=%with_convolution, metadata={op_name="jit(f)/while/body/jvp(ResNet)/norm/sum"}
  %fusion.8 = f32[2]{0} fusion(%a), calls=%without, metadata={op_name="jit(f)/while/body/jvp(ResNet)/norm/sum"}
  %dot.9 = f32[2]{0} dot(%a), metadata={op_name="jit(f)/while/body/jvp(ViT)/block_0/attention/query/dot_general"}
  %dot.10 = f32[2]{0} dot(%a), metadata={op_name="jit(f)/while/body/jvp(ViT)/block_0/attention/bqhc,bkhc->bhqk/dot"}
  %max.5 = f32[2]{0} maximum(%a), metadata={op_name="jit(f)/while/body/transpose(jvp(CNN))/select"}
}
  %while.6 = f32[2]{0} while(%a), metadata={op_name="jit(f)/while"}
"""


def test_operations_count_for_the_layer_they_come_from():
    seconds = {"fusion.1": 1.0, "dot.2": 2.0, "conv.3": 4.0, "gather.4": 8.0, "max.5": 16.0, "while.6": 31.0, "x": 64.0}
    seconds |= {"fusion.7": 128.0, "fusion.8": 256.0, "dot.9": 512.0, "dot.10": 1024.0}
    found = {share.kind: share[1:] for share in add_up(seconds, PROGRAM)}
    assert found == {
        "norms": (257.0, 0.0),
        "dense layers": (512.0, 2.0),
        "attention's own products and softmax": (1024.0, 0.0),
        "convolutions": (132.0, 0.0),
        "activations, pooling, sums of blocks": (0.0, 16.0),
        "batches, optimizer, the rest": (8.0, 0.0),
    }


def test_shares_are_of_the_operations_seen():
    row = Row("cnn", 0.002, [Share("norms", 1.0, 3.0), Share("dense layers", 4.0, 0.0)])
    report = hot_spots.build_report([row], "command")
    assert report.tables[0].rows == [("norms", "12 %", "38 %"), ("dense layers", "50 %", "0 %")]
    assert report.tables[0].title == "cnn: 2 ms a step"


@pytest.mark.long
@pytest.mark.parametrize("name", ["cnn"])
def test_a_profiled_client_spends_time_in_convolutions(name):
    row = hot_spots.measure(name, clients=1, repetitions=1)
    convolutions = next(share for share in row.shares if share.kind == "convolutions")
    assert convolutions.forward > 0
    assert convolutions.backward > 0
    assert row.step > 0
