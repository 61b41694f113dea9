"""The three ways to truncate a decomposition against Eckart and Young's optimum, computed by NumPy in float64."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import round_twin
from support.traced import equations

from fedhm_jax import ConfigError, SimulationConfig, StrategyConfig
from fedhm_jax.config.validation import check_config
from fedhm_jax.lowrank.decomposition import factorize_tree, is_factors, recover
from fedhm_jax.lowrank.truncation import FASTEST, STEPS, truncated, truncated_subspace, truncated_svd
from fedhm_jax.run.preparation.strategy import build_strategy
from fedhm_jax.strategies import fedhm
from fedhm_jax.testing import check_rounds, cohort, farthest, pose, setting_for

ROWS, COLUMNS, RANK = 60, 44, 12
SLICES = (RANK, 6, 3)
METHODS = ("svd", "gram", "subspace")
INDEX = np.arange(COLUMNS)
SPECTRA = {
    "flat": np.ones(COLUMNS),
    "1/i": 1 / (1 + INDEX),
    "fast": 0.5**INDEX,
    "deficient": np.where(INDEX < 5, 1 / (1 + INDEX), 0),
}
DRIFT = 0.1
"""How far a matrix moved since the decomposition that subspace iteration starts from, as a share of its norm."""
EXCESS = {
    "svd": dict.fromkeys(SPECTRA, 1e-5),
    "gram": dict.fromkeys(SPECTRA, 1e-5),
    "subspace": {"flat": 1e-5, "1/i": 0.02, "fast": 0.02, "deficient": 1e-5},
}
"""Largest error over the optimum, less one, apart from what rounding adds."""


def orthonormal(generator, rows, columns):
    return np.linalg.qr(generator.normal(size=(rows, columns)))[0]


def matrix_with(spectrum, transposed=False):
    generator = np.random.default_rng(0)
    rows, columns = (COLUMNS, ROWS) if transposed else (ROWS, COLUMNS)
    return orthonormal(generator, rows, COLUMNS) * SPECTRA[spectrum] @ orthonormal(generator, columns, COLUMNS).T


def moved(matrix, share=DRIFT, seed=1):
    noise = np.random.default_rng(seed).normal(size=matrix.shape)
    return matrix + share * np.linalg.norm(matrix) / np.linalg.norm(noise) * noise


def stacked(matrix, dtype=jnp.float32):
    return jnp.asarray(matrix, dtype)[None]


def decompose(matrix, method, dtype=jnp.float32, rank=RANK):
    """Left, values and right of one matrix in float64; subspace iteration starts from what the matrix was before."""
    start = truncated_svd(stacked(moved(matrix), dtype), rank).left if method == "subspace" else None
    return [np.asarray(part[0], np.float64) for part in truncated(stacked(matrix, dtype), rank, method, start)]


def error(matrix, left, right, rank):
    return np.linalg.norm(matrix - left[:, :rank] @ right[:rank])


def optimum(matrix, rank):
    return np.sqrt((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum())


def rounding(matrix, rank):
    """The error that single precision may add in squares: Ky Fan's bound for the eigenvectors of a matrix near by."""
    return rank * 2.0**-23 * np.linalg.norm(matrix, 2) ** 2


@pytest.mark.parametrize("transposed", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", METHODS)
def test_error_of_every_slice_is_near_the_optimum(method, spectrum, transposed):
    matrix = matrix_with(spectrum, transposed)
    left, _, right = decompose(matrix, method)
    for rank in SLICES:
        allowed = ((1 + EXCESS[method][spectrum]) * optimum(matrix, rank)) ** 2 + rounding(matrix, rank)
        assert error(matrix, left, right, rank) ** 2 <= allowed


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("spectrum", ["1/i", "fast"])
def test_subspace_iteration_keeps_the_bound_of_its_start(spectrum, share):
    """Gu's bound: direction j is missed by the start's tangent times (s_{r+1} / s_j) to twice the number of steps."""
    matrix = matrix_with(spectrum)
    vectors, values, _ = np.linalg.svd(matrix)
    start = np.linalg.svd(moved(matrix, share))[0][:, :RANK]
    inside, outside = vectors[:, :RANK].T @ start, vectors[:, RANK:].T @ start
    tangent = np.linalg.norm(outside @ np.linalg.inv(inside), 2)
    with jax.enable_x64(True):
        left, _, right = truncated_subspace(stacked(matrix, jnp.float64), stacked(start, jnp.float64))
        left, right = np.asarray(left[0]), np.asarray(right[0])
    missed = tangent * (values[RANK] / values[:RANK]) ** (2 * STEPS)
    for rank in SLICES:
        excess = (values**2)[:rank] @ (missed**2 / (1 + missed**2))[:rank]
        assert error(matrix, left, right, rank) ** 2 <= optimum(matrix, rank) ** 2 + excess + 1e-14
    assert tangent > share, "the start must miss something"


def test_subspace_iteration_follows_a_matrix_that_moves():
    """Started from its own last result round after round, it stays as near as after one."""
    matrix = matrix_with("1/i")
    left = truncated_svd(stacked(matrix), RANK).left
    step = jax.jit(truncated_subspace)
    for seed in range(10):
        matrix = moved(matrix, share=0.05, seed=seed)
        triplets = step(stacked(matrix), left)
        left = triplets.left
        found = error(matrix, *(np.asarray(part[0], np.float64) for part in (triplets.left, triplets.right)), RANK)
        assert found <= (1 + EXCESS["subspace"]["1/i"]) * optimum(matrix, RANK)


@pytest.mark.parametrize("method", METHODS)
def test_result_is_a_projection_split_evenly_in_falling_order(method):
    matrix = matrix_with("1/i")
    with jax.enable_x64(True):
        left, values, right = decompose(matrix, method, jnp.float64)
    basis = left / np.sqrt(values)
    np.testing.assert_allclose(basis.T @ basis, np.eye(RANK), atol=1e-12)
    np.testing.assert_allclose(left @ right, basis @ basis.T @ matrix, atol=1e-12)
    np.testing.assert_allclose(right @ right.T, np.diag(values), atol=1e-12)
    assert all(one >= other for one, other in pairwise(values))


@pytest.mark.parametrize("transposed", [False, True], ids=["tall", "wide"])
def test_gram_finds_the_same_truncation_as_svd(transposed):
    matrix = matrix_with("1/i", transposed)
    with jax.enable_x64(True):
        (left, values, right), oracle = (decompose(matrix, method, jnp.float64) for method in ("gram", "svd"))
    np.testing.assert_allclose(values, oracle[1], atol=1e-12)
    np.testing.assert_allclose(left @ right, oracle[0] @ oracle[2], atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_whole_rank_gives_the_matrix_back(method):
    matrix = matrix_with("1/i")
    left, _, right = decompose(matrix, method, rank=COLUMNS)
    np.testing.assert_allclose(left @ right, matrix, atol=1e-6)


@pytest.mark.parametrize("start", ["zero", "found"])
@pytest.mark.parametrize("method", METHODS)
def test_zero_and_one_direction_give_numbers(method, start):
    """Beside each other in one stack; the start is that of matrices of zeros, or the result itself."""
    one = np.outer(np.arange(1, ROWS + 1), np.linspace(-1, 1, COLUMNS))
    matrices = jnp.asarray(np.stack([np.zeros((ROWS, COLUMNS)), one / np.linalg.norm(one)]), jnp.float32)
    left = truncated(matrices, RANK, method, jnp.zeros((2, ROWS, RANK))).left
    before = jnp.zeros_like(left) if start == "zero" else left
    found = jax.jit(lambda matrices, before: truncated(matrices, RANK, method, before))(matrices, before)
    assert all(bool(jnp.isfinite(part).all()) for part in found)
    assert not found.values[0].any()
    np.testing.assert_allclose(found.left @ found.right, matrices, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_seeds_side_by_side(method):
    """As on an accelerator: a batch of stacks gives what each stack gives."""
    matrices = jnp.stack([jnp.stack([jnp.asarray(moved(matrix_with("1/i"), seed=seed))] * 2) for seed in range(3)])
    before = truncated_svd(stacked(matrix_with("1/i")), RANK).left
    before = jnp.broadcast_to(before, (3, 2, ROWS, RANK))

    def product(matrices, before):
        left, _, right = truncated(matrices, RANK, method, before)
        return left @ right

    together = jax.jit(jax.vmap(product))(matrices, before)
    alone = jnp.stack([product(*pair) for pair in zip(matrices, before, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def primitives(function, *args):
    """Names of all primitives that a function calls."""
    return {equation.primitive.name for equation in equations(function, *args)}


def test_every_method_is_what_it_says():
    matrices, start = jnp.ones((1, 6, 4)), jnp.ones((1, 6, 2))
    used = {
        method: primitives(lambda one, two, method=method: truncated(one, 2, method, two), matrices, start)
        & {"svd", "eigh", "qr"}
        for method in (*METHODS, "auto")
    }
    assert used == {"svd": {"svd"}, "gram": {"eigh"}, "subspace": {"eigh", "qr"}, "auto": used[FASTEST["cpu"]]}
    assert primitives(lambda one: truncated(one, 2, "subspace"), matrices) >= {"svd"}


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="decomposition is 'qr', but must be one of"):
        truncated(jnp.ones((1, 3, 3)), 1, "qr")
    with pytest.raises(ConfigError, match=r"strategy\.decomposition is 'qr', but must be one of 'auto', 'svd'"):
        check_config(SimulationConfig(strategy=StrategyConfig("fedhm", decomposition="qr")))


@pytest.mark.parametrize(
    ("method", "dtype", "tolerance"),
    [
        pytest.param("svd", np.float64, 1e-9, marks=pytest.mark.long),
        ("gram", np.float64, 1e-9),
        pytest.param("gram", np.float32, 1e-4, marks=pytest.mark.long),
    ],
)
def test_rounds_equal_those_of_the_twin(method, dtype, tolerance):
    build = partial(fedhm, decomposition=method)
    with jax.enable_x64(dtype is np.float64):
        round_twin.check_rounds(round_twin.CASES["conv"], round_twin.IN_A_ROW[:2], dtype, tolerance, build)


def test_the_server_starts_from_the_factors_of_the_round_before():
    setting = setting_for("mlp", (1.0, 4.0))
    with jax.enable_x64(True):
        problem = pose(partial(fedhm, decomposition="subspace"), setting, dtype=jnp.float64)
        after = problem.round_step(problem.state, cohort((4, 2), (5, 3, 1)))
        plan = {path: node.rank for path, node in after.factors.items()}

        @jax.jit
        def three_ways(after, earlier):
            trees = after.factors, *(factorize_tree(after.params, plan, way, earlier) for way in ("subspace", "svd"))
            return [jax.tree.map(recover, tree, is_leaf=is_factors) for tree in trees]

        found, warm, exact = three_ways(after, problem.state.factors)
    assert farthest(found, warm) < 1e-12
    assert farthest(found, exact) > 1e-6, "the exact factors would do as well"


@pytest.mark.long
def test_the_contract_holds_with_subspace_iteration():
    check_rounds(partial(fedhm, decomposition="subspace"), "mlp")


@pytest.mark.parametrize("strategy", ["fedhm", "fedavg_low_rank"])
def test_the_config_decides(strategy):
    setting = setting_for("mlp", (1.0, 4.0))
    used = {}
    for method in METHODS:
        config = SimulationConfig(strategy=StrategyConfig(name=strategy, decomposition=method))
        built = build_strategy(config, setting, builder=None)
        used[method] = primitives(built.init, setting.shapes, jax.random.key(0)) & {"svd", "eigh"}
    # the first decomposition of subspace iteration is exact
    assert used == {"svd": {"svd"}, "gram": {"eigh"}, "subspace": {"svd"}}


@pytest.mark.parametrize("method", METHODS)
def test_on_a_cpu_no_decomposition_is_of_a_batch(method):
    """In jaxlib 0.10 a batch waits for threads of a pool, which may be devices that wait for it."""
    arrays = jnp.ones((3, 6, 5)), jnp.ones((3, 6, 2))
    found = [
        equation.invars[0].aval.ndim
        for equation in equations(lambda stack, start: truncated(stack, 2, method, start), *arrays)
        if equation.primitive.name in ("svd", "eigh", "qr", "geqrf")
    ]
    assert found
    assert set(found) == {2}
