"""Operations of a host with Sendmail, with the names and answers of ``machine``.

``machine`` restores files. This module has what differs from Postfix: how Sendmail is started
and configured, and where it stores mail.
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
import mailstores
import running
import sendmailinit
import snapshot
import syslogsocket
from operations import operation

PID_FILE = Path("/run/sendmail/mta/sendmail.pid")
CHANGES = Path("/etc/mail/changes.m4")
QUEUES = (Path("/var/spool/mqueue"), Path("/var/spool/mqueue-client"))
CLOCK = Path("/etc/faketimerc")
# The programs that handle mail: Sendmail under all its names, and its delivery agent.
WORKERS = ("sendmail", "mail.local", "sm-mta")


def daemon_pid() -> int:
    """Return the process id of a running daemon, or 0."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(PID_FILE.read_text().split()[0])
        if running.names().get(pid, "").startswith(WORKERS):
            return pid
    return 0


def working() -> List[int]:
    """Return the processes that handle mail: all of Sendmail's except the daemon."""
    daemon = daemon_pid()
    return [
        pid for pid, name in running.names().items() if name.startswith(WORKERS) and pid != daemon
    ]


@operation()
async def start() -> Dict[str, Any]:
    """Start the daemon; return once it listens."""
    if not daemon_pid():
        clock = ["env", *machine.CLOCK_ENVIRONMENT.split()] if machine.PRELOAD.exists() else []
        done = await channel.run([*clock, *sendmailinit.DAEMON])
        if done["status"]:
            raise RuntimeError(f"Sendmail does not start: {done['stderr'] or done['stdout']}")
    return {}


@operation(was_running=False)
async def stop() -> Dict[str, Any]:
    """Stop the daemon and all processes that handle mail."""
    daemon = daemon_pid()
    # First the daemon, which may have forked a moment ago.
    pids = [daemon] if daemon else working()
    while pids:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        await running.gone(pids)
        pids = working()
    return {"was_running": bool(daemon)}


@operation()
async def restart() -> Dict[str, Any]:
    """Stop and start Sendmail, unless it is stopped."""
    if (await stop())["was_running"]:
        await start()
    return {}


@operation(unknown=[])
async def configure(settings: Dict[str, str]) -> Dict[str, Any]:
    """Define m4 macros (cf/README), generate sendmail.cf and restart."""
    before = CHANGES.read_text() if CHANGES.exists() else ""
    lines = [f"define(`{name}', `{value}')dnl\n" for name, value in settings.items()]
    CHANGES.write_text(before + "".join(lines))
    made = await channel.run(["m4", "/etc/mail/sendmail.mc"])
    if made["status"]:
        raise RuntimeError(f"m4: {made['stderr']}")
    Path("/etc/mail/sendmail.cf").write_text(made["stdout"])
    await restart()
    return {"unknown": []}


@operation()
async def mark(text: str) -> Dict[str, Any]:
    """Write a line to the log after every line that was logged so far."""
    machine.check_log_room()
    if not await machine.handed_over(syslogsocket.SOCKET, f"<22>maillab[1]: {text}".encode()):
        raise RuntimeError(f"no process reads {syslogsocket.SOCKET}; is the host's PID 1 alive?")
    return {}


def queued() -> List[List[str]]:
    """Return queue, queue id and Message-ID of every message in the queues."""
    found = []
    for queue in QUEUES:
        for control in queue.glob("qf*"):
            with contextlib.suppress(FileNotFoundError):
                message_id = re.search(rb"(?i)message-id:\s*(<[^>]{0,998}>)", control.read_bytes())
                id_text = message_id.group(1).decode("latin-1") if message_id else ""
                found.append([queue.name, control.name[2:], id_text])
    return found


@operation(queued=[], running=False, due=False)
async def queue_files() -> Dict[str, Any]:
    """Return the queued messages, and whether a process handles mail."""
    return {"queued": queued(), "running": bool(daemon_pid()), "due": bool(working())}


@operation(mailboxes=[], queued=[], rewriting={})
async def collect() -> Dict[str, Any]:
    """Return all mailboxes and queued messages."""
    return {"mailboxes": mailstores.mailboxes(), "queued": queued(), "rewriting": rewriting()}


def rewriting() -> Dict[str, Any]:
    """Return the header changes that Sendmail makes, see ``configuration``."""
    host = socket.getfqdn()
    # Each header has its place (H lines in sendmail.cf).
    return {"origins": [host, host.partition(".")[2]], "reordered": True}


@operation(was_running=False)
async def halt(*, whole: bool) -> Dict[str, Any]:  # noqa: ARG001  # it is stopped in any case
    """Stop Sendmail."""
    return await stop()


@operation(mailboxes=[], queued=[], rewriting={})
async def conclude(token: str) -> Dict[str, Any]:
    """After every host was halted: mark the end of the log, and collect mailboxes and queues."""
    await mark(f"mark {token}")
    return await collect()


@operation(failed=[], running=True)
async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:  # noqa: ARG001  # always whole
    """Restore this host's baseline, start Sendmail, and mark the log."""
    await running.kill_all()
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    await start()
    return {"failed": failed, "running": True}


@operation(offset_s=0.0, waits=False)
async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all processes here; the host ``waits`` for ``wake``."""
    offset_s = float(CLOCK.read_text()) if CLOCK.exists() else 0.0
    CLOCK.write_text(f"{offset_s + seconds:+015.1f}\n")
    machine.PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    return {"offset_s": offset_s + seconds, "waits": True}


@operation(status=0, stdout="", stderr="")
async def wake() -> Dict[str, Any]:
    """Run the queue after ``warp``."""
    await restart()
    # In the foreground: on return, every message was tried.
    return await channel.run(["sendmail", "-qf"])


def prepare() -> None:
    """Record the host's state before the first request, for ``reset``."""
    snapshot.baseline()
