"""The start of master(8): its errors before it has a log, and the process that blocks it.

master(8) reports an error during its start to syslog(3) only, and sleeps for a second
afterwards. No lab has a syslogd(8), so this module takes its place during the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

SYSLOG = Path("/dev/log")
LINE_BYTES_MAX = 65536
# master -w reports this after every other error.
LAST_WORDS = "daemon initialization failure"


class Syslog:
    """The errors that master(8) reported, and the processes at the time of the first one."""

    def __init__(self) -> None:
        self.lines: List[str] = []
        # master(8) ends seconds later, when the process that blocked it may be gone.
        self.scene = ""

    @property
    def errors(self) -> List[str]:
        """Return each error that master(8) reported."""
        return [line for line in self.lines if "fatal" in line and LAST_WORDS not in line]


@contextlib.contextmanager
def errors_heard(locks: Tuple[Path, ...]) -> Iterator[Syslog]:
    """Take the place of syslogd(8), unless the host has one."""
    syslog = Syslog()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        try:
            log.bind(str(SYSLOG))
        except OSError:
            yield syslog
            return
        SYSLOG.chmod(0o666)

        def take() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    line = log.recv(LINE_BYTES_MAX).decode(errors="replace")
                    syslog.scene = syslog.scene or scene(locks)
                    # Remove priority, time and program (RFC 3164).
                    syslog.lines.append(re.sub(r"^.*?\[\d+\]: ", "", line))

        loop = asyncio.get_running_loop()
        loop.add_reader(log, take)
        try:
            yield syslog
            take()
        finally:
            loop.remove_reader(log)
            SYSLOG.unlink()


def locked(file: Path) -> bool:
    """Return True if a process holds the lock on a file (flock(2))."""
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def having_open(file: Path) -> List[int]:
    """Return the processes that have a file open."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                handles = [f"/proc/{entry}/fd/{n}" for n in os.listdir(f"/proc/{entry}/fd")]
                if any(_same(handle, file) for handle in handles):
                    found.append(int(entry))
    return found


def _same(handle: str, file: Path) -> bool:
    try:
        return os.path.samefile(handle, file)
    except OSError:
        return False


def named(pids: List[int]) -> str:
    """Return processes as Postfix logs them: ``smtpd[12] qmgr[13]``."""
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names.append(f"{Path(f'/proc/{pid}/comm').read_text().strip()}[{pid}]")
    return " ".join(names)


def scene(locks: Tuple[Path, ...]) -> str:
    """Return the holder of each lock, and all processes."""
    held = [f"{file} is locked by {named(having_open(file))}" for file in locks if locked(file)]
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return "; ".join([*held, f"processes: {named(pids)}"])


class Steps:
    """The duration of each step of a start, and what the step waited for."""

    def __init__(self) -> None:
        self.taken: Dict[str, str] = {}
        self._began = time.monotonic()

    def done(self, step: str, about: str = "") -> None:
        """Record the end of a step that began at the end of the previous step."""
        now = time.monotonic()
        self.taken[step] = f"{step} {now - self._began:.2f} s" + (f" ({about})" if about else "")
        self._began = now

    def __str__(self) -> str:
        return ", ".join(self.taken.values())
