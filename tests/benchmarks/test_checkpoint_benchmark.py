"""The benchmark of checkpoints runs and counts what it says."""

import pytest

from benchmarks.checkpoints import measure_share, measure_sizes
from benchmarks.kill_test import CONFIG


@pytest.mark.long
def test_sizes_and_shares_are_measured() -> None:
    ((name, size, write, read),) = measure_sizes(("mlp",), repetitions=2)
    # 32 x 32 x 3 inputs, two hidden layers of 128, ten classes, float32
    parameters = 3072 * 128 + 128 + 128 * 128 + 128 + 1280 + 10
    assert (name, size) == ("mlp", f"{4 * parameters / 2**20:.2f} MiB")
    assert min(*write.values, *read.values) > 0
    share = measure_share("every round", CONFIG)
    assert share.rounds == CONFIG.server.rounds - 1 == len(share.spent)
    assert 0 < sum(share.spent) < share.seconds
