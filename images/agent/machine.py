"""What the channel can do in a mail host: run Postfix, move its clock, put it back.

A host to which nothing happened between two scenarios is left running as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import channel
import mailfiles
import snapshot

QUEUE_DIRECTORY = mailfiles.QUEUE_DIRECTORY
MAIN_CF = Path("/etc/postfix/main.cf")
LOG = Path("/var/log/mail.log")
PRELOAD = Path("/etc/ld.so.preload")
# One file for both: inside a chroot and, by a link, outside of it.
CLOCK = QUEUE_DIRECTORY / "etc/faketimerc"
CLOCK_OUTSIDE = Path("/etc/faketimerc")
# Look at the file each time; leave the times of queue files alone, or no retry is ever due.
CLOCK_ENVIRONMENT = "FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1"
MASTER_PID = QUEUE_DIRECTORY / "pid/master.pid"
STOP_WITHIN_S = 5.0
OTHERS_LOG_WITHIN_S = 1.0
LOOK_AGAIN_S = 0.005
# Daemons that are at work go on until they have done.
RELOADED_WITHIN_S = 2.0
# What leaves a host as it is.
QUIET_OPERATIONS = {
    "collect", "conclude", "halt", "heal", "mark", "queue_files", "queue_lengths", "read", "reset",
}  # fmt: skip
FIRST_DAEMONS = {"master", "pickup", "postlogd", "qmgr"}
IDLE_LINE = re.compile(rb" maillab\[1\]: | postfix/master\[\d+\]: daemon started ")
# What master is started through, such as prlimit(1).
LAUNCHER: List[str] = []


class _Begun:
    """Where the log stood when Postfix was last started by a reset."""

    log_bytes = 0


_begun = _Begun()


async def digest() -> Dict[str, Any]:
    """A checksum of each watched path, and the processes."""
    return {"paths": snapshot.sums(), "processes": sorted(names().values())}


def names() -> Dict[int, str]:
    """The processes of this container but for its first and ourselves."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (1, os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(entry)] = Path(f"/proc/{entry}/comm").read_text().strip()
    return found


def master_pid(file: Optional[Path] = None) -> int:
    """The process id of a running master, or 0; the first instance's unless told otherwise."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((file or MASTER_PID).read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "master":
            return pid
    return 0


def other_masters() -> List[int]:
    """The masters of other instances that run."""
    found = []
    for folder in mailfiles.queue_directories()[1:]:
        pid = master_pid(folder / "pid/master.pid")
        if pid:
            found.append(pid)
    return found


def master_and_daemons(master: int) -> List[int]:
    """Master's process group: it and every daemon it started."""
    found = []
    for pid in names():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == master:
                found.append(pid)
    return found


async def ended(handle: int) -> None:
    """Wait until the process behind a pidfd_open(2) handle is no more."""
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    loop.add_reader(handle, _resolve, end)
    try:
        await end
    finally:
        loop.remove_reader(handle)


def _resolve(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


async def gone(pids: List[int]) -> None:
    """Wait until none of the processes is left; kills those that outstay the bound."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append((pid, os.pidfd_open(pid)))
    for pid, handle in handles:
        try:
            await asyncio.wait_for(ended(handle), STOP_WITHIN_S)
        except asyncio.TimeoutError:  # noqa: UP041  # another class before Python 3.11
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await ended(handle)
        finally:
            os.close(handle)


async def stop() -> Dict[str, Any]:
    """Stop Postfix as ``postfix stop`` does; returns once all of it is gone."""
    master = master_pid()
    if master:
        await end(master)
    return {"was_running": bool(master)}


async def end(master: int) -> None:
    """Stop a master and its daemons."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGTERM)
    # Again and again: one forked a moment ago still has master's lock.
    while pids := master_and_daemons(master):
        for pid in pids:
            # One that a fault has stopped cannot end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await gone(pids)


async def start() -> Dict[str, Any]:
    """Start master, as ``postfix start`` does after its checks; it listens on return."""
    if master_pid():
        return {}
    clock = ["env", *CLOCK_ENVIRONMENT.split()] if PRELOAD.exists() else []
    done = await channel.run([*LAUNCHER, *clock, "/usr/lib/postfix/sbin/master", "-w"])
    if done["status"]:
        # master has no log to complain to before it runs; postfix(1) has our standard error.
        asked = await channel.run(["postfix", "status"])
        words = [line for line in asked["stderr"].splitlines() if "fatal" in line]
        tail = LOG.read_bytes()[-600:].decode(errors="replace").splitlines()[-2:]
        raise RuntimeError("master does not start: " + " / ".join(words or tail))
    return {}


async def restart() -> Dict[str, Any]:
    """Stop and start, so that no daemon keeps an old setting; a stopped Postfix stays so."""
    if (await stop())["was_running"]:
        await start()
    return {}


async def reload() -> Dict[str, Any]:
    """What ``postfix reload`` does, without its checks; no idle daemon is an old one on return."""
    master = master_pid()
    before = [pid for pid in master_and_daemons(master) if pid != master]
    os.kill(master, signal.SIGHUP)
    await left(before, RELOADED_WITHIN_S)
    return {}


async def left(pids: List[int], within_s: float) -> None:
    """Wait until the processes have ended; those at work may take longer than the bound."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    ends = [asyncio.ensure_future(ended(handle)) for handle in handles]
    if ends:
        _, working = await asyncio.wait(ends, timeout=within_s)
        for end in working:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    for handle in handles:
        os.close(handle)


async def configure(settings: Dict[str, str]) -> Dict[str, Any]:
    """Set main.cf parameters (postconf(1) -e) and restart; refuses unknown names."""
    before = MAIN_CF.read_text()
    kept = []
    dropping = False
    for line in before.removesuffix("\n").split("\n"):
        # Neither ends the logical line that it stands in (postconf(5)).
        aside = not line.strip() or line.lstrip().startswith("#")
        if not aside and not line[0].isspace():
            dropping = line.partition("=")[0].strip() in settings
        if aside or not dropping:
            kept.append(line)
    kept += [f"{name} = {value}".replace("\n", "\n ") for name, value in settings.items()]
    MAIN_CF.write_text("".join(f"{line}\n" for line in kept))
    channel.cool(MAIN_CF)
    known = set(Path("/opt/maillab/parameters").read_text().split())
    if set(settings) - known:
        # postconf knows the parameters that master.cf and other parameters bring with them.
        check = await channel.run(["postconf", "-n"])
        unused = set(re.findall(r"unused parameter: ([^\s=]+)", check["stderr"]))
        unknown = sorted(unused & set(settings))
        if unknown:
            MAIN_CF.write_text(before)
            channel.cool(MAIN_CF)
            return {"unknown": unknown}
    await restart()
    return {"unknown": []}


def clock_offset_s() -> float:
    """How far this host's clock was moved."""
    return float(CLOCK.read_text()) if CLOCK.exists() else 0.0


async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all that runs here; where mail is due now it ``waits`` for ``wake``.

    The first time Postfix is restarted, so that libfaketime is loaded into it;
    from then on its daemons see a new time the moment it is written.
    """
    offset_s = clock_offset_s() + seconds
    first = not PRELOAD.exists()
    running = bool(master_pid())
    if first:
        await stop()
        CLOCK.parent.mkdir(exist_ok=True)
    # In place: a file of another inode might be read half-written.
    with CLOCK.open("r+" if CLOCK.exists() else "w") as file:
        file.write(f"{offset_s:+015.1f}\n")
    if first:
        CLOCK_OUTSIDE.symlink_to(CLOCK)
        imported = (await channel.run(["postconf", "-h", "import_environment"]))["stdout"].strip()
        await configure({"import_environment": f"{imported} {CLOCK_ENVIRONMENT}"})
        PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    # The next hop must have started, too, before anything is tried.
    waits = running and due()
    if running and not waits:
        await start()
    return {"offset_s": offset_s, "waits": waits}


async def wake() -> Dict[str, Any]:
    """Have qmgr(8) look for mail that is due after ``warp``; Postfix runs on return."""
    await start()
    # Not a flush, which would try mail that is not due yet.
    return await channel.run(["postkick", "public", "qmgr", "D"])


async def mark(text: str) -> Dict[str, Any]:
    """Put a line into the mail log behind everything that was logged by now."""
    now = time.strftime("%b %e %H:%M:%S")
    line = f"{now} {socket.gethostname().split('.')[0]} maillab[1]: {text}".encode()
    await others_logged(line.replace(b"mark", b"behind", 1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        try:
            if not master_pid():
                raise ConnectionRefusedError
            log.sendto(line, str(QUEUE_DIRECTORY / "public/postlog"))
        except OSError:
            # No postlogd: nothing else writes, either.
            with LOG.open("ab", buffering=0) as file:
                file.write(line + b"\n")
    return {}


async def others_logged(line: bytes) -> None:
    """Wait until the postlogd(8) of each other instance has written what it was given by now."""
    for folder in mailfiles.queue_directories()[1:]:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.sendto(line, str(folder / "public/postlog"))
            until = time.monotonic() + OTHERS_LOG_WITHIN_S
            while LOG.read_bytes().find(line) < 0 and time.monotonic() < until:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(LOOK_AGAIN_S)


def due() -> bool:
    """Whether a moved clock has made deferred mail due: qmgr(8) keeps the time in its mtime."""
    if not PRELOAD.exists():
        return False
    now = time.time() + clock_offset_s()
    deferred = QUEUE_DIRECTORY / "deferred"
    return any(path.stat().st_mtime <= now for path in deferred.rglob("*") if path.is_file())


async def queue_files() -> Dict[str, Any]:
    """The queue directories alone, see ``mailfiles.queued``."""
    # In the order in which mail moves, or what leaves one queue might be seen in none.
    is_due = due()
    return {"queued": mailfiles.queued(), "running": bool(master_pid()), "due": is_due}


async def queue_lengths() -> Dict[str, Any]:
    """How many files are in each queue: cheap even when there are thousands."""
    return {"lengths": mailfiles.lengths(), "running": bool(master_pid())}


async def collect() -> Dict[str, Any]:
    """All mailboxes and the names of all queue files."""
    return {"mailboxes": mailfiles.mailboxes(), "queued": mailfiles.queued()}


def untouched() -> bool:
    """Whether Postfix runs and nothing was asked of this host, nor happened, since it started.

    What anybody does here is an operation, a process or a line in the log.
    """
    if not master_pid() or channel.asked - QUIET_OPERATIONS:
        return False
    if set(names().values()) - FIRST_DAEMONS:
        return False
    with LOG.open("rb") as log:
        log.seek(_begun.log_bytes)
        return all(IDLE_LINE.search(line) for line in log)


async def halt(*, whole: bool) -> Dict[str, Any]:
    """Stop Postfix, unless it is untouched and not the ``whole`` lab is to be stopped."""
    if not whole and untouched():
        return {"was_running": True}
    for master in other_masters():
        await end(master)
    return await stop()


async def conclude(token: str) -> Dict[str, Any]:
    """Once every host was halted: mark the end of its log, and collect what it left.

    One that has had mail meanwhile from another is stopped now.
    """
    if not untouched():
        await halt(whole=True)
    await mark(f"mark {token}")
    return await collect()


async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:
    """Make this host what it was when it came up, Postfix running, and mark the log."""
    if not whole and untouched():
        await mark(f"mark {token}")
        return {"failed": []}
    strays = list(names())
    for pid in strays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await gone(strays)
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    begin()
    await start()
    return {"failed": failed}


def begin() -> None:
    """From here on it counts what happens to this host."""
    channel.asked.clear()
    _begun.log_bytes = LOG.stat().st_size


def prepare() -> None:
    """Before the first request: remember the host as it is now, for ``reset``."""
    if snapshot.BASELINE.exists():
        # Nobody knows what was asked of the channel before this one.
        channel.asked.add("what went before")
    snapshot.baseline()


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        collect, conclude, configure, digest, halt, mark, queue_files, queue_lengths, reload,
        reset, restart, start, stop, wake, warp,
    )
}  # fmt: skip
