"""What can happen to Postfix's processes: killed, stopped, short of open files.

Loaded into the channel of Postfix's own container, whose processes it sees; so it
runs on every Python from 3.9 on (Debian bullseye).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import machine

# All of Postfix at once: master and every daemon it started.
WHOLE = "postfix"
LOOK_AGAIN_S = 0.01
PIDS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")


class Hunt:
    """Looks out for processes of a name and sends those that it finds a signal."""

    def __init__(self, name: str, number: int, times: int, within_s: float, seed: int) -> None:
        self.name = name
        self.number = number
        # How often at most; 0 for as often as there is one.
        self.times = times
        self.within_s = within_s
        self.dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.waited_s: List[float] = []
        self.seen: Set[int] = set()
        # Those that the kernel says are dead, or stopped.
        self.confirmed: List[int] = []
        self.hits = 0
        self.killed_master = 0
        self.task: Optional[asyncio.Task[None]] = None

    @property
    def done(self) -> bool:
        """Whether all was hit that was to be."""
        return 0 < self.times <= self.hits

    def find(self) -> List[List[int]]:
        """The processes not yet dealt with, in the groups that are hit at once."""
        master = machine.master_pid()
        if self.name in ("master", WHOLE):
            # A child that master has just forked is still called as it is.
            stopping = self.number == signal.SIGSTOP
            whole = but_postlogd if stopping else machine.master_and_daemons
            group = [master] if self.name == "master" else whole(master)
            fresh = sorted(set(group) - self.seen) if master else []
            return [fresh] if fresh else []
        return [
            [pid]
            for pid, name in machine.names().items()
            if name == self.name and pid not in self.seen
        ]

    async def look(self) -> None:
        """Deal with all there are now."""
        for group in self.find():
            if not self.done:
                self.seen.update(group)
                await self.hit(group)

    async def hit(self, group: List[int]) -> None:
        """Send the signal when the dice say so, and have the kernel confirm what it did."""
        master = machine.master_pid()
        handles = {pid: handle for pid in group if (handle := handle_of(pid)) is not None}
        try:
            if self.within_s:
                self.waited_s.append(self.dice.uniform(0, self.within_s))
                await asyncio.sleep(self.waited_s[-1])
            if self.number == signal.SIGKILL and len(handles) > 1:
                # Nobody is to see the others die.
                send(handles, signal.SIGSTOP)
            there = send(handles, self.number)
            for pid in there:
                if self.number == signal.SIGKILL:
                    await machine.ended(handles[pid])
                    self.confirmed.append(pid)
                elif await stopped(pid):
                    HELD.setdefault(pid, set()).add(id(self))
                    self.confirmed.append(pid)
            self.hits += bool(there)
        finally:
            for handle in handles.values():
                os.close(handle)
        if self.number == signal.SIGKILL and master in there:
            self.killed_master = master

    async def run(self) -> None:
        """Look until all is done that was to be done."""
        while not self.done:
            await asyncio.sleep(LOOK_AGAIN_S)
            await self.look()

    def end(self) -> None:
        """Hunt no more, and let go what was stopped unless another hunt holds it."""
        if self.task is not None:
            self.task.cancel()
        for pid in self.seen & set(HELD):
            HELD[pid].discard(id(self))
            if not HELD[pid]:
                del HELD[pid]
                signal_all([pid], signal.SIGCONT)


HUNTS: Dict[int, Hunt] = {}
# Who holds a stopped process: it goes on when the last of them lets go.
HELD: Dict[int, Set[int]] = {}
# Limits on open files, by the number of who asked for each.
FILES: Dict[int, int] = {}
_numbers = itertools.count(1)


def but_postlogd(master: int) -> List[int]:
    """All of Postfix but postlogd(8), so that no log line of the others is lost."""
    names = machine.names()
    return [pid for pid in machine.master_and_daemons(master) if names.get(pid) != "postlogd"]


def handle_of(pid: int) -> Optional[int]:
    """A handle of the process, which another one of the same number never is."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def send(handles: Dict[int, int], number: int) -> List[int]:
    """Send a signal to whoever is still there; returns who was."""
    there = []
    for pid, handle in handles.items():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
            there.append(pid)
    return there


def signal_all(pids: List[int], number: int) -> None:
    """Send a signal to processes that were there a moment ago."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def state_of(pid: int) -> str:
    """The kernel's letter for what it does (proc(5)): R, S, T …; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def stopped(pid: int) -> bool:
    """Wait until the kernel has stopped it; False when it died instead."""
    while (state := state_of(pid)) not in ("T", "", "Z"):  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0)
    return state == "T"


async def hunt_start(
    daemon: str, *, stop: bool = False, times: int = 1, within_s: float = 0.0, seed: int = 0
) -> Dict[str, Any]:
    """Kill, or stop, processes of a name; those that there are now before this returns."""
    hunt = Hunt(daemon, signal.SIGSTOP if stop else signal.SIGKILL, times, within_s, seed)
    number = next(_numbers)
    HUNTS[number] = hunt
    if not within_s:
        await hunt.look()
    hunt.task = asyncio.ensure_future(hunt.run())
    return {"hunt": number}


async def hunt_stop(hunt: int) -> Dict[str, Any]:
    """End a hunt; a Postfix whose master it killed is started again."""
    ended = HUNTS.pop(hunt, None)
    if ended is None:
        return {"confirmed": [], "waited_s": []}
    ended.end()
    master = ended.killed_master
    if master and not machine.master_pid():
        # Daemons that outlive their master keep its sockets.
        orphans = machine.master_and_daemons(master)
        signal_all(orphans, signal.SIGKILL)
        await machine.gone(orphans)
        await machine.start()
    return {"confirmed": ended.confirmed, "waited_s": ended.waited_s}


async def freeze_for_crash(within_s: float = 0.0, seed: int = 0) -> Dict[str, Any]:
    """Stop all of Postfix at a random instant, so that its log can be read to the end."""
    waited_s = random.Random(seed).uniform(0, within_s)  # noqa: S311  # as above
    await asyncio.sleep(waited_s)
    pids = but_postlogd(machine.master_pid())
    signal_all(pids, signal.SIGSTOP)
    return {"stopped": [pid for pid in pids if await stopped(pid)], "waited_s": waited_s}


async def open_files(files: int) -> Dict[str, Any]:
    """Restart Postfix with a limit on each process's open files."""
    number = next(_numbers)
    FILES[number] = files
    try:
        await relaunch()
    except RuntimeError:
        await open_files_any(number)
        raise
    return {"limit": number}


async def open_files_any(limit: int) -> Dict[str, Any]:
    """Restart Postfix without that limit."""
    FILES.pop(limit, None)
    await relaunch()
    return {}


async def relaunch() -> None:
    """Restart Postfix under the smallest of the limits there are."""
    files = min(FILES.values(), default=0)
    machine.LAUNCHER[:] = ["prlimit", f"--nofile={files}:{files}"] if files else []
    await machine.restart()


async def process_count() -> Dict[str, Any]:
    """Processes of this container, and forks that the kernel refused it by now (pids cgroup)."""
    folder = next(Path(path) for path in PIDS if Path(path, "pids.current").exists())
    refused = re.search(r"max (\d+)", Path(folder, "pids.events").read_text())
    return {
        "current": int(Path(folder, "pids.current").read_text()),
        "refused": int(refused.group(1)) if refused else 0,
    }


async def heal() -> None:
    """Hunt nothing, hold nobody, limit nothing; a reset starts Postfix itself."""
    for hunt in HUNTS.values():
        hunt.end()
    HUNTS.clear()
    FILES.clear()
    machine.LAUNCHER.clear()


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        freeze_for_crash, hunt_start, hunt_stop, open_files, open_files_any, process_count,
    )
}  # fmt: skip
