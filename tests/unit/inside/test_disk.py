"""The parts of the disk faults that need no mail host: the filler, and -D in master.cf."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import disk
import snapshot
from maillab.errors import BadInput, UnknownName
from maillab.faults import (
    DaemonFrozen,
    DaemonKilled,
    DiskFull,
    HostCrashed,
    InodesGone,
    OpenFilesLimit,
    ProcessLimit,
    SlowDisk,
    SlowFsync,
    SyscallFails,
)
from maillab.hosts.host import Fault

MASTER_CF = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       n       -       -       smtpd
cleanup   unix  n       -       n       -       0       cleanup
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
        -o syslog_name=postfix/$service_name
smtpd-x   unix  -       -       n       -       -       smtpd -o myhostname=x
"""


def test_a_program_gets_its_debugger_and_loses_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row of the program gets -D once; nothing else changes."""
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


def test_a_filler_takes_space_and_frees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filler has the missing size; here the disk only reports a small size."""
    monkeypatch.setattr(disk, "FILLER", tmp_path / "filler")

    def free() -> dict[str, int]:
        used = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
        return {
            "free_bytes": 1_000_000 - sum(used),
            "free_inodes": 100 - len(list(tmp_path.rglob("*"))),
        }

    async def free_space() -> dict[str, int]:
        return free()

    monkeypatch.setattr(disk, "free_space", free_space)
    monkeypatch.setattr(os, "mknod", lambda path, mode: Path(path).touch(mode))

    filled = asyncio.run(disk.fill(300_000))
    asyncio.run(disk.unfill(filled["filler"]))
    taken = asyncio.run(disk.take_inodes(7))
    asyncio.run(disk.unfill(taken["filler"]))

    assert filled["free_bytes"] == 300_000
    assert taken["free_inodes"] == 7
    assert list(tmp_path.iterdir()) == []


def test_the_filler_is_in_a_watched_folder() -> None:
    """A reset then removes a filler that its fault left."""
    assert any(str(disk.FILLER).startswith(folder + "/") for folder in snapshot.WATCHED)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DaemonKilled("smtdp"), "smtpd"),
        (lambda: DaemonKilled("smtpd", times=0), "times"),
        (lambda: DaemonKilled("smtpd", within_s=-1), "within_s"),
        (lambda: DaemonFrozen("init"), "master"),
        (lambda: HostCrashed(within_s=-0.1), "within_s"),
        (lambda: ProcessLimit(spare=-1), "spare must be >= 0"),
        (lambda: OpenFilesLimit(files=9), "files must be >= 100"),
        (lambda: DiskFull(left_bytes=-1), "left_bytes must be >= 0"),
        (lambda: InodesGone(left=-1), "left must be >= 0"),
        (lambda: SyscallFails("cleanup", "fsink"), "fsync"),
        (lambda: SyscallFails("cleanup", "fsync", error="ENOSPACE"), "ENOSPC"),
        (lambda: SyscallFails("cleanup", "fsync", nth=0), "nth"),
        (lambda: SyscallFails("master", "fsync"), "daemon"),
        (lambda: SlowDisk(writes_per_s=0), "writes_per_s must be 1 to"),
        (lambda: SlowFsync(delay_s=0), "delay_s"),
        (lambda: SlowFsync(delay_s=1, daemon="master"), "daemon"),
    ],
)
def test_impossible_settings_are_refused_with_the_allowed_values(
    make: Callable[[], Fault], words: str
) -> None:
    """The error comes before any host is touched."""
    with pytest.raises((BadInput, UnknownName), match=words):
        make()
