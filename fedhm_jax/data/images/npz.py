"""Arrays in one .npz file, as ``numpy.savez`` writes them.

| array                    | holds                                                                          |
|--------------------------|--------------------------------------------------------------------------------|
| images                   | (n, height, width) or (n, height, width, channels), uint8 or floats in [0, 1]  |
| labels                   | (n,) integers from 0                                                           |
| client                   | (n,) id of each sample's client, integers or strings; may be left out          |
| test_images, test_labels | the test set, likewise; may be left out together                               |

Without a test set, a fifth of every class is taken away from the training samples (`test_share`). Other arrays are not
read.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedhm_jax.data.images.arrays import dataset_from_arrays
from fedhm_jax.data.images.dataset import Dataset
from fedhm_jax.errors import ConfigError

_CLIENT = "client"
_TEST_SEED = 0


def load_npz(file: Path | None, client_array: str | None = None) -> Dataset:
    """Reads a data set from a file of arrays.

    Args:
        file: where ``images``, ``labels`` and the others of the table above are.
        client_array: name of the array with the client ids; ``"client"``, if there is one, when None.

    Returns:
        The data set, named by the file.

    Raises:
        ConfigError: the file cannot be read, lacks an array, or holds one that is unusable.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "mine.npz"
        ...     np.savez(file, images=np.zeros((20, 8, 8)), labels=np.arange(20) % 4, client=np.arange(20) % 3)
        ...     load_npz(file)
        Dataset('mine': 16 training and 4 test images of shape (8, 8, 1), 4 classes, 3 clients)
    """
    if file is None:
        raise ConfigError("data.data_dir is unset, but must be the file of the arrays when data.name is 'npz'")
    path = file.expanduser()
    try:
        arrays = _read(path, client_array)
    except ConfigError:
        raise
    # Missing files, damaged archives and arrays, and pickled objects, which are not read.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise _unusable(path, f"a .npz file that can be read ({reason})") from error
    clients = arrays.pop(_CLIENT if client_array is None else client_array, None)
    try:
        return _dataset(arrays, clients, path)
    except ConfigError as error:
        raise ConfigError(f"{error}, in data.data_dir {str(path)!r}") from error


def test_share(labels: np.ndarray) -> np.ndarray:
    """Picks a fifth of every class, by a fixed draw: of a class of n samples, n / 5 rounded down.

    Args:
        labels: (n,) class numbers.

    Returns:
        (n,) bool, True for a test sample.

    Example:
        >>> labels = np.repeat([0, 1], [10, 4])
        >>> np.bincount(labels[test_share(labels)], minlength=2).tolist()
        [2, 0]
    """
    order = np.random.default_rng(_TEST_SEED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    chosen = np.zeros(len(labels), bool)
    chosen[order] = place < np.repeat(sizes // 5, sizes)
    return chosen


def _read(path: Path, client_array: str | None) -> dict[str, np.ndarray]:
    """The arrays that are wanted, those that may be left out only where they are."""
    stored = np.load(path, allow_pickle=False)
    if not isinstance(stored, np.lib.npyio.NpzFile):
        raise _unusable(path, "a .npz file, not a single array")
    with stored:
        required = ["images", "labels"]
        if "test_images" in stored or "test_labels" in stored:
            required += ["test_images", "test_labels"]
        for name in required:
            if name not in stored:
                raise _unusable(path, f"a file with the array {name!r} (it has: {', '.join(sorted(stored))})")
        others = set(stored) - set(required)
        if client_array is not None and client_array not in others:
            allowed = f"one of the other arrays of {path} ({', '.join(sorted(others)) or 'there is none'})"
            raise ConfigError.of("data.client_feature", client_array, allowed)
        own = others & {_CLIENT if client_array is None else client_array}
        return {name: stored[name] for name in [*required, *own]}


def _dataset(arrays: Mapping[str, np.ndarray], clients: np.ndarray | None, path: Path) -> Dataset:
    images, labels = arrays["images"], arrays["labels"]
    if "test_images" in arrays:
        test = arrays["test_images"], arrays["test_labels"]
        return dataset_from_arrays(images, labels, *test, clients=clients, name=path.stem)
    # Checked whole, since the test set is cut out by label.
    whole = dataset_from_arrays(images, labels, images[:1], labels[:1], clients=clients, name=path.stem)
    tested = test_share(whole.train_labels)
    if not tested.any():
        raise ConfigError(
            "data.labels has no class of five samples, but must have one, or test_images and test_labels beside it"
        )
    return whole._replace(
        train_images=whole.train_images[~tested],
        train_labels=whole.train_labels[~tested],
        test_images=whole.train_images[tested],
        test_labels=whole.train_labels[tested],
        train_clients=None if whole.train_clients is None else whole.train_clients[~tested],
    )


def _unusable(path: Path, allowed: str) -> ConfigError:
    return ConfigError.of("data.data_dir", str(path), allowed)
