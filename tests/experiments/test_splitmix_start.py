"""The experiment on Split-Mix's first kernels: where its two starts differ, and the figures of its table."""

import jax
import numpy as np

from experiments.splitmix_start.__main__ import HERE, MODELS, read, table
from experiments.splitmix_start.published import splitmix_published_start
from fedhm_jax.strategies import splitmix
from fedhm_jax.testing import first_params, setting_for
from fedhm_jax.tree import named_leaves


def test_the_published_start_is_a_slice_of_a_whole_network():
    setting = setting_for("mlp", (1.0, 4.0))
    params = first_params(setting)
    theirs, ours = (
        build(setting).init(params, jax.random.key(0)).bases for build in (splitmix_published_start, splitmix)
    )
    for path, stack in named_leaves(theirs).items():
        first, whole = np.asarray(stack[0]), np.asarray(named_leaves(params)[path])
        np.testing.assert_allclose(first, whole[tuple(slice(length) for length in first.shape)], rtol=1e-6)
        ratio = np.sqrt(first.shape[0] / whole.shape[0]) if path.endswith("kernel") else 1.0
        np.testing.assert_allclose(first, ratio * np.asarray(named_leaves(ours)[path][0]), rtol=1e-6)


def test_the_committed_table_is_that_of_the_committed_runs():
    rows = read(HERE / "splitmix_start.csv")
    assert len(rows) == 2 * 4 * 5
    assert table(rows) in (HERE / "README.md").read_text()


def test_the_table_holds_means_and_paired_differences():
    accuracy = {("ours", "0.1"): (90, 92), ("ours", "0.2"): (50, 50), ("published", "0.1"): (93, 93)}
    accuracy[("published", "0.2")] = (1, 1)
    rows = [
        {"start": start, "learning_rate": rate, "seed": str(seed)} | dict.fromkeys(MODELS, str(value))
        for (start, rate), values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    lines = table(rows).splitlines()
    assert lines[2] == f"| ours | 0.1 | {' | '.join([f'{91:.2f} ± {np.sqrt(2):.2f}'] * 4)} |"
    # differences 3 and 1: mean 2, standard deviation root 2, its error 1
    assert lines[-1].endswith(f" | {' | '.join(['+2.00 ± 1.00'] * 4)} |")
