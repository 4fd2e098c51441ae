"""A mail host reloads without harm to busy daemons, and knows if anything has happened to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from threading import Timer

import pytest

import channel
import machine
from operations import program


def test_a_reload_waits_for_idle_daemons_and_not_for_busy_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reload waits for idle daemons to end; a busy one continues past the time limit."""
    monkeypatch.setattr(machine, "RELOADED_WITHIN_S", 0.5)
    master = subprocess.Popen(["sh", "-c", "trap : HUP; echo; while :; do sleep 60; done"],
                              stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    idle, busy = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    assert master.stdout
    try:
        master.stdout.readline()
        group = [master.pid, idle.pid, busy.pid, 2**22 + 1]
        monkeypatch.setattr(machine, "master_pid", lambda: master.pid)
        monkeypatch.setattr(machine, "master_and_daemons", lambda _: group)
        Timer(0.1, idle.kill).start()

        asyncio.run(machine.reload())

        assert idle.poll() is not None
        assert busy.poll() is None
    finally:
        os.killpg(master.pid, signal.SIGKILL)
        for process in (master, idle, busy):
            process.kill()
            process.wait()
        master.stdout.close()


STARTED = b"Nov 23 09:17:24 mail postfix/master[81]: daemon started -- version 3.10.13, x\n"
MARKED = b"Nov 23 09:17:25 mail maillab[1]: mark 7\n"
WORKED = b"Nov 23 09:17:25 mail postfix/smtpd[90]: connect from unknown[198.18.0.1]\n"
FIRST = ("master", "postlogd", "qmgr", "pickup")


@pytest.mark.parametrize(
    ("asked", "logged", "processes", "whether"),
    [
        ((), STARTED + MARKED, FIRST, True),
        (("mark", "queue_files", "halt"), STARTED, FIRST, True),
        (("run",), STARTED, FIRST, False),
        (("mark", "configure"), STARTED, FIRST, False),
        ((), STARTED + WORKED + MARKED, FIRST, False),
        ((), STARTED, (*FIRST, "smtpd"), False),
        ((), STARTED, FIRST[1:], False),
    ],
)
def test_a_host_is_untouched_unless_something_happened(  # noqa: PLR0917  # a parameter a column
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    asked: tuple[str, ...],
    logged: bytes,
    processes: tuple[str, ...],
    whether: bool,  # noqa: FBT001  # a parametrized expectation
) -> None:
    """An operation, a log line or a process since the start: each is enough."""
    log = tmp_path / "mail.log"
    log.write_bytes(WORKED)
    monkeypatch.setattr(machine, "LOG", log)
    monkeypatch.setattr(machine, "names", lambda: dict(enumerate(processes)))
    monkeypatch.setattr(machine, "master_pid", lambda: int("master" in processes))
    machine.begin()
    with log.open("ab") as file:
        file.write(logged)
    channel.asked.update(asked)

    assert machine.untouched() is whether


def test_operations_are_named_as_the_harness_calls_them() -> None:
    """The channel uses these names."""
    assert {"configure", "reset", "conclude", "mark", "start", "stop"} <= set(
        program("machine").operations
    )
    assert program("machine").operations["reset"] is machine.reset
