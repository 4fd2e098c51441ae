"""Operations of a mailbox server, with the names and answers of ``machine``.

``machine`` restores files. This module has what differs from a host with Postfix: how Dovecot
is started, stopped and configured, and how its log is read to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any, Dict, List

import channel
import dovecotinit
import machine
import mailstores
import running
import snapshot
import syslogsocket
from operations import Handles, operation, setting

# Dovecot creates these at each start.
snapshot.UNWATCHED.update(("/run/dovecot", "/var/lib/dovecot"))
# The mail host restores its queue directory.
snapshot.UNWATCHED.add("/var/spool/postfix")
# The log process answers here with the latest errors, like everything in one thread.
LOG_ERRORS = Path("/run/dovecot/log-errors")
LOGGED_WITHIN_S = 10.0
STARTED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 0.3
LOOK_AGAIN_S = 0.005
# Dovecot looks at the time of a users' file at most once in each second of its clock.
LOOKS_AGAIN_S = 1.01
SETTINGS = Path("/etc/dovecot/conf.d/scenario.conf")
CLOCK = Path("/etc/faketimerc")
IDLE_LINE = re.compile(rb" maillab\[1\]: | dovecot: master: Dovecot v\S+ .* starting up ")
# Sieve adds these to mail that it redirects.
ADDED_HEADERS = ["x-sieve", "x-sieve-redirected-from"]


def master_pid() -> int:
    """Return the process id of Dovecot's master process, or 0."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(dovecotinit.MASTER_PID.read_text())
        if running.names().get(pid) == "dovecot":
            return pid
    return 0


def children() -> Dict[int, str]:
    """Return the services of Dovecot's other processes, by process id.

    A process that the master process has just forked has no service yet.
    """
    found = {}
    master = master_pid()
    for pid in running.others():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            dovecot = re.match(rb"(?:\S*/)?dovecot(?:/([\w-]+)|\0|$)", title)
            if dovecot and pid != master:
                found[pid] = (dovecot.group(1) or b"").decode()
    return found


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, and the processes."""
    return await machine.digest()


@operation()
async def start() -> Dict[str, Any]:
    """Start Dovecot; return once it listens."""
    if not master_pid():
        clock = ["env", *machine.CLOCK_ENVIRONMENT.split()] if machine.PRELOAD.exists() else []
        done = await channel.run([*clock, *dovecotinit.START])
        if done["status"]:
            words = (done["stderr"].strip().splitlines() or ["no error was reported"])[-1]
            raise RuntimeError(f"Dovecot does not start: {words}")
        # It listens, and writes its process id a moment later.
        until = time.monotonic() + STARTED_WITHIN_S
        while not master_pid():
            if time.monotonic() > until:
                raise RuntimeError(f"Dovecot has not started within {STARTED_WITHIN_S:g} s")
            await asyncio.sleep(LOOK_AGAIN_S)
    return {}


@operation(was_running=False)
async def stop() -> Dict[str, Any]:
    """Stop Dovecot; none of its processes is left, and all that they logged has been read."""
    master = master_pid()
    if master:
        with contextlib.suppress(ProcessLookupError):
            os.kill(master, signal.SIGTERM)
            os.kill(master, signal.SIGCONT)
        # The master process waits for its children. One that was just forked misses its signal,
        # and would look for its configuration for seconds.
        await running.left([master], STOPPED_WITHIN_S)
    # The log process ends when the others have.
    while busy := [pid for pid, service in children().items() if service != "log"]:
        signal_all(busy, signal.SIGKILL)
        await running.gone(busy)
    await running.gone([master] if master else [])
    await running.gone(list(children()))
    return {"was_running": bool(master)}


def signal_all(pids: List[int], number: signal.Signals) -> None:
    """Send a signal to the processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@operation()
async def restart() -> Dict[str, Any]:
    """Stop and start Dovecot, unless it is stopped."""
    if (await stop())["was_running"]:
        await start()
    return {}


@setting(error="")
async def add_settings(text: str) -> Dict[str, Any]:
    """Append text to the scenario's settings; keep them as they were if Dovecot refuses it."""
    before = SETTINGS.read_text() if SETTINGS.exists() else ""
    SETTINGS.write_text(before + text.rstrip("\n") + "\n")
    check = await channel.run(["doveconf", "-n"])
    if check["status"]:
        SETTINGS.write_text(before)
        words = check["stderr"].strip().splitlines() or [f"status {check['status']}"]
        return {"error": words[-1]}
    return {"error": ""}


@setting()
async def replace_users(path: str, text: str) -> Dict[str, Any]:
    """Write a file of users that Dovecot may read; return once it looks at the file again."""
    file = Path(path)
    file.write_text(text)
    file.chmod(0o640)
    shutil.chown(file, "root", "dovecot")
    if master_pid():
        await asyncio.sleep(LOOKS_AGAIN_S)
    return {}


@operation()
async def mark(text: str) -> Dict[str, Any]:
    """Write a line to the log after every line that was logged so far."""
    machine.check_log_room()
    if master_pid():
        # In one round the log process reads from every process that has something for it. It
        # may answer before it reads; so a second round is complete only after the first.
        await asked_log()
        await asked_log()
    if not await machine.handed_over(syslogsocket.SOCKET, f"<22>maillab[1]: {text}".encode()):
        raise RuntimeError(f"no process reads {syslogsocket.SOCKET}; is the host's PID 1 alive?")
    return {}


async def asked_log() -> None:
    """Wait for an answer of Dovecot's log process; return at once if it does not run."""
    try:
        await asyncio.wait_for(_log_errors(), LOGGED_WITHIN_S)
    except asyncio.TimeoutError:  # noqa: UP041  # another class before Python 3.11
        raise RuntimeError(
            f"Dovecot's log process did not answer within {LOGGED_WITHIN_S:g} s; is it stopped?"
        ) from None
    except OSError:
        return


async def _log_errors() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, str(LOG_ERRORS))
        while await loop.sock_recv(asking, syslogsocket.LINE_BYTES_MAX):
            pass


@operation(queued=[], running=False, due=False)
async def queue_files() -> Dict[str, Any]:
    """Return that no mail waits here: Dovecot has no queue."""
    return {"queued": [], "running": bool(master_pid()), "due": False}


@operation(mailboxes=[], queued=[], rewriting={})
async def collect() -> Dict[str, Any]:
    """Return all mailboxes."""
    rewriting = {"headers": ADDED_HEADERS}
    return {"mailboxes": mailstores.mailboxes(), "queued": [], "rewriting": rewriting}


class _Begun:
    """The length of the log when a reset last started Dovecot."""

    log_bytes = 0


_begun = _Begun()


def untouched() -> bool:
    """Return True if Dovecot runs and nothing has happened to this host since its start.

    An operation or a line of the log would show any change.
    """
    if not master_pid() or channel.asked - machine.QUIET_OPERATIONS:
        return False
    with dovecotinit.LOG.open("rb") as log:
        log.seek(_begun.log_bytes)
        return all(IDLE_LINE.search(line) for line in log)


@operation(was_running=False)
async def halt(*, whole: bool) -> Dict[str, Any]:
    """Stop Dovecot; leave it running if it is untouched and ``whole`` is false."""
    if not whole and untouched():
        return {"was_running": True}
    return await stop()


@operation(mailboxes=[], queued=[], rewriting={})
async def conclude(token: str) -> Dict[str, Any]:
    """After every host was halted: mark the end of the log, and collect the mailboxes."""
    if not untouched():
        await stop()
    await mark(f"mark {token}")
    return await collect()


@operation(failed=[], running=True)
async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:
    """Restore this host's baseline, and mark the log.

    Dovecot runs only if it was left running; ``first_start`` starts it.
    """
    if not whole and untouched():
        await mark(f"mark {token}")
        return {"failed": [], "running": True}
    await stop()
    await running.kill_all()
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    begin()
    return {"failed": failed, "running": False}


@operation()
async def first_start() -> Dict[str, Any]:
    """Start Dovecot after a reset, which does not count as a change of the host."""
    return await start()


@operation(offset_s=0.0, waits=False)
async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all processes here; Dovecot restarts, since it may not see a leap."""
    was_running = (await stop())["was_running"]
    offset_s = float(CLOCK.read_text()) if CLOCK.exists() else 0.0
    CLOCK.write_text(f"{offset_s + seconds:+015.1f}\n")
    machine.PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    if was_running:
        await start()
    return {"offset_s": offset_s + seconds, "waits": False}


async def thaw(pids: List[int]) -> None:
    """Let processes go on that were stopped for a crash."""
    signal_all(pids, signal.SIGCONT)


FROZEN: Handles[List[int]] = Handles(__name__, thaw)


@operation(stopped=[], waited_s=0.0)
async def freeze_for_crash(within_s: float = 0.0, seed: int = 0) -> Dict[str, Any]:
    """Stop all of Dovecot at a random time, except the process that hands on its log."""
    waited_s = random.Random(seed).uniform(0, within_s)  # noqa: S311  # not for secrets
    await asyncio.sleep(waited_s)
    pids = [pid for pid, service in children().items() if service != "log"]
    pids += [pid for pid in [master_pid()] if pid]
    signal_all(pids, signal.SIGSTOP)
    FROZEN.add(pids)
    return {"stopped": pids, "waited_s": waited_s}


def begin() -> None:
    """Count what happens to this host from now on."""
    channel.asked.clear()
    _begun.log_bytes = dovecotinit.LOG.stat().st_size


def prepare() -> None:
    """Record the host's state before the first request, for ``reset``."""
    if snapshot.BASELINE.exists():
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
    snapshot.baseline()
