"""The disk faults' parts that need no mail host: the balloon, and what strace is told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import disk
import snapshot
from maillab.errors import BadInput, UnknownName
from maillab.faults import (
    Crashed,
    DiskFull,
    InodesGone,
    Killed,
    OpenFilesLimit,
    ProcessLimit,
    SlowFsync,
    Stopped,
    SyscallFails,
)

MASTER_CF = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       n       -       -       smtpd
cleanup   unix  n       -       n       -       0       cleanup
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
        -o syslog_name=postfix/$service_name
smtpd-x   unix  -       -       n       -       -       smtpd -o myhostname=x
"""

TRACE = """\
fsync(13)                               = -1 ENOSPC (No space left on device) (INJECTED)
fsync(13)                               = -1 EIO (Input/output error) (INJECTED)
fsync(13)                               = 0 (DELAYED)
write(13, "fsync(1) = -1 ENOSPC (INJECTED", 20) = 20
fsync(13)                               = 0
"""


def test_a_program_gets_its_debugger_and_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each row that it serves, once; nothing else is touched."""
    file = tmp_path / "master.cf"
    file.write_text(MASTER_CF)
    monkeypatch.setattr(disk, "MASTER_CF", file)

    disk.debug("smtpd", on=True)
    disk.debug("smtpd", on=True)

    rows = [row.split()[7:] for row in file.read_text().splitlines() if "smtpd" in row[40:]]
    assert rows == [["smtpd", "-D"], ["smtpd", "-D", "-o", "myhostname=x"]]
    assert file.read_text().count("-D") == 2
    disk.debug("smtpd", on=False)
    assert file.read_text() == MASTER_CF


@pytest.mark.parametrize(
    ("call", "action", "count"),
    [
        ("fsync", "error=ENOSPC:when=1", 1),
        ("fsync", "error=EIO:when=1+", 1),
        ("fsync", "delay_exit=500000", 1),
        ("write", "error=ENOSPC:when=1", 0),
    ],
)
def test_only_what_was_tampered_with_counts(
    call: str, action: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call and the error must be the ones asked for."""
    (tmp_path / "17").write_text(TRACE)
    monkeypatch.setattr(disk, "TRACES", tmp_path)

    assert disk.injected(call, action) == count


def test_a_strace_that_marks_no_delay_delays_every_call_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "17").write_text("fsync(13)    = 0\nfsync(13)    = -1 EIO (x)\nwrite(1)  = 0\n")
    monkeypatch.setattr(disk, "TRACES", tmp_path)

    assert disk.injected("fsync", "delay_exit=500000", marked=False) == 1


def test_a_balloon_takes_room_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the size that is to be missing; here the disk is only said to be small."""
    monkeypatch.setattr(disk, "BALLOON", tmp_path / "balloon")

    def free() -> dict[str, int]:
        used = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
        return {
            "free_bytes": 1_000_000 - sum(used),
            "free_inodes": 100 - len(list(tmp_path.rglob("*"))),
        }

    async def room() -> dict[str, int]:
        return free()

    monkeypatch.setattr(disk, "room", room)
    monkeypatch.setattr(os, "mknod", lambda path, mode: Path(path).touch(mode))

    filled = asyncio.run(disk.fill(300_000))
    asyncio.run(disk.deflate(filled["balloon"]))
    taken = asyncio.run(disk.take_inodes(7))
    asyncio.run(disk.deflate(taken["balloon"]))

    assert filled["free_bytes"] == 300_000
    assert taken["free_inodes"] == 7
    assert list(tmp_path.iterdir()) == []


def test_the_balloon_lies_where_reset_looks() -> None:
    """So that even a balloon nobody deflated goes."""
    assert any(str(disk.BALLOON).startswith(folder + "/") for folder in snapshot.WATCHED)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Killed("smtdp"), "smtpd"),
        (lambda: Killed("smtpd", times=0), "times"),
        (lambda: Killed("smtpd", within_s=-1), "within_s"),
        (lambda: Stopped("init"), "master"),
        (lambda: Crashed(within_s=-0.1), "within_s"),
        (lambda: ProcessLimit(spare=-1), "0 or more"),
        (lambda: OpenFilesLimit(files=9), "100 or more"),
        (lambda: DiskFull(left_bytes=-1), "0 or more"),
        (lambda: InodesGone(left=-1), "0 or more"),
        (lambda: SyscallFails("cleanup", "fsink"), "fsync"),
        (lambda: SyscallFails("cleanup", "fsync", error="ENOSPACE"), "ENOSPC"),
        (lambda: SyscallFails("cleanup", "fsync", nth=0), "nth"),
        (lambda: SyscallFails("master", "fsync"), "daemon"),
        (lambda: SlowFsync(delay_s=0), "delay_s"),
        (lambda: SlowFsync(delay_s=1, daemon="master"), "daemon"),
    ],
)
def test_impossible_settings_are_refused_with_what_would_work(make: object, words: str) -> None:
    """Before anything is touched."""
    assert callable(make)
    with pytest.raises((BadInput, UnknownName), match=words):
        make()
