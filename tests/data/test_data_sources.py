"""Every source of images: what it reads, what it refuses, and the cache of decoded copies."""

import io
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tfds_files import write_set

from fedhm_jax.data.images.arrays import dataset_from_arrays
from fedhm_jax.data.images.cache import UndecodedSplit, read_cached
from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.data.images.sources import load_dataset
from fedhm_jax.data.tfds_builder import quietly
from fedhm_jax.errors import ConfigError

REAL = Path(__file__).parents[3] / "shared" / "tfds"


def refusal(call, *arguments, **options):
    """The message of the ConfigError that the call must raise: one line."""
    with pytest.raises(ConfigError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


# --- digits ---------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_digits_in_its_stratified_split():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    dataset, source = load_dataset("digits"), load_digits()
    train, test = train_test_split(np.arange(1797), test_size=0.2, stratify=source.target, random_state=0)
    assert (dataset.classes, dataset.name) == (10, "digits")
    for images, labels, chosen in (
        (dataset.train_images, dataset.train_labels, train),
        (dataset.test_images, dataset.test_labels, test),
    ):
        assert (images.dtype, labels.dtype, images.shape) == (np.uint8, np.int32, (len(chosen), 8, 8, 1))
        # 255 / 16 is 15.9375 and sixteenths are exact, so every pixel maps back to one level of 0..16.
        levels = np.rint(images[..., 0] / 15.9375)
        assert np.abs(images[..., 0] - levels * 15.9375).max() <= 0.5
        assert np.array_equal(levels, source.images[chosen])
        assert np.array_equal(labels, source.target[chosen])


def test_digits_splits_are_fixed_and_can_be_swapped():
    first, second = load_dataset("digits"), load_dataset("digits", train_split="test", test_split="train")
    assert np.array_equal(first.train_images, second.test_images)
    assert np.array_equal(first.test_labels, second.train_labels)


@pytest.mark.parametrize("field", ["train_split", "test_split"])
def test_digits_have_no_other_splits(field):
    message = refusal(load_dataset, "digits", **{field: "validation"})
    assert message.startswith(f"data.{field} is 'validation', but must be ")


# --- subsets --------------------------------------------------------------------------------------------------------


def test_subsets_are_drawn_from_the_whole_set_and_fixed():
    whole = load_dataset("digits")
    once = load_dataset("digits", train_samples=100, test_samples=360)
    again = load_dataset("digits", train_samples=100)
    assert len(once.train_labels) == 100
    assert np.array_equal(once.train_images, again.train_images)
    assert np.array_equal(once.test_images, whole.test_images)
    pairs = {(image.tobytes(), int(label)) for image, label in zip(whole.train_images, whole.train_labels, strict=True)}
    drawn = {(image.tobytes(), int(label)) for image, label in zip(once.train_images, once.train_labels, strict=True)}
    assert len(drawn) == 100
    assert drawn <= pairs
    assert not np.array_equal(once.train_images, whole.train_images[:100])


@pytest.mark.parametrize(
    ("field", "value", "available"),
    [("train_samples", 1438, 1437), ("test_samples", 361, 360), ("train_samples", 0, 1437)],
)
def test_subsets_larger_than_the_set_are_refused(field, value, available):
    message = refusal(load_dataset, "digits", **{field: value})
    assert message.startswith(f"data.{field} is {value}, but must be ")
    assert str(available) in message


# --- arrays ---------------------------------------------------------------------------------------------------------

IMAGES = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([0, 1, 2, 1])


def from_arrays(**changes):
    arguments = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2], "test_labels": LABELS[:2]}
    return dataset_from_arrays(**{**arguments, **changes})


def test_arrays_become_a_dataset():
    dataset = from_arrays(test_labels=[3, 0])
    assert isinstance(dataset, Dataset)
    assert dataset.train_images.shape == (4, 2, 3, 1)
    assert np.array_equal(dataset.train_images[..., 0], IMAGES)
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert (dataset.classes, dataset.name) == (4, "arrays")
    colour = np.zeros((2, 5, 5, 3), np.uint8)
    named = dataset_from_arrays(colour, [0, 0], colour, [0, 1], classes=7, name="mine")
    assert (named.train_images.shape, named.classes, named.name) == ((2, 5, 5, 3), 7, "mine")


def test_classes_can_have_names():
    assert from_arrays().class_names is None
    assert from_arrays(class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(ConfigError, match="class_names is '2 names', but must be one a class, of which there are 3"):
        from_arrays(class_names=["a", "b"])


def test_float_images_are_scaled_to_bytes():
    floats = np.array([[[0.0, 0.5, 1.0]], [[0.2, 0.001, 0.999]]], np.float32)
    dataset = from_arrays(train_images=floats, train_labels=[0, 1], test_images=floats)
    # 255 x rounded: 127.5 goes to the even neighbour, 51, 0.255 to 0, 254.745 to 255.
    assert dataset.train_images.ravel().tolist() == [0, 128, 255, 51, 0, 255]


def with_value(value):
    images = np.full((4, 2, 3), 0.5)
    images[1, 1, 1] = value
    return images


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("train_images", IMAGES[0], "(2, 3)"),
        ("train_images", np.zeros((4, 1, 2, 3, 1), np.uint8), "(4, 1, 2, 3, 1)"),
        ("train_images", IMAGES[:0], "(0, 2, 3)"),
        ("test_images", np.zeros((2, 0, 3), np.uint8), "(2, 0, 3)"),
        ("train_images", [[[1, 2]], [[1]]], "rectangular"),
        ("train_images", with_value(np.nan), "NaN"),
        ("train_images", with_value(np.inf), "infinite"),
        ("test_images", with_value(255.0), "0.5 to 255"),
        ("train_images", with_value(-0.1), "-0.1 to 0.5"),
        ("train_images", IMAGES.astype(np.int64), "int64"),
        ("train_images", IMAGES.astype(object), "object"),
        ("test_images", np.zeros((2, 3, 3), np.uint8), "(3, 3, 1)"),
        ("train_labels", LABELS[:3], "(3,)"),
        ("test_labels", np.eye(2, dtype=int), "(2, 2)"),
        ("train_labels", LABELS.astype(float), "float64"),
        ("train_labels", LABELS == 1, "bool"),
        ("train_labels", ["a", "b", "c", "d"], "<U1"),
        ("test_labels", [0, -1], "-1"),
        ("test_labels", [[0], [1, 2]], "rectangular"),
    ],
)
def test_unusable_arrays_are_refused(field, value, says):
    message = refusal(from_arrays, **{field: value})
    assert message.startswith(f"data.{field} ")
    assert "must" in message
    assert says in message


def test_labels_beyond_the_classes_are_refused():
    message = refusal(from_arrays, classes=2)
    assert message.startswith("data.train_labels holds the label 2, but must hold labels from 0 to 1")
    assert refusal(from_arrays, test_labels=[0, 3], classes=3).startswith("data.test_labels holds the label 3")
    assert refusal(from_arrays, classes=0).startswith("data.classes is 0, but must be")


# --- image folders --------------------------------------------------------------------------------------------------


def random_pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Two classes, two training and one test image of each, 6 wide and 4 high, in colour."""
    root = tmp_path / "pictures"
    for number, name in enumerate(["cat", "dog"]):
        for image in range(2):
            save(root / "train" / name / f"{image}.png", random_pixels(10 * number + image, 4, 6, 3))
        save(root / "test" / name / "0.PNG", random_pixels(10 * number + 5, 4, 6, 3))
    return root


def load_pictures(root, **options):
    return load_dataset("folder", **{"data_dir": root, "cache_dir": Path(root).parent / "cache", **options})


def test_folder_roundtrip(pictures):
    (pictures / "train" / "cat" / "notes.txt").write_text("not an image")
    (pictures / "train" / "cat" / ".hidden.png").write_text("not an image")
    dataset = load_pictures(pictures)
    assert dataset.train_images.shape == (4, 4, 6, 3)
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    assert dataset.test_labels.tolist() == [0, 1]
    assert (dataset.classes, dataset.name) == (2, "folder")
    for index, seed in enumerate([0, 1, 10, 11]):
        assert np.array_equal(dataset.train_images[index], random_pixels(seed, 4, 6, 3))
    assert np.array_equal(dataset.test_images[1], random_pixels(15, 4, 6, 3))


def test_grayscale_folder_keeps_one_channel(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / "gray" / split / "one" / "0.png", random_pixels(1, 4, 6))
    dataset = load_pictures(tmp_path / "gray")
    assert dataset.train_images.shape == (1, 4, 6, 1)
    assert np.array_equal(dataset.train_images[0, ..., 0], random_pixels(1, 4, 6))


def test_one_colour_image_makes_all_colour(tmp_path):
    save(tmp_path / "mixed" / "train" / "one" / "0.png", random_pixels(1, 4, 6))
    save(tmp_path / "mixed" / "train" / "one" / "1.png", random_pixels(2, 4, 6, 4))
    save(tmp_path / "mixed" / "test" / "one" / "0.png", random_pixels(3, 4, 6))
    dataset = load_pictures(tmp_path / "mixed")
    assert np.array_equal(dataset.train_images[0], np.repeat(random_pixels(1, 4, 6)[..., None], 3, axis=-1))
    assert np.array_equal(dataset.train_images[1], random_pixels(2, 4, 6, 4)[..., :3])
    assert np.array_equal(dataset.test_images[0], np.repeat(random_pixels(3, 4, 6)[..., None], 3, axis=-1))


def test_folder_reads_jpeg(pictures):
    flat = np.full((4, 6, 3), 120, np.uint8)
    for name in ("a.jpg", "b.JPEG"):
        save(pictures / "train" / "cat" / name, flat)
    images = load_pictures(pictures).train_images
    assert len(images) == 6
    assert np.abs(images[2:4].astype(int) - 120).max() <= 2


def test_corrupt_image_is_named(pictures):
    broken = pictures / "train" / "dog" / "1.png"
    broken.write_bytes(b"no image at all")
    message = refusal(load_pictures, pictures)
    assert message.startswith(f"data.data_dir is {str(pictures)!r}, but must be ")
    assert str(broken) in message


def test_truncated_image_is_named(pictures):
    large = pictures / "train" / "dog" / "1.png"
    save(large, random_pixels(0, 4, 6, 3))
    os.truncate(large, large.stat().st_size - 30)
    assert str(large) in refusal(load_pictures, pictures)


def test_first_image_of_another_size_is_named(pictures):
    odd = pictures / "train" / "dog" / "0.png"
    save(odd, random_pixels(0, 5, 6, 3))
    message = refusal(load_pictures, pictures)
    assert f"{odd} is 6 x 5 while" in message
    assert "6 x 4" in message


def test_sixteen_bit_image_is_refused(pictures):
    deep = pictures / "test" / "dog" / "0.PNG"
    save(deep, np.full((4, 6), 40000, np.uint16))
    message = refusal(load_pictures, pictures)
    assert str(deep) in message
    assert "8 bits" in message


def test_folders_that_do_not_fit(pictures, tmp_path):
    assert refusal(load_dataset, "folder").startswith("data.data_dir is unset")
    missing = refusal(load_pictures, tmp_path / "nowhere")
    assert missing.startswith("data.data_dir is ")
    assert "nowhere" in missing
    too_long = refusal(load_pictures, pictures, train_split="x" * 300)
    assert too_long.startswith("data.train_split is 'xxx")
    assert refusal(load_pictures, pictures / ("x" * 300)).startswith("data.data_dir is '")
    wrong = refusal(load_pictures, pictures, train_split="training")
    assert wrong.startswith("data.train_split is 'training', but must be ")
    assert "'test', 'train'" in wrong
    (pictures / "test" / "bird").mkdir()
    assert "bird" in refusal(load_pictures, pictures)
    (pictures / "train" / "bird").mkdir()
    empty = refusal(load_pictures, pictures)
    assert empty.startswith("data.train_split is 'train', but must be ")
    assert str(pictures / "train" / "bird") in empty
    (tmp_path / "bare" / "train").mkdir(parents=True)
    (tmp_path / "bare" / "test").mkdir()
    assert "one folder per class" in refusal(load_pictures, tmp_path / "bare")


# --- image folders by client ----------------------------------------------------------------------------------------


@pytest.fixture
def albums(tmp_path):
    """Ann has two cats, bob a cat and a dog; the test split has no clients."""
    root = tmp_path / "albums"
    for number, place in enumerate(["ann/cat/0", "ann/cat/1", "bob/cat/0", "bob/dog/7"]):
        save(root / "train" / f"{place}.png", random_pixels(number, 4, 6))
    for number, name in enumerate(["cat", "dog"]):
        save(root / "test" / name / "0.png", random_pixels(10 + number, 4, 6))
    return root


def test_folders_by_client(albums):
    for _ in ("decoded", "from the cache"):
        dataset = load_pictures(albums)
        assert dataset.train_labels.tolist() == [0, 0, 0, 1]
        assert dataset.train_clients.tolist() == ["ann", "ann", "bob", "bob"]
        assert dataset.test_labels.tolist() == [0, 1]
        for index in range(4):
            assert np.array_equal(dataset.train_images[index, ..., 0], random_pixels(index, 4, 6))


def test_folders_beside_the_images_of_a_class_are_not_read(pictures):
    save(pictures / "train" / "cat" / "small" / "0.png", random_pixels(0, 4, 6, 3))
    dataset = load_pictures(pictures)
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    assert dataset.train_clients is None


def test_both_splits_may_be_by_client(albums):
    shutil.rmtree(albums / "test")
    save(albums / "test" / "eve" / "dog" / "0.png", random_pixels(0, 4, 6))
    save(albums / "test" / "dan" / "cat" / "0.png", random_pixels(1, 4, 6))
    assert load_pictures(albums).test_labels.tolist() == [0, 1]


def test_folders_by_client_that_do_not_fit(albums):
    (albums / "train" / "bob" / "bird").mkdir()
    assert str(albums / "train" / "bob" / "bird") in refusal(load_pictures, albums)
    save(albums / "train" / "bob" / "bird" / "0.png", random_pixels(0, 4, 6))
    assert "unlike: bird" in refusal(load_pictures, albums)
    save(albums / "train" / "zoe" / "0.png", random_pixels(0, 4, 6))
    message = refusal(load_pictures, albums)
    assert message.startswith("data.train_split is 'train', but must be a split whose folders all hold classes, as ")
    assert str(albums / "train" / "zoe") in message


# --- cache ----------------------------------------------------------------------------------------------------------

PIXELS = random_pixels(3, 5, 4, 4, 1)


class CountedSource:
    """A split of five samples that counts how often it is decoded, and can fail half-way."""

    def __init__(self, failure=None):
        self.decoded = 0
        self.failure = failure

    def samples(self):
        self.decoded += 1
        for index, image in enumerate(PIXELS):
            if index == 3 and self.failure is not None:
                raise self.failure
            yield image, index

    def read(self, folder, title="five/1.0.0 train[:5]", files=()):
        return read_cached(UndecodedSplit(title, tuple(files), 5, 5, self.samples), folder)


def assert_right(arrays):
    images, labels, clients = arrays
    assert clients is None
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert np.array_equal(images, PIXELS)
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_cache_decodes_once_and_maps_the_copy(tmp_path):
    source = CountedSource()
    assert_right(source.read(tmp_path / "new" / "folder"))
    again = source.read(tmp_path / "new" / "folder")
    assert_right(again)
    assert source.decoded == 1
    assert isinstance(again.images, np.memmap)
    assert not again.images.flags.writeable
    (entry,) = (tmp_path / "new" / "folder").iterdir()
    assert not set(entry.name) & set("/[]: ")


def test_cache_tells_splits_apart(tmp_path):
    source = CountedSource()
    for title in ("five train[:1]", "five train[1:]", "five/train[:1]", "six train[:1]"):
        source.read(tmp_path, title)
    assert source.decoded == len(list(tmp_path.iterdir())) == 4


def test_cache_follows_changes_of_the_source_files(tmp_path):
    source, file = CountedSource(), tmp_path / "file"
    file.write_text("old")
    source.read(tmp_path / "cache", files=[file])
    source.read(tmp_path / "cache", files=[file])
    assert source.decoded == 1
    os.utime(file, ns=(1, 1))
    source.read(tmp_path / "cache", files=[file])
    assert source.decoded == 2
    file.write_text("longer")
    os.utime(file, ns=(1, 1))
    source.read(tmp_path / "cache", files=[file])
    assert source.decoded == 3


def truncate(path):
    os.truncate(path, path.stat().st_size - 7)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("images.npy", truncate),
        ("labels.npy", truncate),
        ("manifest.json", truncate),
        ("images.npy", Path.unlink),
        ("manifest.json", Path.unlink),
        ("images.npy", lambda path: os.truncate(path, 0)),
        ("images.npy", lambda path: path.write_bytes(b"x" * 300)),
        ("images.npy", lambda path: np.save(path, PIXELS[:4])),
        ("labels.npy", lambda path: np.save(path, np.zeros(5))),
        ("manifest.json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_cache_entry_is_rebuilt(tmp_path, file, damage):
    source = CountedSource()
    source.read(tmp_path)
    (entry,) = tmp_path.iterdir()
    damage(entry / file)
    assert_right(source.read(tmp_path))
    assert_right(source.read(tmp_path))
    assert source.decoded == 2
    assert list(tmp_path.iterdir()) == [entry]


@pytest.mark.parametrize("failure", [ConfigError("data.data_dir"), KeyboardInterrupt()])
def test_interrupted_decoding_leaves_nothing(tmp_path, failure):
    with pytest.raises(type(failure)):
        CountedSource(failure).read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_killed_process_leaves_no_half_entry(tmp_path):
    """A process that dies without clean-up, in the middle of decoding."""
    program = (
        "import os, sys, pathlib, numpy as np\n"
        "from fedhm_jax.data.images.cache import UndecodedSplit, read_cached\n"
        "def samples():\n"
        "    yield np.zeros((4, 4, 1), np.uint8), 0\n"
        "    os._exit(9)\n"
        "read_cached(UndecodedSplit('five/1.0.0 train[:5]', (), 5, 5, samples), pathlib.Path(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == 9
    source = CountedSource()
    assert_right(source.read(tmp_path))
    assert_right(source.read(tmp_path))
    assert source.decoded == 1


def test_simultaneous_readers_all_get_the_whole_set(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for arrays in pool.map(lambda _: CountedSource().read(tmp_path), range(32)):
            assert_right(arrays)
    assert len(list(tmp_path.iterdir())) == 1
    unread = CountedSource()
    assert_right(unread.read(tmp_path))
    assert unread.decoded == 0


def test_a_valid_entry_is_not_removed_by_a_late_writer(tmp_path):
    """A reader keeps its mapped images when another process publishes the same entry over it."""
    outer = CountedSource()

    class Late(CountedSource):
        def samples(self):
            self.kept = outer.read(tmp_path)
            yield from super().samples()

    late = Late()
    assert_right(late.read(tmp_path))
    assert_right(late.kept)
    assert_right(outer.read(tmp_path))
    assert outer.decoded == 1


def test_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refusal(CountedSource().read, tmp_path / "file")
    assert message.startswith(f"data.cache_dir is {str(tmp_path / 'file')!r}, but must be ")


def test_cache_defaults_to_the_folder_of_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    CountedSource().read(None)
    assert len(list((tmp_path / "fedhm_jax").iterdir())) == 1


def test_folder_is_decoded_once(pictures, monkeypatch):
    first = load_pictures(str(pictures), cache_dir=str(pictures.parent / "cache"))

    def no_decoding(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr("fedhm_jax.data.images.folder._read_pixels", no_decoding)
    second = load_pictures(pictures)
    assert np.array_equal(first.train_images, second.train_images)
    assert np.array_equal(first.test_labels, second.test_labels)


# --- TFDS, on a small set made here ---------------------------------------------------------------------------------


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def image_feature(dtype="uint8", shape=("4", "6", "3")):
    return {
        "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
        "image": {"dtype": dtype, "encodingFormat": "png", "shape": {"dimensions": list(shape)}},
    }


def label_feature(classes=3):
    return {
        "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(classes)},
    }


def write_tfds(root, splits, *, features=None, supervised=None, file_format="array_record"):
    """Writes a set named "toy" as TFDS would prepare it; splits maps a name to pairs of pixels and label."""
    features = features or {"picture": image_feature(), "kind": label_feature()}
    image_key, *label_keys = features

    def value(key, label):
        return f"writer {label % 2}".encode() if key == "writer" else label % 2 if key == "parity" else label

    samples = {
        split: [{image_key: png(pixels)} | {key: value(key, label) for key in label_keys} for pixels, label in of_split]
        for split, of_split in splits.items()
    }
    return write_set(root, features, samples, supervised=supervised, file_format=file_format)


def toy_samples(seed, size, label=None):
    return [(random_pixels((seed, i), 4, 6, 3), i % 3 if label is None else label) for i in range(size)]


def load_toy(root, name="toy", **options):
    return load_dataset(name, **{"data_dir": root / "tfds", "cache_dir": root / "cache", **options})


@pytest.mark.parametrize("name", ["toy", "toy:1.2.0"])
@pytest.mark.parametrize("supervised", [None, ("picture", "kind")])
def test_tfds_roundtrip(tmp_path, name, supervised):
    write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 7), "test": toy_samples(2, 4)}, supervised=supervised)
    dataset = load_toy(tmp_path, name)
    assert np.array_equal(dataset.train_images, np.stack([pixels for pixels, _ in toy_samples(1, 7)]))
    assert np.array_equal(dataset.test_images, np.stack([pixels for pixels, _ in toy_samples(2, 4)]))
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (dataset.classes, dataset.name) == (3, name)


def test_tfds_slices_and_samples(tmp_path):
    write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 300), "test": toy_samples(2, 4)})
    dataset = load_toy(tmp_path, train_split="train[:280]", test_split="train[280:]", train_samples=7)
    assert len(dataset.train_labels) == 7
    assert np.array_equal(dataset.test_images, np.stack([pixels for pixels, _ in toy_samples(1, 300)[280:]]))


def test_tfds_supervised_keys_choose_among_several_labels(tmp_path):
    features = {"image": image_feature(), "kind": label_feature(3), "parity": label_feature(2)}
    splits = {"train": toy_samples(1, 6), "test": toy_samples(2, 3)}
    write_tfds(tmp_path / "one" / "tfds", splits, features=features, supervised=("image", "parity"))
    dataset = load_toy(tmp_path / "one")
    assert dataset.classes == 2
    assert dataset.train_labels.tolist() == [0, 1, 0, 0, 1, 0]
    write_tfds(tmp_path / "two" / "tfds", splits, features=features)
    message = refusal(load_toy, tmp_path / "two")
    assert message.startswith("data.name is 'toy', but must be ")
    assert "image, kind, parity" in message


def text_feature():
    return {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}


def scalar_feature():
    kind = "tensorflow_datasets.core.features.scalar.Scalar"
    return {"pythonClassName": kind, "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"}}


@pytest.fixture
def written(tmp_path):
    """Seven samples whose client is told by a text, by a number, and by a second class label."""
    parity = label_feature(2)
    features = {"picture": image_feature(), "kind": label_feature(), "writer": text_feature(), "parity": parity}
    features["number"] = scalar_feature()
    splits = {"train": toy_samples(1, 7), "test": toy_samples(2, 4)}
    write_tfds(tmp_path / "tfds", splits, features=features, supervised=("picture", "kind"))
    return tmp_path


@pytest.mark.parametrize(
    ("feature", "clients"),
    [
        ("writer", ["writer 0", "writer 1", "writer 0", "writer 0", "writer 1", "writer 0", "writer 0"]),
        ("parity", [0, 1, 0, 0, 1, 0, 0]),
        ("number", [0, 1, 2, 0, 1, 2, 0]),
    ],
)
def test_tfds_client_feature_tells_the_clients(written, feature, clients):
    assert load_toy(written).train_clients is None
    for other in ("writer", "number"):  # copies of the same split, with other clients
        load_toy(written, client_feature=other)
    dataset = load_toy(written, client_feature=feature)
    assert dataset.train_clients.tolist() == clients
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    again = load_toy(written, client_feature=feature, train_samples=3)
    kept = [np.flatnonzero((dataset.train_images == image).all((1, 2, 3)))[0] for image in again.train_images]
    assert again.train_clients.tolist() == [clients[row] for row in kept]


@pytest.mark.parametrize("feature", ["picture", "kind", "nobody"])
def test_tfds_client_feature_that_tells_no_clients(written, feature):
    message = refusal(load_toy, written, client_feature=feature)
    assert message.startswith(f"data.client_feature is {feature!r}, but must be ")
    assert "number" in message


def test_tfds_sets_without_labelled_images_are_refused_before_they_are_prepared(tmp_path):
    for name, features in (("imdb_reviews", "label, text"), ("celeb_a", "attributes, identity, image, landmarks")):
        message = refusal(load_toy, tmp_path, name)
        assert message == (
            f"data.name is {name!r}, but must be a set with one image and one class label a sample "
            f"(this one has: {features})"
        )


def test_tfds_warnings_and_log_lines_are_hidden_only_while_it_works(caplog):
    from absl import logging

    with quietly():
        logging.warning("hidden")
        warnings.warn("hidden", UserWarning, stacklevel=1)
    logging.warning("shown")
    assert [record.message for record in caplog.records] == ["shown"]
    with pytest.warns(UserWarning, match="shown"):
        warnings.warn("shown", UserWarning, stacklevel=1)


@pytest.mark.parametrize("label", [-1, 3])
def test_tfds_hidden_labels_are_refused(tmp_path, label):
    write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 3), "test": toy_samples(2, 3, label)})
    message = refusal(load_toy, tmp_path)
    assert message.startswith("data.test_split is 'test', but must be ")
    assert f"label {label}" in message


def test_tfds_sets_that_do_not_fit(tmp_path):
    good = {"train": toy_samples(1, 3), "test": toy_samples(2, 3)}
    deep = {"image": image_feature("uint16"), "label": label_feature()}
    write_tfds(tmp_path / "deep" / "tfds", good, features=deep)
    assert "uint16" in refusal(load_toy, tmp_path / "deep")
    free = {"image": image_feature(shape=("-1", "-1", "3")), "label": label_feature()}
    odd = [*toy_samples(1, 2), (random_pixels(0, 5, 6, 3), 0)]
    write_tfds(tmp_path / "odd" / "tfds", {"train": odd, "test": good["test"]}, features=free)
    message = refusal(load_toy, tmp_path / "odd")
    assert message.startswith("data.name is 'toy', but must be ")
    assert "sample 2" in message
    larger = [(random_pixels(0, 5, 6, 3), 0)]
    write_tfds(tmp_path / "two" / "tfds", {"train": good["train"], "test": larger}, features=free)
    assert refusal(load_toy, tmp_path / "two").startswith("data.test_split is 'test', but must be ")


def test_tfds_unknown_names_and_splits(tmp_path):
    write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 3), "test": toy_samples(2, 3)})
    unknown = refusal(load_toy, tmp_path, "cifar1O")
    assert unknown.startswith("data.name is 'cifar1O', but must be ")
    assert "did you mean 'cifar10'" in unknown
    for name in ("", "a b", "toy:9.9.9"):
        assert refusal(load_toy, tmp_path, name).startswith(f"data.name is {name!r}, but must be ")
    for field in ("train_split", "test_split"):
        for split in ("validation", "train[", "train[5:]", "train[:0]", ""):
            message = refusal(load_toy, tmp_path, **{field: split})
            assert message.startswith(f"data.{field} is {split!r}, but must be ")
            assert "'train' (3 samples), 'test' (3 samples)" in message


def test_tfds_set_that_is_not_prepared(tmp_path):
    message = refusal(load_toy, tmp_path, "mnist")
    assert message.startswith("data.name is 'mnist', but no prepared set was found at ")
    assert str(tmp_path / "tfds" / "mnist") in message
    assert 'pip install "fedhm-jax[prepare]"' in message
    assert "tfds build mnist --file_format=array_record" in message
    (tmp_path / "tfds" / "mnist" / "0.0.1").mkdir(parents=True)
    assert "beside it are 0.0.1" in refusal(load_toy, tmp_path, "mnist")


def test_tfds_set_prepared_in_another_format(tmp_path):
    splits = {"train": toy_samples(1, 3), "test": toy_samples(2, 3)}
    write_tfds(tmp_path / "tfds", splits, file_format="tfrecord")
    message = refusal(load_toy, tmp_path)
    assert message.startswith("data.data_dir must hold sets prepared with --file_format=array_record, but ")
    assert message.endswith("is in the tfrecord format")


def rewrite(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / "toy-train.array_record-00000-of-00001", 65536),
        lambda folder: os.truncate(folder / "toy-train.array_record-00000-of-00001", 100),
        lambda folder: (folder / "toy-train.array_record-00000-of-00001").write_bytes(bytes(100_000)),
        lambda folder: (folder / "toy-train.array_record-00000-of-00001").unlink(),
        lambda folder: rewrite(folder / "dataset_info.json", '["7"]', '["8"]'),
    ],
)
def test_tfds_damaged_files_are_refused_although_cached(tmp_path, damage):
    folder = write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 7), "test": toy_samples(2, 4)})
    load_toy(tmp_path)
    damage(folder)
    message = refusal(load_toy, tmp_path)
    assert message.startswith("data.data_dir must hold intact files, but ")
    assert f"split 'train' of 'toy' from {folder} failed" in message


def test_tfds_broken_info_file(tmp_path):
    folder = write_tfds(tmp_path / "tfds", {"train": toy_samples(1, 3), "test": toy_samples(2, 3)})
    (folder / "dataset_info.json").write_text("{")
    assert str(tmp_path / "tfds") in refusal(load_toy, tmp_path)


# --- TFDS, on real sets ---------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    if not REAL.is_dir():
        pytest.skip(f"no prepared TFDS sets at {REAL}")
    return REAL


def read_labels(name, data_dir, split):
    """All labels of a split, without decoding the images."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return np.array([sample["label"] for sample in source.__getitems__(list(range(len(source))))])


@pytest.mark.parametrize(
    ("name", "shape"),
    [pytest.param("cifar10", (32, 32, 3), marks=pytest.mark.long), ("fashion_mnist", (28, 28, 1))],
)
def test_real_sets(real, tmp_path, name, shape):
    dataset = load_dataset(name, data_dir=real, train_split="train[:2000]", cache_dir=tmp_path)
    assert dataset.classes == 10
    assert dataset.train_images.shape == (2000, *shape)
    assert dataset.test_images.shape == (10000, *shape)
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    # Photographs and garments use the whole range of brightness, and hardly any two test images are the same.
    assert (dataset.test_images.min(), dataset.test_images.max()) == (0, 255)
    assert len({image.tobytes() for image in dataset.test_images}) > 9990
    assert np.array_equal(dataset.train_labels, read_labels(name, real, "train[:2000]"))


@pytest.mark.long
@pytest.mark.parametrize(("name", "train_size"), [("cifar10", 50000), ("fashion_mnist", 60000)])
def test_classes_of_real_sets_are_of_equal_size(real, name, train_size):
    assert np.bincount(read_labels(name, real, "train")).tolist() == [train_size // 10] * 10


def test_truncated_copy_of_a_real_set(real, tmp_path):
    copy = tmp_path / "tfds" / "fashion_mnist"
    shutil.copytree(real / "fashion_mnist", copy, copy_function=shutil.copyfile)
    for folder in (copy, copy / "3.0.1"):
        folder.chmod(0o755)
    os.truncate(copy / "3.0.1" / "fashion_mnist-test.array_record-00000-of-00001", 3_000_000)
    message = refusal(
        load_dataset,
        "fashion_mnist",
        data_dir=tmp_path / "tfds",
        train_split="train[:100]",
        cache_dir=tmp_path / "cache",
    )
    assert message.startswith("data.data_dir must hold intact files, but ")
    assert f"split 'test' of 'fashion_mnist' from {copy / '3.0.1'} failed" in message
