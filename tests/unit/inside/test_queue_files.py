"""The search for a host's queue files, and for those that pickup(8) will take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import machine
import mailfiles


def test_queue_files_are_found_with_their_message_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every queue, hashed or not; a missing Message-ID or queue is no error."""
    monkeypatch.setattr(mailfiles, "QUEUE_DIRECTORY", tmp_path)
    (tmp_path / "deferred/A/B").mkdir(parents=True)
    (tmp_path / "deferred/A/B/AB123").write_bytes(b"\0C\xffMessage-Id:  <one@x.test>\n")
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold/7F").write_bytes(b"no such header")

    assert sorted(mailfiles.queued()) == [["deferred", "AB123", "<one@x.test>"], ["hold", "7F", ""]]


def test_queue_files_of_other_instances_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a maildrop is a queue directory."""
    monkeypatch.setattr(mailfiles, "SPOOL", tmp_path)
    monkeypatch.setattr(mailfiles, "QUEUE_DIRECTORY", tmp_path / "postfix")
    for instance in ("postfix", "postfix-b"):
        (tmp_path / instance / "maildrop").mkdir(parents=True)
    (tmp_path / "cron").mkdir()
    for path in ("postfix/maildrop/AB1", "postfix-b/maildrop/AB2"):
        (tmp_path / path).touch()

    assert mailfiles.queue_directories() == [tmp_path / "postfix", tmp_path / "postfix-b"]
    assert mailfiles.queued() == [
        ["maildrop", "AB1", ""],
        ["maildrop", "AB2", ""],
    ]
    assert machine.other_masters() == []


@pytest.mark.parametrize(
    ("mode", "age_s", "ours", "taken"),
    [
        (0o744, 60, False, True),
        (0o700, 60, True, True),
        (0o700, 60, False, False),
        (0o644, 0, False, True),
        (0o644, 60, True, False),
        (0o600, -60, True, False),
    ],
    ids=["postdrop", "moved", "unreadable", "being written", "not executable", "of the future"],
)
def test_a_file_in_maildrop_that_pickup_ignores_is_not_under_way(
    tmp_path: Path, mode: int, age_s: float, *, ours: bool, taken: bool
) -> None:
    """It would stay there for ever, and an empty maildrop would never come."""
    file = tmp_path / "AB1"
    file.touch(mode)
    file.chmod(mode)
    changed = file.stat().st_mtime - age_s
    os.utime(file, (changed, changed))
    postfix = file.stat().st_uid + (0 if ours else 1)

    assert mailfiles.picked_up(file.stat(), postfix) is taken
