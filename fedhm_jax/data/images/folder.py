"""Images in folders: <data_dir>/<split>/<class name>/<image>, or <data_dir>/<split>/<client>/<class name>/<image>."""

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedhm_jax.data.images.cache import UndecodedSplit
from fedhm_jax.errors import ConfigError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GRAY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("RGB", "RGBA", "P", "CMYK", "YCbCr")
_SHOWN = 8
"""Most folder names that an error message lists."""


class _Sample(NamedTuple):
    file: Path
    class_name: str
    client: str | None


def open_image_folder(
    data_dir: Path | None, train_split: str, test_split: str
) -> tuple[UndecodedSplit, UndecodedSplit]:
    """Finds the images of both splits; classes are the sorted names of the class folders.

    A split whose folders hold folders in place of images is one of clients: the folder's name is the client's id, and
    the folders in it are classes, not every one at every client. The other split may be either.

    Every image must have the same size and 8 bits a channel. Images have one channel if all of both splits are
    grayscale, else three (RGB); transparency is dropped.

    Args:
        data_dir: folder that holds one folder per split.
        train_split: folder name of the training split.
        test_split: folder name of the test split.

    Returns:
        The training and the test split, not decoded yet.

    Raises:
        ConfigError: if a folder is missing, the classes of the splits differ, or a class folder has no image. Image
            files are opened, and refused, only when the split is decoded.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for path in (Path(folder, "train", "cat"), Path(folder, "test", "cat")):
        ...         path.mkdir(parents=True)
        ...         Image.new("L", (8, 8)).save(path / "1.png")
        ...     train, test = open_image_folder(Path(folder), "train", "test")
        >>> train.size, train.classes
        (1, 1)
    """
    if data_dir is None:
        raise ConfigError("data.data_dir is unset, but must be the folder of the images when data.name is 'folder'")
    root = data_dir.expanduser()
    if not os.path.isdir(root):
        raise ConfigError.of("data.data_dir", str(root), "an existing folder")
    train = _list_split(root, train_split, "data.train_split")
    test = _list_split(root, test_split, "data.test_split")
    classes = {sample.class_name for sample in train}
    if differing_classes := classes ^ {sample.class_name for sample in test}:
        differing = ", ".join(sorted(differing_classes)[:5])
        raise ConfigError.of(
            "data.test_split",
            test_split,
            f"a split with the same class folders as {train_split!r}, unlike: {differing}",
        )
    files = tuple(sample.file for split in (train, test) for sample in split)
    labels = {name: label for label, name in enumerate(sorted(classes))}

    @cache
    def common_mode() -> str:
        return _common_mode(root, files)

    def undecoded(split: str, found: list[_Sample]) -> UndecodedSplit:
        labelled = [(sample.file, labels[sample.class_name]) for sample in found]
        samples = partial(_decode, root, labelled, common_mode)
        clients = None if found[0].client is None else lambda: np.array([sample.client for sample in found])
        title = f"{root.resolve().name} {split}"
        return UndecodedSplit(title, files, len(found), len(classes), samples, clients, tuple(labels))

    return undecoded(train_split, train), undecoded(test_split, test)


def _list_split(root: Path, split: str, field: str) -> list[_Sample]:
    """All image files, sorted by client, class and name."""
    if not split or not os.path.isdir(root / split):
        names = [repr(folder.name) for folder in _subfolders(root)]
        more = ", ..." if len(names) > _SHOWN else ""
        found = ", ".join(names[:_SHOWN]) + more if names else "none"
        raise ConfigError.of(field, split, f"a folder inside {root} (found: {found})")
    folders = _subfolders(root / split)
    if not folders:
        raise ConfigError.of(field, split, f"a folder that holds one folder per class, and {root / split} holds none")
    clients = [folder for folder in folders if _subfolders(folder) and not _images_in(folder)]
    if not clients:
        return [sample for folder in folders for sample in _list_class(folder, None, split, field)]
    for folder in folders:
        if folder not in clients:
            allowed = f"a split whose folders all hold classes, as {clients[0]} does, or none, as {folder}"
            raise ConfigError.of(field, split, allowed)
    return [
        sample
        for client in clients
        for folder in _subfolders(client)
        for sample in _list_class(folder, client.name, split, field)
    ]


def _list_class(folder: Path, client: str | None, split: str, field: str) -> list[_Sample]:
    images = _images_in(folder)
    if not images:
        allowed = f"a split with png, jpg or jpeg images of every class, and {folder} holds none"
        raise ConfigError.of(field, split, allowed)
    return [_Sample(file, folder.name, client) for file in images]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _decode(
    root: Path, labelled: list[tuple[Path, int]], common_mode: Callable[[], str]
) -> Iterator[tuple[np.ndarray, int]]:
    mode = common_mode()
    for file, label in labelled:
        yield _read_pixels(root, file, mode), label


def _common_mode(root: Path, files: tuple[Path, ...]) -> str:
    """Reads all headers: "L" if every image is grayscale, else "RGB"; refuses other depths and differing sizes."""
    colour = False
    first_size: tuple[int, int] | None = None
    for file in files:
        size, mode = _read_header(root, file)
        first_size = first_size or size
        if size != first_size:
            raise ConfigError.of(
                "data.data_dir",
                str(root),
                f"a folder of images of one size, and {file} is {_show(size)} while {files[0]} is {_show(first_size)}",
            )
        if mode not in _GRAY_MODES + _COLOUR_MODES:
            allowed = f"a folder of images with 8 bits a channel, and {file} has pixels of PIL mode {mode!r}"
            raise ConfigError.of("data.data_dir", str(root), allowed)
        colour = colour or mode in _COLOUR_MODES
    return "RGB" if colour else "L"


def _show(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _read_header(root: Path, file: Path) -> tuple[tuple[int, int], str]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                return image.size, image.mode
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _unreadable(root, file, error) from error


def _read_pixels(root: Path, file: Path, mode: str) -> np.ndarray:
    from PIL import Image

    # Broken metadata and odd palettes make Pillow warn although the pixels are fine.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(root, file, error) from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _unreadable(root: Path, file: Path, error: Exception) -> ConfigError:
    return ConfigError.of("data.data_dir", str(root), f"a folder of intact images, and {file} is not one ({error})")
