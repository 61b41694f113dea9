"""Samples in shares, one a device: nothing is lost, and shares are about equal."""

import jax
import numpy as np
import pytest

from fedhm_jax.data import Examples, Images, Windows, assign_holders, client_shards, deal_out

WINDOW = 3


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
@pytest.mark.parametrize("dynamic", [True, False])
def test_devices_have_about_as_many_samples_each(devices, dynamic):
    """The last client of the fullest device went to what was then the emptiest (Graham 1969)."""
    generator = np.random.default_rng(devices)
    sizes = generator.geometric(0.02, 60)
    tiers = None if dynamic else generator.integers(0, 3, 60)
    holders = assign_holders(sizes, tiers, devices)
    loads = np.bincount(holders, sizes, devices)
    order = np.lexsort((-sizes, np.zeros(60, int) if tiers is None else tiers))
    own = order[holders[order] == loads.argmax()]
    assert loads.sum() == sizes.sum()
    assert loads.max() - loads.min() <= sizes[own[-1]]


def test_every_tier_is_spread():
    """Clients of one size: each tier's numbers differ by one at most."""
    tiers = np.repeat([0, 1, 2], [5, 8, 7])
    holders = assign_holders(np.full(20, 10), tiers, devices=4)
    counts = np.stack([np.bincount(holders[tiers == tier], minlength=4) for tier in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert counts.sum(axis=0).tolist() == [5, 5, 5, 5]


def samples_of(kind):
    """Twelve of them, and what a task reads of the i-th."""
    numbers = np.random.default_rng(0)
    if kind == "images":
        images = Images(numbers.integers(0, 256, (12, 2, 2, 1)).astype(np.uint8), np.arange(12), np.ones(1), np.ones(1))
        return images, lambda samples, row: (samples.images[row].tolist(), int(samples.labels[row]), samples.mean)
    if kind == "arrays":
        trees = Examples({"a": numbers.normal(size=(12, 3)), "b": np.arange(12)}, numbers.normal(size=12))
        return trees, lambda samples, row: (samples.inputs["a"][row].tolist(), samples.inputs["b"][row])
    # Windows that follow one another, leave a gap, and overlap, out of order.
    starts = np.array([0, 3, 6, 9, 15, 16, 17, 30, 36, 33, 21, 24], np.int32)
    text = Windows(numbers.integers(0, 200, 40).astype(np.uint8), starts)
    return text, lambda samples, row: samples.tokens[samples.starts[row] : samples.starts[row] + WINDOW + 1].tolist()


# A sample of two clients, clients of one sample, and a sample of nobody.
PARTS = [np.array(part) for part in ([3, 1, 8], [0], [5, 4, 11, 2], [8, 6], [10, 7])]


@pytest.mark.parametrize("devices", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["images", "arrays", "text"])
def test_a_client_finds_its_own_samples_on_its_device(kind, devices):
    samples, read = samples_of(kind)
    holders = assign_holders(np.array([len(part) for part in PARTS]), None, devices)
    shards = client_shards(deal_out(samples, PARTS), holders, devices, WINDOW)
    shares = [shards.of_device(device) for device in range(devices)]
    for client, part in enumerate(PARTS):
        own, indices = shares[holders[client]]
        rows = indices[shards.offsets[client] : shards.offsets[client] + len(part)]
        assert [read(own, row) for row in rows] == [read(samples, row) for row in part]
    shapes = [jax.tree.map(np.shape, share) for share in shares]
    assert all(one == shapes[0] for one in shapes)


def test_a_device_has_the_tokens_of_its_windows_alone():
    """Five windows of 3 and the token after each, which is the next one's first where they follow one another."""
    text = Windows(np.arange(40, dtype=np.uint8), np.array([0, 3, 20, 6, 30], np.int32))
    dealt = deal_out(text, [np.array([0, 1, 3]), np.array([2, 4])])
    shards = client_shards(dealt, np.array([0, 1]), devices=2, window=WINDOW)
    assert shards.of_device(0)[0].tokens.tolist() == list(range(10))
    assert shards.of_device(1)[0].tokens.tolist() == [20, 21, 22, 23, 30, 31, 32, 33, 0, 0]
