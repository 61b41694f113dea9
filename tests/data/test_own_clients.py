"""Clients that come with the data or from the user: who holds what, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawing
from hypothesis import settings
from hypothesis import strategies as st

from fedhm_jax.data import Dataset, dataset_from_arrays, given, hold_out, label_counts, load_dataset, natural
from fedhm_jax.data.images.npz import load_npz, test_share
from fedhm_jax.errors import ConfigError

test_share.__test__ = False  # a function of the package, whose name pytest takes for a test's
OMNIGLOT = Path(__file__).parents[3] / "shared" / "data" / "omniglot_small" / "omniglot_small.npz"


def refusal(call, *arguments, **options):
    """The message of the ConfigError that the call must raise: one line."""
    with pytest.raises(ConfigError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


# --- by id ----------------------------------------------------------------------------------------------------------

owners = st.lists(st.sampled_from(["ann", "bob", "cem", "dan", "eve"]), min_size=1, max_size=40).map(np.array)


@drawing(owners=owners, floor=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_natural_clients_are_those_of_the_ids(owners, floor):
    by_hand = {name: [row for row, owner in enumerate(owners) if owner == name] for name in sorted(set(owners))}
    expected = [rows for rows in by_hand.values() if len(rows) >= floor]
    if expected:
        assert [part.tolist() for part in natural(owners, None, floor, seed=0)] == expected
    else:
        largest = max(map(len, by_hand.values()))
        message = refusal(natural, owners, None, floor, seed=0)
        assert message.startswith(f"partition.min_samples is {floor}, but must be at most {largest}")


def test_fewer_natural_clients_are_drawn_at_random_by_the_seed():
    owners = np.arange(300) % 30
    whole = [part.tolist() for part in natural(owners, None, 1, seed=0)]
    drawn = [[part.tolist() for part in natural(owners, 5, 1, seed)] for seed in range(40)]
    assert drawn[0] == [part.tolist() for part in natural(owners, 5, 1, seed=0)]
    for parts in drawn:
        assert len(parts) == 5
        assert parts == [part for part in whole if part in parts]  # each once, in the order of the ids
    # A client stays out of 40 draws of five in thirty with probability (5 / 6)^40, all of thirty stay in with 0.98.
    assert {tuple(part) for parts in drawn for part in parts} == {tuple(part) for part in whole}
    message = refusal(natural, owners, 31, 10, seed=0)
    allowed = "between 1 and 30, the number of the data's clients with 10 samples or more"
    assert message == f"partition.clients is 31, but must be {allowed}"


# --- as lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lists",
    [
        [[2, 0], [1]],
        ((2, 0), (1,)),
        [np.array([2, 0], np.uint8), range(1, 2)],
        np.array([[2, 0], [1, 0]]),
    ],
)
def test_lists_of_any_kind_are_taken_in_their_order(lists):
    parts = given(lists, samples=3)
    assert [part.tolist() for part in parts] == [list(part) for part in lists]
    assert all(part.dtype == np.int64 for part in parts)


def test_clients_may_share_samples_and_leave_some_out():
    assert [part.tolist() for part in given([[0, 1], [1, 2]], samples=9)] == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ([], "is empty, but must hold at least one sample"),
        ([0, 3], "holds the index 3, but must hold indices from 0 to 2, one for each training sample"),
        ([-1], "holds the index -1, but must hold indices from 0 to 2, one for each training sample"),
        ([2**70], "holds values of type object, but must hold integers"),
        ([0.0, 1.0], "holds values of type float64, but must hold integers"),
        ([True, False, True], "holds values of type bool, but must hold integers"),
        (["0"], "holds values of type <U1, but must hold integers"),
        ([None], "holds values of type object, but must hold integers"),
        (1, "is of type int, but must be one list of sample indices"),
        ({0, 1}, "is of type set, but must be one list of sample indices"),
        (None, "is of type NoneType, but must be one list of sample indices"),
        ([[0], [1]], "is an array of shape (2, 1), but must be one list of sample indices"),
        ([[0], [1, 2]], "holds lists, but must be one list of sample indices"),
        ([1, 0, 1], "holds the index 1 twice, but must hold each sample once"),
    ],
)
def test_lists_that_are_refused(part, says):
    assert refusal(given, [[0], part], samples=3) == f"partition[1] {says}"


# --- data sets that know their clients ------------------------------------------------------------------------------


def small(clients, samples=20):
    images = np.arange(samples * 4, dtype=np.uint8).reshape(samples, 2, 2)
    labels = np.arange(samples) % 3
    return dataset_from_arrays(images, labels, images[:2], labels[:2], clients=clients, name="small")


@pytest.mark.parametrize(
    "clients", [list(range(20)), ["ann", "bob"] * 10, np.array(["ann", "bob"] * 10, object), np.arange(20, dtype="u1")]
)
def test_arrays_may_say_whose_the_samples_are(clients):
    assert small(clients).train_clients.tolist() == list(clients)
    assert small(clients).train_clients.dtype != object


@pytest.mark.parametrize(
    ("clients", "says"),
    [
        (np.arange(19), "has shape (19,), but must be (20,), one client id per sample"),
        (np.zeros((20, 1), int), "has shape (20, 1), but must be (20,), one client id per sample"),
        (np.zeros(20), "is of type float64, but must be integers or strings"),
        ([None] * 20, "is of type object, but must be integers or strings"),
    ],
)
def test_client_ids_that_are_refused(clients, says):
    assert refusal(small, clients) == f"data.train_clients {says}"


def test_held_out_samples_are_taken_from_their_clients():
    dataset = small(np.arange(20))
    kept = hold_out(dataset, 5)
    assert len(kept.train_clients) == 15
    # The first pixel of image i is 4 i, and its client is i.
    assert (kept.train_images[:, 0, 0, 0] == 4 * kept.train_clients).all()


def test_a_data_set_shows_itself_in_one_line():
    assert repr(small(None)) == "Dataset('small': 20 training and 2 test images of shape (2, 2, 1), 3 classes)"
    assert repr(small(["ann", "bob"] * 10)).endswith("3 classes, 2 clients)")


# --- npz ------------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
LABELS = np.repeat([0, 1, 2], [20, 14, 6])
ARRAYS = {"images": IMAGES, "labels": LABELS, "client": np.arange(40) % 3}


def save(folder, **arrays):
    file = folder / "mine.npz"
    np.savez(file, **arrays)
    return file


def rows(images):
    """Which of IMAGES each is."""
    return [int(np.flatnonzero((IMAGES[..., None] == image).all((1, 2, 3)))[0]) for image in images]


def test_npz_with_a_test_set(tmp_path):
    file = save(tmp_path, **ARRAYS, test_images=IMAGES[:7], test_labels=LABELS[:7], other=np.zeros(3))
    dataset = load_dataset("npz", data_dir=file)
    assert isinstance(dataset, Dataset)
    assert rows(dataset.train_images) == list(range(40))
    assert dataset.train_labels.tolist() == LABELS.tolist()
    assert dataset.train_clients.tolist() == ARRAYS["client"].tolist()
    assert rows(dataset.test_images) == list(range(7))
    assert (dataset.classes, dataset.name) == (3, "mine")


def test_npz_without_a_test_set_gives_a_fifth_of_every_class(tmp_path):
    dataset = load_dataset("npz", data_dir=save(tmp_path, **ARRAYS))
    train, test = rows(dataset.train_images), rows(dataset.test_images)
    assert sorted(train + test) == list(range(40))
    assert np.bincount(dataset.test_labels).tolist() == [4, 2, 1]
    for found, labels in ((train, dataset.train_labels), (test, dataset.test_labels)):
        assert labels.tolist() == LABELS[found].tolist()
    assert dataset.train_clients.tolist() == ARRAYS["client"][train].tolist()
    again = load_dataset("npz", data_dir=str(save(tmp_path, **ARRAYS)), test_samples=3)
    assert set(rows(again.test_images)) < set(test)


@drawing(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_test_share_is_a_fifth_rounded_down(sizes, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = test_share(labels)
    assert np.bincount(labels[chosen], minlength=len(sizes)).tolist() == [size // 5 for size in sizes]


def test_npz_another_array_may_tell_the_clients(tmp_path):
    file = save(tmp_path, **ARRAYS, writer=np.array(["ann", "bob"] * 20))
    assert load_npz(file).train_clients.max() == 2
    named = load_npz(file, "writer")
    assert set(named.train_clients) == {"ann", "bob"}
    bare = save(tmp_path, images=IMAGES, labels=LABELS)
    assert load_npz(bare).train_clients is None


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"labels": None}, {}, "data.data_dir is '{file}', but must be a file with the array 'labels' (it has: "),
        ({"test_images": IMAGES}, {}, "data.data_dir is '{file}', but must be a file with the array 'test_labels'"),
        ({"images": IMAGES * 0.5}, {}, "data.train_images holds floats from 0 to 127.5, but must be uint8, or "),
        ({"labels": LABELS[:5]}, {}, "data.train_labels has shape (5,), but must be (40,)"),
        ({"client": LABELS[:5]}, {}, "data.train_clients has shape (5,), but must be (40,)"),
        ({"labels": np.arange(40) // 4}, {}, "data.labels has no class of five samples, but must have one, or "),
        ({}, {"client_feature": "writer"}, "data.client_feature is 'writer', but must be one of the other arrays of "),
        ({}, {"client_feature": "labels"}, "data.client_feature is 'labels', but must be one of the other arrays of "),
        ({}, {"train_split": "test"}, "data.train_split is 'test', but must be 'train' when data.name is 'npz'"),
        ({}, {"test_split": "train"}, "data.test_split is 'train', but must be 'test' when data.name is 'npz'"),
        ({"images": np.array([{}])}, {}, "data.data_dir is '{file}', but must be a .npz file that can be read ("),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, changes, options, says):
    file = save(tmp_path, **{name: array for name, array in {**ARRAYS, **changes}.items() if array is not None})
    message = refusal(load_dataset, "npz", data_dir=file, **options)
    assert message.startswith(says.format(file=file))
    assert str(file) in message or "data.name" in message


def test_npz_files_that_cannot_be_read(tmp_path):
    assert refusal(load_npz, None).startswith("data.data_dir is unset, but must be the file of the arrays")
    array, text, damaged = tmp_path / "array.npy", tmp_path / "text.npz", save(tmp_path, **ARRAYS)
    np.save(array, IMAGES)
    text.write_text("images")
    content = bytearray(damaged.read_bytes())
    content[300] ^= 255
    damaged.write_bytes(content)
    for file in (tmp_path / "nowhere.npz", tmp_path, array, text, damaged):
        assert refusal(load_npz, file).startswith(f"data.data_dir is {str(file)!r}, but must be a .npz file")


@pytest.mark.skipif(not OMNIGLOT.is_file(), reason=f"no Omniglot at {OMNIGLOT}")
def test_omniglot_as_it_is():
    dataset = load_dataset("npz", data_dir=OMNIGLOT)
    assert (dataset.classes, dataset.name) == (242, "omniglot_small")
    assert dataset.train_images.shape == (3872, 28, 28, 1)
    # Twenty drawings of every character: four of them are tested on.
    assert np.bincount(dataset.test_labels).tolist() == [4] * 242
    parts = natural(dataset.train_clients, None, 1, seed=0)
    assert len(parts) == 160
    assert sorted(np.concatenate(parts).tolist()) == list(range(3872))
    # A client drew one alphabet, each of its characters once.
    assert label_counts(dataset.train_labels, parts, 242).max() == 1
    by_drawer = load_dataset("npz", data_dir=OMNIGLOT, client_feature="drawer")
    assert len(natural(by_drawer.train_clients, None, 1, seed=0)) == 20
