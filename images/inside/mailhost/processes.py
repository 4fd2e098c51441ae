"""Faults of Postfix's processes: killed, stopped, short of open files.

Loaded into the channel of Postfix's own container, whose processes it sees; so it runs on
every Python from 3.9 on (Debian bullseye).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import machine
import running
from operations import Handles, left_to_reset, operation

# All of Postfix at once: master(8) and its daemons.
WHOLE = "postfix"
LOOK_AGAIN_S = 0.01
PIDS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")


class Signaller:
    """Finds processes of a name and sends each a signal."""

    def __init__(self, name: str, number: int, times: int, within_s: float, seed: int) -> None:
        self.name = name
        self.number = number
        # The maximum number of signals; 0 for no limit.
        self.times = times
        self.within_s = within_s
        self.dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.waited_s: List[float] = []
        self.seen: Set[int] = set()
        # The processes that the kernel reported dead or stopped.
        self.confirmed: List[int] = []
        self.hits = 0
        self.killed_master = 0
        self.task: Optional[asyncio.Task[None]] = None

    @property
    def done(self) -> bool:
        """Return True if the requested number of processes got the signal."""
        return 0 < self.times <= self.hits

    def find(self) -> List[List[int]]:
        """Return the new processes, in groups that get the signal at once."""
        master = machine.master_pid()
        if self.name in ("master", WHOLE):
            # A child that master(8) has just forked still has its name.
            stopping = self.number == signal.SIGSTOP
            whole = but_postlogd if stopping else machine.master_and_daemons
            group = [master] if self.name == "master" else whole(master)
            fresh = sorted(set(group) - self.seen) if master else []
            return [fresh] if fresh else []
        return [
            [pid]
            for pid, name in running.names().items()
            if name == self.name and pid not in self.seen
        ]

    async def look(self) -> None:
        """Send the signal to all processes that run now."""
        for group in self.find():
            if not self.done:
                self.seen.update(group)
                await self.hit(group)

    async def hit(self, group: List[int]) -> None:
        """Send the signal after a random wait, and record what the kernel reports."""
        master = machine.master_pid()
        handles = {pid: handle for pid in group if (handle := handle_of(pid)) is not None}
        try:
            if self.within_s:
                self.waited_s.append(self.dice.uniform(0, self.within_s))
                await asyncio.sleep(self.waited_s[-1])
            if self.number == signal.SIGKILL and len(handles) > 1:
                # No process of the group may see the others die.
                send(handles, signal.SIGSTOP)
            signalled = send(handles, self.number)
            for pid in signalled:
                if self.number == signal.SIGKILL:
                    await running.ended(handles[pid])
                    self.confirmed.append(pid)
                elif await stopped(pid):
                    HELD.setdefault(pid, set()).add(id(self))
                    self.confirmed.append(pid)
            self.hits += bool(signalled)
        finally:
            for handle in handles.values():
                os.close(handle)
        if self.number == signal.SIGKILL and master in signalled:
            self.killed_master = master

    async def run(self) -> None:
        """Look for processes until the requested number got the signal."""
        while not self.done:
            await asyncio.sleep(LOOK_AGAIN_S)
            await self.look()

    def end(self) -> None:
        """Stop signalling; continue stopped processes unless another signaller holds them."""
        if self.task is not None:
            self.task.cancel()
        for pid in self.seen & set(HELD):
            HELD[pid].discard(id(self))
            if not HELD[pid]:
                del HELD[pid]
                signal_all([pid], signal.SIGCONT)


async def give_up(signaller: Signaller) -> None:
    """End a signaller; start Postfix again if it killed master(8)."""
    signaller.end()
    master = signaller.killed_master
    if master and not machine.master_pid():
        # Daemons that outlive their master(8) keep its sockets.
        orphans = machine.master_and_daemons(master)
        signal_all(orphans, signal.SIGKILL)
        await running.gone(orphans)
        await machine.start()


async def let_go(signaller: Signaller) -> None:
    """End a signaller; leave a killed Postfix to the reset."""
    signaller.end()


async def thaw(pids: List[int]) -> None:
    """Continue processes that were stopped for a crash that did not happen."""
    signal_all(pids, signal.SIGCONT)


async def relaunch(_lifted: int = 0) -> None:
    """Restart Postfix with the lowest of the limits in force."""
    files = min(LIMITS.values(), default=0)
    machine.LAUNCHER[:] = ["prlimit", f"--nofile={files}:{files}"] if files else []
    await machine.restart()


SIGNALLERS: Handles[Signaller] = Handles(__name__, give_up, at_reset=let_go)
FROZEN: Handles[List[int]] = Handles(__name__, thaw)
# Limits on open files.
LIMITS: Handles[int] = Handles(__name__, relaunch, at_reset=left_to_reset)
# The signallers that hold a stopped process. It continues when the last of them ends.
HELD: Dict[int, Set[int]] = {}


def but_postlogd(master: int) -> List[int]:
    """Return all of Postfix except postlogd(8), so that no log line is lost."""
    names = running.names()
    return [pid for pid in machine.master_and_daemons(master) if names.get(pid) != "postlogd"]


def handle_of(pid: int) -> Optional[int]:
    """Return a handle of the process that no later process with this number can have."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def send(handles: Dict[int, int], number: int) -> List[int]:
    """Send a signal to the processes that still run, and return these."""
    signalled = []
    for pid, handle in handles.items():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
            signalled.append(pid)
    return signalled


def signal_all(pids: List[int], number: int) -> None:
    """Send a signal to processes; ignore those that have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def stopped(pid: int) -> bool:
    """Wait until the kernel has stopped a process; return False if it died instead."""
    while (state := running.state(pid)) not in ("T", "", "Z"):  # noqa: ASYNC110  # no event
        await asyncio.sleep(0)
    return state == "T"


@operation(signaller=0)
async def signals_start(
    daemon: str, *, stop: bool = False, times: int = 1, within_s: float = 0.0, seed: int = 0
) -> Dict[str, Any]:
    """Kill, or stop, processes of a name; those that already run, before this returns."""
    signaller = Signaller(daemon, signal.SIGSTOP if stop else signal.SIGKILL, times, within_s, seed)
    number = SIGNALLERS.add(signaller)
    if not within_s:
        await signaller.look()
    signaller.task = asyncio.ensure_future(signaller.run())
    return {"signaller": number}


@operation(confirmed=[], waited_s=[])
async def signals_stop(signaller: int) -> Dict[str, Any]:
    """End a signaller; start Postfix again if it killed master(8)."""
    if signaller not in SIGNALLERS:
        return {"confirmed": [], "waited_s": []}
    ended = SIGNALLERS[signaller]
    await SIGNALLERS.undo(signaller)
    return {"confirmed": ended.confirmed, "waited_s": ended.waited_s}


@operation(stopped=[], waited_s=0.0)
async def freeze_for_crash(within_s: float = 0.0, seed: int = 0) -> Dict[str, Any]:
    """Stop all of Postfix at a random time, so that its log can be read to the end."""
    waited_s = random.Random(seed).uniform(0, within_s)  # noqa: S311  # as above
    await asyncio.sleep(waited_s)
    pids = but_postlogd(machine.master_pid())
    signal_all(pids, signal.SIGSTOP)
    FROZEN.add(pids)
    return {"stopped": [pid for pid in pids if await stopped(pid)], "waited_s": waited_s}


@operation(limit=0)
async def open_files(files: int) -> Dict[str, Any]:
    """Restart Postfix with a limit on each process's open files."""
    number = LIMITS.add(files)
    try:
        await relaunch()
    except RuntimeError:
        await LIMITS.undo(number)
        raise
    return {"limit": number}


@operation()
async def open_files_any(limit: int) -> Dict[str, Any]:
    """Restart Postfix without that limit."""
    if limit in LIMITS:
        await LIMITS.undo(limit)
    else:
        # A channel that died left it, or there is none.
        await relaunch()
    return {}


@operation(current=0)
async def process_count() -> Dict[str, Any]:
    """Return the number of processes in this container (pids cgroup)."""
    folder = next(Path(path) for path in PIDS if Path(path, "pids.current").exists())
    return {"current": int(Path(folder, "pids.current").read_text())}


async def clear() -> None:
    """Continue the processes and lift the limits that other channels left."""
    signal_all([pid for pid in running.others() if running.state(pid) == "T"], signal.SIGCONT)
    master = machine.master_pid()
    if master and limits(master) != limits(1):
        await machine.restart()


def limits(pid: int) -> str:
    """Return the line of /proc/PID/limits about open files (proc(5))."""
    return next(
        line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "files" in line
    )


async def undo() -> None:
    """Lift the limit; a reset starts Postfix itself."""
    machine.LAUNCHER.clear()
