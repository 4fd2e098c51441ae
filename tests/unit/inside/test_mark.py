"""A mark follows every line that Postfix logged before it, or is not written at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import machine
import mailfiles
import sendmailhost
import syslogsocket
from bounded import run


class Logger:
    """A log socket that only the test reads, as a slow postlogd(8) would."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = path

    def fill(self) -> int:
        """Send lines until the socket is full; return their number."""
        count = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.setblocking(False)
            log.connect(str(self.path))
            with suppress(BlockingIOError):
                while True:
                    log.send(b"earlier")
                    count += 1
        return count

    def read(self, count: int) -> list[bytes]:
        """Read lines from the socket."""
        return [self.socket.recv(1000) for _ in range(count)]


def mark_after_a_full_socket(
    logger: Logger, mark: Callable[[str], Coroutine[Any, Any, object]]
) -> tuple[list[bytes], bytes]:
    """Fill a log socket, request "mark 7" and read on; return the lines before it, and it."""
    count = logger.fill()

    async def actions() -> list[bytes]:
        marking = asyncio.ensure_future(mark("mark 7"))
        await asyncio.sleep(0)
        first = logger.read(1)
        await marking
        return first + logger.read(count)

    *earlier, last = run(actions())
    assert len(earlier) == count
    return earlier, last


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the mail log of a host whose master(8) runs without daemons."""
    file = tmp_path / "mail.log"
    file.touch()
    monkeypatch.setattr(machine, "LOG", file)
    monkeypatch.setattr(machine, "QUEUE_DIRECTORY", tmp_path / "spool")
    monkeypatch.setattr(mailfiles, "SPOOL", tmp_path / "none")
    monkeypatch.setattr(machine, "names", dict)
    monkeypatch.setattr(machine, "master_pid", lambda: 1)
    return file


@pytest.fixture
def postlogd(log: Path, tmp_path: Path) -> Iterator[Logger]:
    """Return the daemon that reads the host's log socket."""
    logger = Logger(tmp_path / "spool/public/postlog")
    yield logger
    logger.socket.close()


def test_a_mark_waits_in_a_full_socket(log: Path, postlogd: Logger) -> None:
    """Written directly to the file, the mark would overtake the waiting lines."""
    earlier, mark = mark_after_a_full_socket(postlogd, machine.mark)

    assert set(earlier) == {b"earlier"}
    assert mark.endswith(b" maillab[1]: mark 7")
    assert log.read_bytes() == b""


def test_a_mark_that_postlogd_never_takes_is_an_error(
    log: Path, postlogd: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not written before the waiting lines."""
    monkeypatch.setattr(machine, "POSTLOGD_WITHIN_S", 0.05)
    postlogd.fill()

    with pytest.raises(RuntimeError, match=r"no line was read from .*public/postlog for 0\.05 s"):
        run(machine.mark("mark 7"))

    assert log.read_bytes() == b""


def test_without_postlogd_the_file_is_written(log: Path, tmp_path: Path) -> None:
    """No line waits: there is no socket, or no process has it open."""
    run(machine.mark("mark 7"))
    Logger(tmp_path / "spool/public/postlog").socket.close()
    run(machine.mark("mark 8"))

    assert [line.rpartition(": ")[2] for line in log.read_text().splitlines()] == [
        "mark 7",
        "mark 8",
    ]


def test_lines_of_another_instance_come_first(
    log: Path, postlogd: Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that does not log its lines leaves the host without a mark."""
    second = tmp_path / "spools/postfix-b"
    monkeypatch.setattr(mailfiles, "queue_directories", lambda: [machine.QUEUE_DIRECTORY, second])
    monkeypatch.setattr(machine, "POSTLOGD_WITHIN_S", 0.05)
    monkeypatch.setattr(machine, "logs_here", lambda _: True)
    other = Logger(second / "public/postlog")

    with pytest.raises(RuntimeError, match=r"postlogd\(8\) of postfix-b did not log a line"):
        run(machine.mark("mark 7"))

    other.socket.close()
    postlogd.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        postlogd.read(1)


def test_a_mark_of_sendmail_goes_through_its_log_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All programs of Sendmail log to one socket."""
    syslog = Logger(tmp_path / "log")
    monkeypatch.setattr(syslogsocket, "SOCKET", syslog.path)

    earlier, mark = mark_after_a_full_socket(syslog, sendmailhost.mark)

    assert set(earlier) == {b"earlier"}
    assert mark == b"<22>maillab[1]: mark 7"
    syslog.socket.close()
