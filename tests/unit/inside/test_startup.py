"""A process that blocks a start of master(8) is found, named and waited for."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread, Timer

import pytest

import machine
import running
import startup
from bounded import run

LINE = b"<18>Nov 30 08:58:18 postfix/master[73]: fatal: %s"


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact without an event."""
    while not fact():  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.001)


@contextmanager
def lock_held(file: Path, within: str = "sleep 60") -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock on a file."""
    holder = subprocess.Popen(
        ["flock", "-o", str(file), "sh", "-c", f"echo; exec {within}"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout
    holder.stdout.readline()
    try:
        yield holder
    finally:
        with suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()


def test_a_lock_and_the_processes_that_have_the_file_are_found(tmp_path: Path) -> None:
    """The holder is named; an open file alone is no lock."""
    file, other = tmp_path / "master.pid", tmp_path / "master.lock"
    file.touch()
    other.touch()

    with lock_held(file) as holder, other.open():
        assert startup.locked(file)
        assert not startup.locked(other)
        assert not startup.locked(tmp_path / "none")
        assert holder.pid in startup.having_open(file)
        scene = startup.scene((file, other))
        assert f"{file} is locked by" in scene
        assert f"[{holder.pid}]" in scene
        assert str(other) not in scene

    assert not startup.locked(file)


def test_checking_a_lock_leaves_no_lock(tmp_path: Path) -> None:
    """Otherwise the check would block master(8)."""
    file = tmp_path / "master.pid"
    file.touch()

    startup.locked(file)

    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_master_is_started_once_its_locks_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start waits for the process that holds one."""
    file = tmp_path / "master.pid"
    file.touch()
    monkeypatch.setattr(machine, "LOCKS", (file,))

    with lock_held(file) as holder:
        Timer(0.1, lambda: os.killpg(holder.pid, signal.SIGKILL)).start()
        run(machine.unlocked())
        assert not startup.locked(file)


def test_a_lock_that_stays_is_an_error_with_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes after the time limit."""
    file = tmp_path / "master.pid"
    file.touch()
    monkeypatch.setattr(machine, "LOCKS", (file,))
    monkeypatch.setattr(machine, "UNLOCKED_WITHIN_S", 0.1)

    with lock_held(file) as holder, pytest.raises(RuntimeError) as error:
        run(machine.unlocked())

    assert f"{file} is still locked by" in str(error.value)
    assert f"[{holder.pid}]" in str(error.value)


def test_errors_to_syslog_are_recorded_with_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """master(8) sleeps for a second after its error; the process list is of that time."""
    monkeypatch.setattr(startup, "SYSLOG", tmp_path / "log")
    file = tmp_path / "master.lock"
    file.touch()

    async def actions() -> startup.Syslog:
        with (
            startup.errors_heard((file,)) as syslog,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log,
        ):
            log.connect(str(tmp_path / "log"))
            with lock_held(file):
                log.send(LINE % b"no lock")
                await until(lambda: bool(syslog.lines))
            log.send(LINE % b"daemon initialization failure -- see logs for details")
        return syslog

    heard = run(actions())

    assert heard.errors == ["fatal: no lock"]
    assert len(heard.lines) == 2
    assert f"{file} is locked by" in heard.scene
    assert not (tmp_path / "log").exists()


def test_a_syslogd_of_the_hosts_own_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scenario may have started one."""
    monkeypatch.setattr(startup, "SYSLOG", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "log"))

        async def actions() -> startup.Syslog:
            with startup.errors_heard(()) as syslog:
                return syslog

        assert run(actions()).errors == []

    assert (tmp_path / "log").exists()


# Forks a child at SIGTERM, like a master(8) that was about to fork. Both are named master, and
# SIGTERM does not end the child.
FORKS_AT_ITS_END = """
trap '( trap "" TERM; read -r x <"$0" ) & exit' TERM
echo
read -r x <"$0"
"""


class Master:
    """A process named master that has no daemon but a child forked at its end."""

    def __init__(self, folder: Path) -> None:
        program = folder / "master"
        shutil.copy(shutil.which("sh") or "/bin/sh", program)
        os.mkfifo(folder / "never")
        self.process = subprocess.Popen(
            [program, "-c", FORKS_AT_ITS_END, str(folder / "never")],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout
        self.process.stdout.readline()
        # In containers, the kernel reaps children of the first process.
        self.reaper = Thread(target=self.process.wait)
        self.reaper.start()

    @property
    def group(self) -> list[str]:
        """Return the names of its processes."""
        pids = machine.master_and_daemons(self.process.pid)
        return [name for pid, name in running.names().items() if pid in pids]

    def close(self) -> None:
        """End all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.reaper.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    """Yield such a process, and end it afterwards."""
    running = Master(tmp_path)
    yield running
    running.close()


def test_a_child_that_is_no_daemon_yet_does_not_delay_the_stop(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child, forked a moment before the stop, has the signal handler of master(8)."""
    monkeypatch.setattr(running, "STOP_WITHIN_S", 3600.0)

    run(machine.end(master.process.pid))

    assert master.group == []
    assert f"stop of master[{master.process.pid}]" in machine._last_stop.report


def test_no_child_escapes_while_master_ends(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has master(8)'s locks and sockets, and the next master(8) would not start.

    Here every listing takes until master(8) is gone: it shows neither a child that was forked
    meanwhile, nor master(8) itself.
    """
    names = running.names

    def slow() -> dict[int, str]:
        listed = set(running.others())
        master.reaper.join(timeout=10)
        return {pid: name for pid, name in names().items() if pid in listed}

    monkeypatch.setattr(machine, "names", slow)

    run(machine.end(master.process.pid))

    monkeypatch.setattr(machine, "names", names)
    assert master.group == []
