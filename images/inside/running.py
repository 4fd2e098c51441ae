"""The processes of this container: listing them, waiting for their end, killing them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Callable, Dict, List

STOP_WITHIN_S = 5.0


def others() -> List[int]:
    """Return the processes of this container except its first and this one."""
    ours = (1, os.getpid())
    return [
        int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) not in ours
    ]


def names() -> Dict[int, str]:
    """Return the names of the running processes, by process id."""
    found = {}
    for pid in others():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


async def ended(handle: int) -> None:
    """Wait until the process behind a pidfd_open(2) handle has ended."""
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
    """Wait until none of the processes is left; kill those that exceed the time limit."""
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


async def left(pids: List[int], within_s: float) -> None:
    """Wait until the processes have ended; those at work may exceed the time limit."""
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


async def kill_all(strays: Callable[[], List[int]] = others) -> None:
    """Kill every process except the container's first and this one, or only ``strays``.

    Later children are killed, too. Zombies that their parent has not reaped stay.
    """
    while pids := [pid for pid in strays() if state(pid) != "Z"]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await gone(pids)


def state(pid: int) -> str:
    """Return the kernel's letter for a process's state (proc(5) stat): R, S, T …; "" if gone."""
    return next(iter(fields(pid)), "")


def fields(pid: int) -> List[str]:
    """Return the fields after a process's name (proc(5) stat)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
