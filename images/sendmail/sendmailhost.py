"""What the channel can do in a host with Sendmail: the words are those of ``machine``.

Files are put back by ``machine``; here is what Sendmail does otherwise than
Postfix: how it is started and configured, where it keeps mail.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any, Dict, List

import channel
import machine
import mailfiles
import sendmailinit
import snapshot

PID_FILE = Path("/run/sendmail/mta/sendmail.pid")
CHANGES = Path("/etc/mail/changes.m4")
QUEUES = (Path("/var/spool/mqueue"), Path("/var/spool/mqueue-client"))
CLOCK = Path("/etc/faketimerc")
# What works on mail: Sendmail under all its names, and what it delivers with.
WORKERS = ("sendmail", "mail.local", "sm-mta")


def daemon_pid() -> int:
    """The process id of a running daemon, or 0."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(PID_FILE.read_text().split()[0])
        if machine.names().get(pid, "").startswith(WORKERS):
            return pid
    return 0


def working() -> List[int]:
    """The processes that have mail in hand: all of Sendmail's but the daemon."""
    daemon = daemon_pid()
    return [
        pid for pid, name in machine.names().items() if name.startswith(WORKERS) and pid != daemon
    ]


async def start() -> Dict[str, Any]:
    """Start the daemon; it listens on return."""
    if not daemon_pid():
        clock = ["env", *machine.CLOCK_ENVIRONMENT.split()] if machine.PRELOAD.exists() else []
        done = await channel.run([*clock, *sendmailinit.DAEMON])
        if done["status"]:
            raise RuntimeError(f"Sendmail does not start: {done['stderr'] or done['stdout']}")
    return {}


async def stop() -> Dict[str, Any]:
    """Stop the daemon and all that has mail in hand."""
    daemon = daemon_pid()
    pids = [*([daemon] if daemon else []), *working()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    await machine.gone(pids)
    return {"was_running": bool(daemon)}


async def restart() -> Dict[str, Any]:
    """Stop and start; what is stopped stays so."""
    if (await stop())["was_running"]:
        await start()
    return {}


async def configure(settings: Dict[str, str]) -> Dict[str, Any]:
    """Define m4 macros (cf/README), make sendmail.cf anew and restart."""
    before = CHANGES.read_text() if CHANGES.exists() else ""
    lines = [f"define(`{name}', `{value}')dnl\n" for name, value in settings.items()]
    CHANGES.write_text(before + "".join(lines))
    made = await channel.run(["m4", "/etc/mail/sendmail.mc"])
    if made["status"]:
        raise RuntimeError(f"m4: {made['stderr']}")
    Path("/etc/mail/sendmail.cf").write_text(made["stdout"])
    await restart()
    return {"unknown": []}


async def mark(text: str) -> Dict[str, Any]:
    """Put a line into the log behind everything that was logged by now."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect(str(sendmailinit.SOCKET))
        log.send(f"<22>maillab[1]: {text}".encode())
    return {}


def queued() -> List[List[str]]:
    """Queue, queue id and Message-ID of every message in the queues."""
    found = []
    for queue in QUEUES:
        for control in queue.glob("qf*"):
            with contextlib.suppress(FileNotFoundError):
                message_id = re.search(rb"(?i)message-id:\s*(<[^>]*>)", control.read_bytes())
                said = message_id.group(1).decode("latin-1") if message_id else ""
                found.append([queue.name, control.name[2:], said])
    return found


async def queue_files() -> Dict[str, Any]:
    """What is queued, and whether some process has mail in hand."""
    return {"queued": queued(), "running": bool(daemon_pid()), "due": bool(working())}


async def collect() -> Dict[str, Any]:
    """All mailboxes and what is queued."""
    return {"mailboxes": mailfiles.mailboxes(), "queued": queued()}


async def halt(*, whole: bool) -> Dict[str, Any]:  # noqa: ARG001  # it is stopped in any case
    """Stop Sendmail."""
    return await stop()


async def conclude(token: str) -> Dict[str, Any]:
    """Once every host was halted: mark the end of its log, and collect what it left."""
    await mark(f"mark {token}")
    return await collect()


async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:  # noqa: ARG001  # always whole
    """Make this host what it was when it came up, Sendmail running, and mark the log."""
    strays = list(machine.names())
    for pid in strays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await machine.gone(strays)
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    await start()
    return {"failed": failed}


async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all that runs here, which ``waits`` for ``wake``."""
    offset_s = float(CLOCK.read_text()) if CLOCK.exists() else 0.0
    CLOCK.write_text(f"{offset_s + seconds:+015.1f}\n")
    machine.PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    return {"offset_s": offset_s + seconds, "waits": True}


async def wake() -> Dict[str, Any]:
    """Look through the queue after ``warp``."""
    await restart()
    # In the foreground: on return every message was tried.
    return await channel.run(["sendmail", "-qf"])


def prepare() -> None:
    """Before the first request: remember the host as it is now, for ``reset``."""
    snapshot.baseline()


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        collect, conclude, configure, halt, mark, queue_files, reset, restart, start, stop, wake,
        warp,
    )
}  # fmt: skip
