"""Decoded images on disk, memory-mapped, so that a data set is decoded once and never fills memory.

An entry is a folder with ``images.npy``, ``labels.npy``, ``manifest.json``, and ``clients.npy`` where the source says
whose the samples are. Its name holds a fingerprint of the source files (path, size, time of change), so a changed
source is decoded anew. Entries may be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedhm_jax.errors import ConfigError
from fedhm_jax.files import cache_folder

_FORMAT = 1


class UndecodedSplit(NamedTuple):
    """One split of a data set on disk, checked but not decoded.

    Attributes:
        title: name, version and split, such as ``"cifar10/3.0.2 train[:1000]"``.
        files: every file that the decoded samples depend on.
        size: number of samples, at least 1.
        classes: number of classes.
        samples: starts decoding: ``size`` pairs of a (height, width, channels) uint8 image and its label, all
            images of one shape. Raises ConfigError where a file cannot be read, never OSError.
        clients: reads the (size,) ids of the samples' clients, integers or strings, or raises ConfigError; None if
            the source has none.
        class_names: a name for each class, where they are known.
    """

    title: str
    files: tuple[Path, ...]
    size: int
    classes: int
    samples: Callable[[], Iterator[tuple[np.ndarray, int]]]
    clients: Callable[[], np.ndarray] | None = None
    class_names: tuple[str, ...] | None = None


class DecodedSplit(NamedTuple):
    """A split as arrays.

    Attributes:
        images: (size, height, width, channels) uint8, memory-mapped.
        labels: (size,) int32.
        clients: (size,) integers or strings; None if the source has no clients.
    """

    images: np.ndarray
    labels: np.ndarray
    clients: np.ndarray | None = None


def read_cached(split: UndecodedSplit, cache_dir: Path | None) -> DecodedSplit:
    """Opens the decoded copy of a split, writing it first where there is none or it is damaged.

    A copy is written to a temporary folder and then renamed, so an interrupted or a second simultaneous write never
    leaves half an entry.

    Args:
        split: what to decode.
        cache_dir: folder of the entries; `fedhm_jax.files.cache_folder` if None.

    Returns:
        Its arrays.

    Raises:
        ConfigError: if the source cannot be decoded or the copy cannot be written.

    Example:
        >>> pixels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
        >>> split = UndecodedSplit("two images", (), 2, 2, lambda: zip(pixels, [0, 1]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     decoded = read_cached(split, Path(folder))
        >>> decoded.images.shape, decoded.labels.tolist()
        ((2, 2, 2, 1), [0, 1])
    """
    folder = cache_folder() if cache_dir is None else cache_dir.expanduser()
    entry = folder / _entry_name(split)
    with contextlib.suppress(OSError, ValueError, EOFError):
        return _open_entry(entry, split)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
            written = Path(temporary) / "entry"
            written.mkdir()
            _write_entry(written, split)
            # Opened before it is published: a mapping outlives the renaming, even a removal by another process.
            opened = _open_entry(written, split)
            _publish(written, entry, Path(temporary) / "replaced")
    except OSError as error:
        allowed = f"a folder that can be written and has room for the decoded images ({error})"
        raise ConfigError.of("data.cache_dir", str(folder), allowed) from error
    return opened


def _entry_name(split: UndecodedSplit) -> str:
    digest = hashlib.blake2b(split.title.encode(), digest_size=8)
    for file in sorted(split.files):
        status = file.stat()
        digest.update(f"\0{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    readable = re.sub(r"[^A-Za-z0-9.]+", "_", split.title)[:100]
    return f"{readable}-{digest.hexdigest()}"


def _open_entry(entry: Path, split: UndecodedSplit) -> DecodedSplit:
    """Raises OSError, ValueError or EOFError where the entry is missing or is not what its manifest says."""
    manifest = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
    images = np.load(entry / "images.npy", mmap_mode="r")
    labels = np.load(entry / "labels.npy")
    decoded = DecodedSplit(images, labels, None if split.clients is None else np.load(entry / "clients.npy"))
    if manifest != _describe(entry, split.title, decoded):
        raise ValueError(f"{entry} does not match its manifest")
    return decoded


def _describe(entry: Path, title: str, decoded: DecodedSplit) -> dict[str, Any]:
    description: dict[str, Any] = {"format": _FORMAT, "title": title}
    for name, array in decoded._asdict().items():
        if array is not None:
            size = (entry / f"{name}.npy").stat().st_size
            description[f"{name}.npy"] = {"shape": list(array.shape), "dtype": str(array.dtype), "bytes": size}
    return description


def _write_entry(entry: Path, split: UndecodedSplit) -> None:
    labels = np.empty(split.size, np.int32)
    # Written as a plain stream, not through a mapping, so that a full disk is an OSError and not a crash.
    with open(entry / "images.npy", "wb") as file:
        for index, (image, label) in enumerate(split.samples()):
            if index == 0:
                header = {"descr": "|u1", "fortran_order": False, "shape": (split.size, *image.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(image.tobytes())
            labels[index] = label
    np.save(entry / "labels.npy", labels)
    clients = None if split.clients is None else split.clients()
    if clients is not None:
        np.save(entry / "clients.npy", clients)
    images = np.load(entry / "images.npy", mmap_mode="r")
    manifest = json.dumps(_describe(entry, split.title, DecodedSplit(images, labels, clients)))
    (entry / "manifest.json").write_text(manifest, encoding="utf-8")


def _publish(written: Path, entry: Path, replaced: Path) -> None:
    # A folder that is not empty cannot be replaced in one step: the damaged entry moves out of the way first.
    with contextlib.suppress(FileNotFoundError):
        os.replace(entry, replaced)
    # Where another process published the same entry in between, its copy is as good as this one.
    with contextlib.suppress(OSError):
        os.replace(written, entry)
