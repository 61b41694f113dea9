"""Properties that every partition must have, and the skew that each one promises."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhm_jax.data.partition import dirichlet, dirichlet_equal, iid, label_counts, partition, quantity_skew, shards
from fedhm_jax.errors import ConfigError

METHODS = ("iid", "dirichlet", "dirichlet_equal", "shards", "quantity")
COVERING = ("iid", "dirichlet", "shards", "quantity")
BALANCED = np.repeat(np.arange(10), 200)

quick = settings(max_examples=60, deadline=None)


def deal(method, labels, classes, **options):
    defaults = {"clients": 5, "alpha": 0.5, "min_samples": 1, "classes_per_client": 2, "seed": 0}
    return partition(method, labels, classes, **{**defaults, **options})


@st.composite
def problems(draw):
    """Labels that may leave classes out, and options that they can satisfy."""
    classes = draw(st.integers(1, 6))
    labels = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=80)))
    clients = draw(st.integers(1, labels.size))
    options = {
        "clients": clients,
        "alpha": draw(st.one_of(st.sampled_from([1e-300, 0.01, 1e308]), st.floats(1e-3, 1e3))),
        "min_samples": draw(st.integers(1, labels.size // clients)),
        "classes_per_client": draw(st.integers(1, min(classes, labels.size // clients))),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    return labels, classes, options


@pytest.mark.parametrize("method", METHODS)
@given(problem=problems())
@quick
def test_parts_are_disjoint_index_arrays_and_the_same_for_the_same_seed(method, problem):
    labels, classes, options = problem
    parts = partition(method, labels, classes, **options)
    assert len(parts) == options["clients"]
    everything = np.concatenate(parts)
    assert np.issubdtype(everything.dtype, np.integer)
    assert len(set(everything.tolist())) == everything.size
    assert set(everything.tolist()) <= set(range(labels.size))
    again = partition(method, labels, classes, **options)
    assert all(np.array_equal(first, second) for first, second in zip(parts, again, strict=True))


@pytest.mark.parametrize("method", COVERING)
@given(problem=problems())
@quick
def test_covering_methods_deal_out_every_sample(method, problem):
    labels, classes, options = problem
    parts = partition(method, labels, classes, **options)
    assert sorted(np.concatenate(parts).tolist()) == list(range(labels.size))


@given(problem=problems())
@quick
def test_sizes(problem):
    labels, classes, options = problem
    clients, floor = options["clients"], options["min_samples"]
    even = [part.size for part in partition("iid", labels, classes, **options)]
    assert max(even) - min(even) <= 1
    equal = [part.size for part in partition("dirichlet_equal", labels, classes, **options)]
    assert equal == [labels.size // clients] * clients
    for method in ("dirichlet", "quantity"):
        assert min(part.size for part in partition(method, labels, classes, **options)) >= floor


@pytest.mark.parametrize("method", METHODS)
def test_different_seeds_deal_differently(method):
    first, second = (deal(method, BALANCED, 10, seed=seed) for seed in (1, 2))
    assert any(not np.array_equal(np.sort(a), np.sort(b)) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_parts_are_shuffled(method):
    """Labels change often along a part; sorted by label they would change at most nine times."""
    part = max(deal(method, BALANCED, 10, alpha=5.0), key=len)
    assert np.count_nonzero(np.diff(BALANCED[part])) > part.size / 4


@pytest.mark.parametrize("method", METHODS)
def test_a_client_draws_from_all_over_a_class(method):
    """The data may come in some order within a class; the range of 20 or more random draws of 200 is wide."""
    checked = 0
    for part in deal(method, BALANCED, 10, alpha=1.0, clients=8):
        for label in range(10):
            members = part[BALANCED[part] == label]
            if 20 <= members.size <= 100:
                assert np.ptp(members) > 120
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize("method", METHODS)
def test_labels_stay_as_they_are(method):
    labels = BALANCED.copy()
    labels.flags.writeable = False
    deal(method, labels, 10)
    assert np.array_equal(labels, BALANCED)


@pytest.mark.parametrize("split", [dirichlet, quantity_skew])
@pytest.mark.parametrize("alpha", [1e9, 1e308])
def test_large_alpha_gives_even_sizes(split, alpha):
    sizes = [part.size for part in split(BALANCED, 8, alpha, 1, 0)]
    assert max(sizes) - min(sizes) <= 10  # each of 10 classes may round by one


def test_large_alpha_gives_every_client_the_overall_class_mix():
    unbalanced = np.repeat(np.arange(4), [400, 400, 800, 2400])
    expected = np.array([0.1, 0.1, 0.2, 0.6])
    exact = label_counts(unbalanced, dirichlet(unbalanced, 8, 1e9, 1, seed=3), 4)
    assert np.abs(exact - expected * 500).max() <= 1
    drawn = label_counts(unbalanced, dirichlet_equal(unbalanced, 8, 1e9, seed=3), 4)
    # Multinomial noise of 500 draws: five standard deviations of a share are at most 0.11.
    assert np.abs(drawn[:6] / 500 - expected).max() < 0.11


def largest_class_share(parts):
    counts = label_counts(BALANCED, parts, 10)
    return float(np.mean(counts.max(1) / counts.sum(1)))


def test_small_alpha_concentrates_labels():
    for split in (functools.partial(dirichlet, min_samples=1), dirichlet_equal):
        skewed = largest_class_share(split(BALANCED, clients=10, alpha=0.01, seed=0))
        mild = largest_class_share(split(BALANCED, clients=10, alpha=1.0, seed=0))
        even = largest_class_share(split(BALANCED, clients=10, alpha=1e6, seed=0))
        assert skewed > 0.7
        assert skewed > mild > even
        assert even < 0.2


def test_small_alpha_gives_each_class_to_one_client():
    """As alpha goes to 0 a Dirichlet draw becomes one-hot."""
    counts = label_counts(BALANCED, dirichlet(BALANCED, 4, 1e-9, 1, seed=0), 10)
    assert np.all(counts.max(0) >= 200 - 4)  # the floor may take one sample for each client


def test_dirichlet_shares_have_the_spread_of_theory():
    """A share of Dirichlet(alpha, ..., alpha) over K clients has variance (K - 1) / (K^2 (K alpha + 1))."""
    labels = np.repeat(np.arange(400), 100)
    clients, alpha = 5, 0.5
    shares = label_counts(labels, dirichlet(labels, clients, alpha, 1, seed=0), 400) / 100
    expected = (clients - 1) / (clients**2 * (clients * alpha + 1))
    assert shares.var() == pytest.approx(expected, rel=0.1)


def test_quantity_skew_has_iid_labels():
    parts = quantity_skew(BALANCED, 4, 0.3, 100, seed=0)
    sizes = np.array([part.size for part in parts])
    assert sizes.max() > 2 * sizes.min()
    counts = label_counts(BALANCED, parts, 10)
    # A sampled share of 0.1 deviates by more than five standard deviations once in two million draws.
    assert np.all(np.abs(counts / sizes[:, None] - 0.1) < 5 * np.sqrt(0.09 / sizes)[:, None])


def test_floor_is_filled_from_the_largest_client():
    sizes = sorted(part.size for part in quantity_skew(np.zeros(100, int), 3, 1e-9, 10, seed=0))
    assert sizes == [10, 10, 80]


def test_floor_takes_from_whoever_is_largest_at_the_moment():
    before = [part.size for part in quantity_skew(BALANCED, 12, 0.7, 1, seed=4)]
    expected = list(before)
    while min(expected) < 120:
        expected[expected.index(min(expected))] += 1
        expected[expected.index(max(expected))] -= 1
    after = [part.size for part in quantity_skew(BALANCED, 12, 0.7, 120, seed=4)]
    assert min(before) > 1  # so that nothing was moved
    assert sum(size > 140 for size in before) > 3
    # Ties make the order of giving arbitrary among equals, the sizes themselves are determined.
    assert sorted(after) == sorted(expected)


def test_shards_of_whole_classes_hold_exactly_that_many():
    counts = label_counts(BALANCED, shards(BALANCED, 10, 2, seed=0), 10)
    assert np.all(counts.sum(1) == 200)
    assert np.all(np.count_nonzero(counts, axis=1) <= 2)
    assert set(counts.ravel().tolist()) <= {0, 100, 200}


@given(problem=problems())
@quick
def test_shards_hold_few_labels(problem):
    """A shard of s consecutive sorted samples spans at most one label more than the boundaries inside it."""
    labels, classes, options = problem
    clients, per_client = options["clients"], options["classes_per_client"]
    parts = shards(labels, clients, per_client, options["seed"])
    shard = labels.size // (clients * per_client)
    smallest = np.unique(labels, return_counts=True)[1].min()
    if shard < smallest:  # then no shard can span three labels
        counts = label_counts(labels, parts, classes)
        assert np.count_nonzero(counts, axis=1).max() <= 2 * per_client
    # Over all clients, each of the boundaries between labels adds at most one (client, label) pair.
    pairs = sum(np.unique(labels[part]).size for part in parts)
    assert pairs <= clients * per_client + np.unique(labels).size - 1


def test_label_counts_by_hand():
    counts = label_counts(np.array([0, 1, 1, 3]), [np.array([1, 2, 3]), np.array([0])], classes=5)
    assert counts.tolist() == [[0, 2, 0, 1, 0], [1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("method", "options", "field"),
    [
        *[(method, {"clients": clients}, "partition.clients") for method in METHODS for clients in (0, -1, 21)],
        *[
            (method, {"alpha": alpha}, "partition.alpha")
            for method in ("dirichlet", "dirichlet_equal", "quantity")
            for alpha in (0.0, -1.0, math.nan, math.inf)
        ],
        *[
            (method, {"min_samples": floor}, "partition.min_samples")
            for method in ("dirichlet", "quantity")
            for floor in (0, 5)
        ],
        ("shards", {"classes_per_client": 0}, "partition.classes_per_client"),
        ("shards", {"classes_per_client": 5}, "partition.classes_per_client"),
        ("shards", {"classes_per_client": 3, "clients": 7}, "partition.classes_per_client"),
        ("zipf", {}, "partition.method"),
    ],
)
def test_refusals(method, options, field):
    labels = np.arange(20) % 4
    given_value = options.get(field.removeprefix("partition."), method)
    with pytest.raises(ConfigError) as refusal:
        deal(method, labels, 4, **options)
    shown = repr(given_value)
    assert str(refusal.value).startswith(f"{field} is {shown}, but must be ")


@pytest.mark.parametrize("method", METHODS)
def test_one_client_gets_everything(method):
    (part,) = deal(method, BALANCED, 10, clients=1)
    assert sorted(part.tolist()) == list(range(BALANCED.size))


def test_iid_of_as_many_clients_as_samples():
    assert [part.size for part in iid(np.zeros(7, int), 7, seed=0)] == [1] * 7
