"""An answer about a path is kept until the file or folder changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from filetimes import let_changes_be_old
from remembered import Remembered


def replace(path: Path) -> None:
    """Put another file in its place."""
    path.unlink()
    path.write_bytes(b"other")


def rewrite_and_date_back(path: Path) -> None:
    """Change the content and hide it."""
    path.write_bytes(b"other")
    os.utime(path, ns=(0, 0))


CHANGES: dict[str, Callable[[Path], object]] = {
    "append": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "rewrite": lambda path: path.write_bytes(b"other"),
    "replace": replace,
    "same date": rewrite_and_date_back,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_is_read_again_after_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Without a change it is read once, if its last change is old enough."""
    reads = []

    def read(path: Path) -> bytes:
        reads.append(path)
        return path.read_bytes()

    content = Remembered(read)
    file = tmp_path / "file"
    file.write_bytes(b"first")
    let_changes_be_old(tmp_path, monkeypatch)

    assert [content.about(file), content.about(file)] == [b"first"] * 2
    assert len(reads) == 1
    CHANGES[change](file)

    assert content.about(file) == file.read_bytes() != b"first"


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    """Another change may follow with the same size and the same time."""
    content = Remembered(Path.read_bytes)
    file = tmp_path / "file"
    for text in (b"first", b"other", b"third"):
        file.write_bytes(text)
        assert content.about(file) == text


def test_a_missing_file_is_looked_for_each_time(tmp_path: Path) -> None:
    """A program may create it at any time."""
    content = Remembered(Path.read_bytes)
    with pytest.raises(FileNotFoundError):
        content.about(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"x")
    assert content.about(tmp_path / "file") == b"x"
