"""Operations of a front: HAProxy's start, end, configuration and log.

They have the names and the answers of those of a mail host (machine.py). No mail is stored here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
from pathlib import Path
from typing import Any, Dict, List

import channel
import frontinit
import running
import snapshot
import syslogsocket
from operations import Handles, operation, setting

CONFIGURATION = Path(frontinit.CONFIGURATION)
LOGGED_WITHIN_S = 10.0
# Operations that do not change a front.
QUIET_OPERATIONS = {
    "collect", "conclude", "first_start", "halt", "undo", "mark", "queue_files", "read", "reset",
}  # fmt: skip


def haproxies() -> List[int]:
    """Return HAProxy's processes: one that is stopping stays until its sessions end."""
    return [pid for pid, name in running.names().items() if name == "haproxy"]


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, and the processes."""
    return {"paths": snapshot.sums(), "processes": sorted(running.names().values())}


@operation()
async def start() -> Dict[str, Any]:
    """Start HAProxy; return once it listens."""
    if not haproxies():
        done = await channel.run(frontinit.START)
        if done["status"]:
            words = frontinit.failure(done["stderr"], done["status"])
            raise RuntimeError(f"HAProxy does not start: {words}")
    return {}


@operation(was_running=False)
async def stop() -> Dict[str, Any]:
    """End HAProxy and its sessions at once."""
    pids = haproxies()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await running.gone(pids)
    return {"was_running": bool(pids)}


@operation()
async def restart() -> Dict[str, Any]:
    """Stop and start HAProxy, unless it is stopped."""
    if (await stop())["was_running"]:
        await start()
    return {}


@setting(error="")
async def replace_configuration(text: str) -> Dict[str, Any]:
    """Replace HAProxy's configuration; keep the old one if HAProxy refuses the new one."""
    before = CONFIGURATION.read_text()
    CONFIGURATION.write_text(text)
    check = await channel.run(frontinit.CHECK)
    if check["status"]:
        CONFIGURATION.write_text(before)
        return {"error": frontinit.failure(check["stderr"], check["status"])}
    return {"error": ""}


@setting()
async def set_server_options(options: str) -> Dict[str, Any]:
    """Replace the options of each ``server`` line, which follow its name and address."""
    text = CONFIGURATION.read_text()
    CONFIGURATION.write_text(with_server_options(text, options))
    return {}


def with_server_options(text: str, options: str) -> str:
    """Return a configuration whose ``server NAME ADDRESS`` lines have these options, no others."""
    return re.sub(
        r"(?m)^(\s*server\s+\S+\s+\S+).*$", lambda line: f"{line[1]} {options}".rstrip(), text
    )


@operation()
async def mark(text: str) -> Dict[str, Any]:
    """Write a line to the log after every line that was logged so far."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            log.connect(str(syslogsocket.SOCKET))
            line = f"<22>maillab[1]: {text}".encode()
            await asyncio.wait_for(loop.sock_sendall(log, line), LOGGED_WITHIN_S)
        except (OSError, asyncio.TimeoutError):  # noqa: UP041  # another class before Python 3.11
            raise RuntimeError(
                f"no process reads {syslogsocket.SOCKET}; is the host's PID 1 alive?"
            ) from None
    return {}


@operation(queued=[], running=False, due=False)
async def queue_files() -> Dict[str, Any]:
    """Return that no mail waits here."""
    return {"queued": [], "running": bool(haproxies()), "due": False}


@operation(mailboxes=[], queued=[], rewriting={})
async def collect() -> Dict[str, Any]:
    """Return that no mail is stored here."""
    return {"mailboxes": [], "queued": [], "rewriting": {}}


def untouched() -> bool:
    """Return True if HAProxy runs and no operation has changed this host; sessions do not."""
    return bool(haproxies()) and not channel.asked - QUIET_OPERATIONS


@operation(was_running=False)
async def halt(*, whole: bool) -> Dict[str, Any]:
    """End HAProxy; leave it running if it is untouched and ``whole`` is false."""
    if not whole and untouched():
        return {"was_running": True}
    return await stop()


@operation(mailboxes=[], queued=[], rewriting={})
async def conclude(token: str) -> Dict[str, Any]:
    """Mark the end of the log; there is no mail to collect."""
    await mark(f"mark {token}")
    return await collect()


@operation(failed=[], running=True)
async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:
    """Restore this host's baseline, and mark the log.

    HAProxy runs only if it was left running; ``first_start`` starts it.
    """
    if not whole and untouched():
        await mark(f"mark {token}")
        return {"failed": [], "running": True}
    await running.kill_all()
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    channel.asked.clear()
    return {"failed": failed, "running": False}


@operation()
async def first_start() -> Dict[str, Any]:
    """Start HAProxy after a reset, which does not count as a change of the host."""
    return await start()


@operation(offset_s=0.0, waits=False)
async def warp(seconds: float) -> Dict[str, Any]:
    """Return that nothing waits here; HAProxy keeps the real time."""
    return {"offset_s": seconds, "waits": False}


async def thaw(pids: List[int]) -> None:
    """Let processes go on that were stopped for a crash."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


FROZEN: Handles[List[int]] = Handles(__name__, thaw)


@operation(stopped=[], waited_s=0.0)
async def freeze_for_crash(within_s: float = 0.0, seed: int = 0) -> Dict[str, Any]:
    """Stop HAProxy's processes at a random time."""
    waited_s = random.Random(seed).uniform(0, within_s)  # noqa: S311  # not for secrets
    await asyncio.sleep(waited_s)
    pids = haproxies()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    FROZEN.add(pids)
    return {"stopped": pids, "waited_s": waited_s}


def prepare() -> None:
    """Record the host's state before the first request, for ``reset``."""
    if snapshot.BASELINE.exists():
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
    snapshot.baseline()
