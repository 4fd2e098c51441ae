"""Operations on the programs of a container with a supervisor: start, stop and hold them."""

from __future__ import annotations

import os
import signal
from typing import Any, Dict, List

import supervisor
from operations import Handles, left_to_reset, operation

# The programs that the topology starts, in alphabetical order.
WANTED: List[str] = []


@operation()
async def part_start(name: str) -> Dict[str, Any]:
    """Start a program; it listens on return."""
    await supervisor.ask("start", names=[name])
    return {}


@operation()
async def part_stop(name: str) -> Dict[str, Any]:
    """Stop a program; its processes are gone on return."""
    await supervisor.ask("stop", names=[name])
    return {}


@operation()
async def part_restart(name: str) -> Dict[str, Any]:
    """Start a program again with its present configuration, if it runs."""
    if name in (await supervisor.ask("look"))["running"]:
        await supervisor.ask("stop", names=[name])
        await supervisor.ask("start", names=[name])
    return {}


@operation(pids=[], known=[])
async def part_pids(name: str) -> Dict[str, Any]:
    """Return the processes of a program, none if it does not run; and all programs' names."""
    now = await supervisor.ask("look")
    group = now["pids"].get(name)
    return {"pids": supervisor.members(group) if group else [], "known": now["known"]}


@operation(hold=0)
async def part_hold(name: str, how: str) -> Dict[str, Any]:
    """Keep a program from answering, "killed" or "frozen", until ``part_release``."""
    if how == "killed":
        await supervisor.ask("stop", names=[name])
    else:
        group = (await supervisor.ask("look"))["pids"][name]
        for pid in supervisor.members(group):
            os.kill(pid, signal.SIGSTOP)
    return {"hold": _held.add(name)}


@operation()
async def part_release(hold: int) -> Dict[str, Any]:
    """Let a program answer again."""
    await _held.undo(hold)
    return {}


async def release(name: str) -> None:
    """Continue a program's processes, or start it."""
    group = (await supervisor.ask("look"))["pids"].get(name)
    members = supervisor.members(group) if group else []
    for pid in members:
        os.kill(pid, signal.SIGCONT)
    if not members:
        await supervisor.ask("start", names=[name])


_held = Handles[str](__name__, release, at_reset=left_to_reset)


async def clear() -> None:
    """Let each program of the topology answer again, whichever channel holds it."""
    for name in WANTED:
        await release(name)
