"""Files that are there whole or not at all, and the folder of those that can be made again. Standard library only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedhm_jax.errors import ConfigError


class WriteError(OSError):
    """A run stopped because a file could not be written, on a full disk for instance.

    The message is one sentence that names the round and the folder. Everything written before is intact.
    """

    @classmethod
    def of(cls, what: str, folder: Path, error: Exception) -> "WriteError":
        """Builds the standard sentence.

        Args:
            what: what was to be written, such as ``"the record of round 3"``.
            folder: where.
            error: why it failed.

        Returns:
            The exception, ready to raise.

        Example:
            >>> str(WriteError.of("the record of round 3", Path("runs/a"), OSError(28, "No space left on device")))
            "the record of round 3 could not be written to 'runs/a' (No space left on device)"
        """
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        return cls(f"{what} could not be written to {str(folder)!r} ({reason})")


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turns a failure to write into one sentence.

    Args:
        what: what is written, such as ``"the record of round 3"``.
        folder: where.

    Yields:
        Nothing.

    Raises:
        WriteError: the block raised an OSError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError.of(what, folder, error) from error


def append_line(path: Path, line: str) -> None:
    """Appends one line; if it does not fit on the disk, the file stays as it was.

    Args:
        path: the file.
        line: text without an end of line.

    Raises:
        OSError: the line could not be written.
    """
    with open(path, "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        rest = f"{line}\n".encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(end)
            raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write under another name; it is moved into place when the block ends, so no part of it is ever there.

    Args:
        path: the file; what it held before is replaced.

    Yields:
        The path to write to. If the block fails, the path is removed, and the file is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as part:
        ...         _ = part.write_text("new")
        ...     [path.name for path in Path(folder).iterdir()], (Path(folder) / "a.txt").read_text()
        (['a.txt'], 'new')
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except Exception:
        part.unlink(missing_ok=True)
        raise


def set_aside(folder: Path, why: str) -> None:
    """Gives a folder another name, so that a new one can take its place; nothing in it is lost.

    Args:
        folder: it need not exist.
        why: in a word; the folder becomes ``<name>-<why>-<number>``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     for _ in range(2):
        ...         (Path(home) / "run").mkdir()
        ...         set_aside(Path(home) / "run", "interrupted")
        ...     sorted(path.name for path in Path(home).iterdir())
        ['run-interrupted-1', 'run-interrupted-2']
    """
    if folder.exists():
        number = 1
        while (kept := folder.with_name(f"{folder.name}-{why}-{number}")).exists():
            number += 1
        os.replace(folder, kept)


def check_new_file(path: Path, ending: str) -> None:
    """Refuses a place for a file before there is anything to write.

    Args:
        path: what was asked for with ``--to``.
        ending: what its name has to end in, in either case.

    Raises:
        ConfigError: the name ends in something else, or the file exists.

    Example:
        >>> check_new_file(Path("model.npz"), ".safetensors")
        Traceback (most recent call last):
        fedhm_jax.errors.ConfigError: to is 'model.npz', but must be a file whose name ends in .safetensors
    """
    if path.suffix.lower() != ending:
        raise ConfigError.of("to", str(path), f"a file whose name ends in {ending}")
    if path.exists():
        raise ConfigError.of("to", str(path), "a file that does not exist yet")


def cache_folder() -> Path:
    """The folder of what can be made again at any time, such as decoded images and compiled programs.

    Returns:
        ``$XDG_CACHE_HOME/fedhm_jax``, or ``~/.cache/fedhm_jax`` where the variable is unset or, against its
        specification, not an absolute path. It need not exist.

    Example:
        >>> cache_folder().name
        'fedhm_jax'
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "fedhm_jax"
