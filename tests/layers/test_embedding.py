"""An embedding is the product with one-hot vectors, and is never factorized."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedhm_jax.layers.embedding import Embedding
from fedhm_jax.lowrank.decomposition import Factors

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def looked_up(kernel, rows, count=4):
    return Embedding(count, features=5).apply({"params": {"kernel": kernel}}, jnp.asarray(rows))


def test_rows_are_products_with_one_hot_vectors():
    rows = np.array([[3, 0], [2, 3]])
    # Narrower than it says: a slice of it.
    np.testing.assert_array_equal(looked_up(jnp.asarray(TABLE), rows), np.eye(4, dtype=np.float32)[rows] @ TABLE)


def test_a_symbol_that_is_not_there_shows():
    assert np.isnan(looked_up(jnp.asarray(TABLE), [4])).all()


def test_another_kernel_is_refused():
    with pytest.raises(ValueError, match="is factorized, but its layer keeps it whole"):
        looked_up(Factors(jnp.ones((4, 1)), jnp.ones((1, 3))), [0])
    with pytest.raises(ValueError, match=r"kernel has shape \(4, 3\), but must be \(6, 5\) for its layer"):
        looked_up(jnp.asarray(TABLE), [0], count=6)
