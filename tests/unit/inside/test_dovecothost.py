"""The programs inside a mailbox server, tested without Dovecot."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import channel
import dovecothost
import dovecotinit
import machine
import running
import syslogsocket
from bounded import run

STARTED = b"Nov 30 16:41:57 m dovecot: master: Dovecot v2.4.1-4 (7d8) starting up for imap, lmtp\n"
MARK = b"Nov 30 16:41:57 m maillab[1]: mark a-1\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the paths of a mailbox server; Dovecot runs as process 7."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "master.pid").write_text("7\n")
    (tmp_path / "mail.log").write_bytes(STARTED + MARK)
    monkeypatch.setattr(dovecotinit, "MASTER_PID", tmp_path / "master.pid")
    monkeypatch.setattr(dovecotinit, "LOG", tmp_path / "mail.log")
    monkeypatch.setattr(dovecothost, "SETTINGS", tmp_path / "conf.d/scenario.conf")
    monkeypatch.setattr(dovecothost, "LOG_ERRORS", tmp_path / "log-errors")
    monkeypatch.setattr(syslogsocket, "SOCKET", tmp_path / "log")
    monkeypatch.setattr(machine, "LOG", tmp_path / "mail.log")
    monkeypatch.setattr(running, "names", lambda: {7: "dovecot", 8: "log"})
    monkeypatch.setattr(channel, "asked", set())
    return tmp_path


def test_a_process_id_counts_only_if_it_is_dovecots(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore, another process may have the number."""
    assert dovecothost.master_pid() == 7
    monkeypatch.setattr(running, "names", lambda: {7: "python3"})
    assert dovecothost.master_pid() == 0
    (host / "master.pid").unlink()
    assert dovecothost.master_pid() == 0


@pytest.mark.parametrize(
    ("line", "operation", "untouched"),
    [
        (b"", "", True),
        (b"Nov 30 16:41:57 m dovecot: lmtp(80): Connect from 198.18.250.10\n", "", False),
        (b"", "conclude", True),
        (b"", "run", False),
    ],
)
def test_a_server_is_untouched_if_nothing_was_logged_or_asked(
    host: Path, line: bytes, operation: str, *, untouched: bool
) -> None:
    with (host / "mail.log").open("ab") as log:
        log.write(line)
    channel.asked.update({operation} - {""})

    assert dovecothost.untouched() is untouched


def test_what_was_logged_before_a_reset_does_not_count(host: Path) -> None:
    (host / "mail.log").write_bytes(b"Nov 30 16:41:57 m dovecot: lmtp(80): Connect from x\n")
    channel.asked.add("run")

    dovecothost.begin()

    assert dovecothost.untouched()


def test_settings_that_dovecot_refuses_are_not_kept(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "doveconf: Fatal: Error in configuration file x line 2: y: Unknown setting: y"
    answers = [
        {"status": 0, "stdout": "", "stderr": ""},
        {"status": 89, "stdout": "", "stderr": f"warning\n{words}\n"},
    ]

    async def checked(argv: list[str]) -> dict[str, Any]:
        assert argv == ["doveconf", "-n"]
        return answers.pop(0)

    monkeypatch.setattr(channel, "run", checked)

    assert run(dovecothost.add_settings("a = 1")) == {"error": ""}
    assert run(dovecothost.add_settings("y = 2")) == {"error": words}
    assert (host / "conf.d/scenario.conf").read_text() == "a = 1\n"


class LogProcess:
    """A stand-in for Dovecot's log process, which counts the requests that it gets."""

    def __init__(self, path: Path, *, answers: bool = True) -> None:
        self.asked = 0
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        if answers:
            Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and leave the socket's file behind."""
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.asked += 1
                connection.close()


@pytest.fixture
def syslog(host: Path) -> Iterator[socket.socket]:
    """Return the socket that PID 1 reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(host / "log"))
        log.settimeout(5)
        yield log


def test_a_mark_follows_two_rounds_of_dovecots_log_process(
    host: Path, syslog: socket.socket
) -> None:
    """In the first round the log process may answer before it reads what is already logged."""
    with closing(LogProcess(host / "log-errors")) as process:
        run(dovecothost.mark("mark 7"))

    assert process.asked == 2
    assert syslog.recv(100) == b"<22>maillab[1]: mark 7"


def test_a_mark_needs_no_dovecot(host: Path, syslog: socket.socket) -> None:
    """Dovecot leaves its socket behind if it was killed, but not if it was stopped."""
    run(dovecothost.mark("mark 7"))
    LogProcess(host / "log-errors", answers=False).close()
    run(dovecothost.mark("mark 8"))

    assert [syslog.recv(100)[-6:] for _ in range(2)] == [b"mark 7", b"mark 8"]


def test_no_mark_is_written_if_the_log_process_does_not_answer(
    host: Path, syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecothost, "LOGGED_WITHIN_S", 0.05)

    with (
        closing(LogProcess(host / "log-errors", answers=False)),
        pytest.raises(RuntimeError, match=r"log process did not answer within 0\.05 s"),
    ):
        run(dovecothost.mark("mark 7"))

    syslog.setblocking(False)
    with pytest.raises(BlockingIOError):
        syslog.recv(100)


def test_new_users_are_in_force_when_dovecot_has_looked_again(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Dovecot does not run, nothing waits: Dovecot reads the users when it starts."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(shutil, "chown", lambda *_: None)
    users = host / "users"

    asyncio.run(dovecothost.replace_users(str(users), "alice:{PLAIN}x::::::\n"))
    (host / "master.pid").unlink()
    asyncio.run(dovecothost.replace_users(str(users), "bob:{PLAIN}x::::::\n"))

    assert slept == [dovecothost.LOOKS_AGAIN_S]
    assert users.read_text() == "bob:{PLAIN}x::::::\n"
    assert users.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        (b"a\ndoveconf: Fatal: Unknown setting\n", b"doveconf: Fatal: Unknown setting"),
        (b"certify.sh: openssl: not found\n", b"setup: x: Fatal: certify.sh: openssl: not found"),
        (b"", b"setup: x: Fatal: status 3"),
    ],
)
def test_a_failed_start_is_reported_in_one_line(stderr: bytes, line: bytes) -> None:
    done = subprocess.CompletedProcess([], 3, b"", stderr)

    assert dovecotinit.failure(done, "setup: x") == line


def test_a_stop_also_ends_children_that_missed_the_signal(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that was just forked has no name of its own yet; the log process ends by itself."""
    (host / "master.pid").unlink()
    titles = {"dovecot/anvil": "100", "/usr/sbin/dovecot": "100", "dovecot/log": "0.05"}
    processes = [
        subprocess.Popen([title, seconds], executable="/bin/sleep")
        for title, seconds in titles.items()
    ]
    other = subprocess.Popen(["dovecotd", "100"], executable="/bin/sleep")
    monkeypatch.setattr(running, "others", lambda: [p.pid for p in (*processes, other)])

    stopped = run(dovecothost.stop())
    ends = [process.wait(5) for process in processes]
    survives = other.poll() is None
    other.kill()
    other.wait(5)

    assert stopped == {"was_running": False}
    assert ends == [-9, -9, 0]
    assert survives
