"""Factorize and recover against linear algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.traced import equations

from fedhm_jax.lowrank.decomposition import (
    factorize,
    factorize_tree,
    is_factors,
    largest_ranks,
    matrix_shape,
    recover,
    recover_tree,
    truncate,
    with_factors,
)

METHODS = ("svd", "gram", "subspace")
# Wide, tall, square and thin: every new shape costs a compilation.
KERNEL_SHAPES = st.sampled_from(
    [(1, 1), (1, 6), (6, 1), (4, 4), (3, 5), (1, 1, 3, 2), (3, 3, 2, 4), (3, 1, 5, 2), (2, 3, 1, 1), (1, 3, 2, 6)]
)


def as_matrix(kernel):
    """The paper's M with rows (o, kh) and columns (i, kw), written as loops."""
    if kernel.ndim == 2:
        return kernel.T
    kh, kw, inputs, outputs = kernel.shape
    matrix = np.zeros((outputs * kh, inputs * kw))
    for o in range(outputs):
        for a in range(kh):
            for i in range(inputs):
                for b in range(kw):
                    matrix[o * kh + a, i * kw + b] = kernel[a, b, i, o]
    return matrix


@partial(jax.jit, static_argnums=1)
def through_factors(kernel, rank):
    return recover(factorize(kernel, rank))


@settings(max_examples=40, deadline=None)
@given(shape=KERNEL_SHAPES, seed=st.integers(0, 2**16), data=st.data())
def test_truncation_error_is_that_of_eckart_and_young(shape, seed, data):
    kernel = np.random.default_rng(seed).normal(size=shape)
    rank = data.draw(st.integers(1, min(matrix_shape(shape))))
    with jax.enable_x64(True):
        error = np.linalg.norm(np.asarray(through_factors(kernel, rank)) - kernel)
    singular_values = np.linalg.svd(as_matrix(kernel), compute_uv=False)
    np.testing.assert_allclose(error, np.sqrt((singular_values[rank:] ** 2).sum()), atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(shape=KERNEL_SHAPES, seed=st.integers(0, 2**16))
def test_recovering_a_full_rank_factorization_gives_the_kernel_back(shape, seed):
    kernel = np.random.default_rng(seed).normal(size=shape)
    with jax.enable_x64(True):
        np.testing.assert_allclose(through_factors(kernel, min(matrix_shape(shape))), kernel, atol=1e-12)


def test_factors_share_the_singular_values_evenly():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    with jax.enable_x64(True):
        v, u = factorize(jnp.array(kernel), 6)
        v, u = np.asarray(v).reshape(-1, 6), np.moveaxis(np.asarray(u), -2, 0).reshape(6, -1)
    values = np.linalg.svd(as_matrix(kernel), compute_uv=False)[:6]
    np.testing.assert_allclose(v.T @ v, np.diag(values), atol=1e-12)
    np.testing.assert_allclose(u @ u.T, np.diag(values), atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 9), (3, 2, 4, 5)])
def test_truncating_factors_is_factorizing_at_the_smaller_rank(shape):
    kernel = np.random.default_rng(1).normal(size=shape)
    with jax.enable_x64(True):
        nested = recover(truncate(factorize(jnp.array(kernel), 5), 2))
        np.testing.assert_allclose(nested, recover(factorize(jnp.array(kernel), 2)), atol=1e-12)


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_an_impossible_rank_is_refused(rank):
    with pytest.raises(ValueError, match="must be from 1 to 3"):
        factorize(jnp.ones((3, 8)), rank)


def random_tree():
    generator = np.random.default_rng(2)
    shapes = {"a": (8, 6), "b": (8, 6), "c": (3, 3, 2, 4), "d": (5, 5)}
    return {
        name: {"kernel": generator.normal(size=shape), "bias": generator.normal(size=shape[-1])}
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_tree_is_factorized_kernel_by_kernel(method):
    tree, plan = random_tree(), {"a/kernel": 3, "b/kernel": 1, "c/kernel": 5}
    with jax.enable_x64(True):
        tree = jax.tree.map(jnp.array, tree)
        # Started where it should end, subspace iteration stays there.
        factors = factorize_tree(tree, plan, method, earlier=factorize_tree(tree, plan, "svd"))
        assert {path: node.rank for path, node in factors.items()} == plan
        tier = with_factors(tree, factors, {"a/kernel": 2, "c/kernel": 5})
        whole = recover_tree(tier)
        np.testing.assert_allclose(whole["a"]["kernel"], recover(factorize(tree["a"]["kernel"], 2)), atol=1e-12)
        np.testing.assert_allclose(whole["c"]["kernel"], recover(factorize(tree["c"]["kernel"], 5)), atol=1e-12)
    kept = [name for name in tree if not is_factors(tier[name]["kernel"])]
    assert kept == ["b", "d"]
    for name in kept:
        assert tier[name]["kernel"] is tree[name]["kernel"]


def test_without_earlier_factors_subspace_iteration_is_the_svd():
    tree, plan = jax.tree.map(jnp.float32, random_tree()), {"a/kernel": 3, "c/kernel": 5}
    found, exact = (factorize_tree(tree, plan, method) for method in ("subspace", "svd"))
    assert all(bool((one == two).all()) for one, two in zip(*map(jax.tree.leaves, (found, exact)), strict=True))


def test_subspace_iteration_starts_from_the_earlier_factors():
    """Twice on the same tree from a start that knows nothing: the second call goes on where the first ended."""
    tree, plan = jax.tree.map(jnp.float32, random_tree()), {"a/kernel": 3, "b/kernel": 1, "c/kernel": 5}
    best = jax.jit(lambda: factorize_tree(tree, plan, "svd"))()
    step = jax.jit(lambda earlier: factorize_tree(tree, plan, "subspace", earlier))
    once = step(jax.tree.map(jnp.zeros_like, best))
    twice = step(once)

    def error(factors, path):
        kernel = tree[path.split("/")[0]]["kernel"]
        return float(jnp.linalg.norm(recover(factors[path]) - kernel))

    assert {path: node.rank for path, node in twice.items()} == plan
    for path in ("a/kernel", "c/kernel"):
        assert error(best, path) <= error(twice, path) < error(once, path)


def test_largest_ranks_serve_every_tier():
    assert largest_ranks(({}, {"b": 5, "c": 2}, {"a": 1, "c": 3})) == {"a": 1, "b": 5, "c": 3}
    assert largest_ranks(({}, {})) == {}


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("svd", {"svd": [(5, 5), (6, 12), (8, 6)]}),
        ("gram", {"eigh": [(5, 5), (6, 6), (6, 6)]}),
        # of the projections, at the largest rank of each batch
        ("subspace", {"eigh": [(2, 2), (3, 3), (5, 5)]}),
    ],
)
def test_equal_matrix_shapes_share_one_decomposition(method, shapes):
    """On a CPU a loop over its matrices, four of three shapes."""
    tree, plan = jax.tree.map(jnp.float32, random_tree()), {"a/kernel": 3, "b/kernel": 1, "c/kernel": 5, "d/kernel": 2}
    earlier = factorize_tree(tree, plan, "svd")
    traced = equations(lambda tree: factorize_tree(tree, plan, method, earlier), tree)
    found = {name: sorted(batches(traced, name)) for name in ("svd", "eigh")}
    assert {name: batch for name, batch in found.items() if batch} == shapes


def batches(traced, name):
    """Shapes of what the decompositions of one kind are given."""
    return [equation.invars[0].aval.shape for equation in traced if equation.primitive.name == name]


@pytest.mark.parametrize("method", METHODS)
def test_decompositions_wait_for_one_another(method):
    """Perturbing what an earlier decomposition returns reaches every later one: the program orders them."""
    tree, plan = random_tree(), {"a/kernel": 3, "c/kernel": 5, "d/kernel": 2}
    tree = jax.tree.map(jnp.float32, tree)
    earlier = factorize_tree(tree, plan, "svd")
    for broken, reached in [("a", {"a", "c", "d"}), ("c", {"c", "d"}), ("d", {"d"})]:
        faulty = {**tree, broken: {**tree[broken], "kernel": jnp.full_like(tree[broken]["kernel"], jnp.nan)}}
        factors = jax.jit(lambda tree: factorize_tree(tree, plan, method, earlier))(faulty)
        poisoned = {path.split("/")[0] for path, node in factors.items() if bool(jnp.isnan(node.u).any())}
        assert poisoned == reached
