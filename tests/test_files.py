"""Writes that leave a whole file or none, and where files go that nobody asked for."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedhm_jax.files import WriteError, append_line, cache_folder, replacing, writing


@pytest.fixture
def limited() -> Iterator[None]:
    """No file may grow beyond 100 bytes, as on a disk that fills up in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path, limited: None) -> None:
    path = tmp_path / "lines"
    append_line(path, "ä" * 30)
    assert path.read_text() == "ä" * 30 + "\n"
    with pytest.raises(OSError, match="File too large"):
        append_line(path, "b" * 60)  # 39 of its bytes fit
    assert path.read_text() == "ä" * 30 + "\n"
    append_line(path, "c" * 38)
    assert path.read_text().splitlines() == ["ä" * 30, "c" * 38]


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path, limited: None) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="File too large"), replacing(path) as part:
        part.write_text("n" * 200)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


def test_a_failure_is_told_once_in_one_sentence() -> None:
    with pytest.raises(WriteError) as caught, writing("all", Path("runs/a")), writing("the record", Path("runs/b")):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == "the record could not be written to 'runs/b' (No space left on device)"


@pytest.mark.parametrize(
    ("variable", "expected"), [("/c", "/c"), ("", "/h/.cache"), ("c", "/h/.cache"), (None, "/h/.cache")]
)
def test_the_cache_is_where_the_system_keeps_caches(
    variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the XDG base directory specification has it: a path that is not absolute is ignored."""
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if variable is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert cache_folder() == Path(expected) / "fedhm_jax"
