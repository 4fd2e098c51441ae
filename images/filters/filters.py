"""Operations of a container with filters: start and stop them, restore their baseline."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any, Dict, List, Sequence

import baseline
import channel
import parts
import running
import snapshot
import supervisor
from operations import Handles, left_to_reset, operation, setting

# A reset empties the databases.
snapshot.UNWATCHED.update(part.database for part in parts.PARTS.values() if part.database)
# The filters that the topology starts, in alphabetical order.
_topologys: List[str] = []
# Operations that do not change a filter.
_QUIET = {"filter_pids", "flush_log", "forget_names", "ready", "restore", "digest", "read"}


async def ask(op: str, **arguments: Any) -> Dict[str, Any]:
    """Ask the supervisor; raise RuntimeError with its words if it cannot."""
    reader, writer = await asyncio.open_unix_connection(str(supervisor.CONTROL))
    writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
    answer: Dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


@operation(failed=[])
async def ready() -> Dict[str, Any]:
    """Return why filters of the topology do not run; nothing if all listen."""
    return {"failed": (await ask("look"))["failed"]}


@operation()
async def flush_log() -> Dict[str, Any]:
    """Return once every line logged so far has been passed on to the mail log."""
    await ask("look")
    return {}


@operation()
async def filter_start(name: str) -> Dict[str, Any]:
    """Start a filter; it listens on return."""
    await ask("start", names=[name])
    return {}


@operation()
async def filter_stop(name: str) -> Dict[str, Any]:
    """Stop a filter; its processes are gone on return."""
    await ask("stop", names=[name])
    return {}


@operation()
async def filter_restart(name: str) -> Dict[str, Any]:
    """Start a filter again with its present configuration, if it runs."""
    if name in (await ask("look"))["running"]:
        await ask("stop", names=[name])
        await ask("start", names=[name])
    return {}


@operation()
async def forget_names() -> Dict[str, Any]:
    """Restart what keeps answers of name servers, so that it asks for each again."""
    for name in (await ask("look"))["running"]:
        if parts.PARTS[name].caches_names:
            await ask("stop", names=[name], for_good=True)
            await ask("start", names=[name])
    return {}


@operation(pids=[], known=[])
async def filter_pids(name: str) -> Dict[str, Any]:
    """Return the processes of a filter, none if it does not run; and the names of all filters."""
    group = (await ask("look"))["pids"].get(name)
    return {"pids": supervisor.members(group) if group else [], "known": list(parts.PARTS)}


@operation(hold=0)
async def filter_hold(name: str, how: str) -> Dict[str, Any]:
    """Keep a filter from answering, "killed" or "frozen", until ``filter_release``."""
    if how == "killed":
        await ask("stop", names=[name])
    else:
        os.killpg((await ask("look"))["pids"][name], signal.SIGSTOP)
    return {"hold": _held.add(name)}


@operation()
async def filter_release(hold: int) -> Dict[str, Any]:
    """Let a filter answer again."""
    await _held.undo(hold)
    return {}


async def release(name: str) -> None:
    """Continue a filter's processes, or start it."""
    group = (await ask("look"))["pids"].get(name)
    if group and supervisor.members(group):
        os.killpg(group, signal.SIGCONT)
    else:
        await ask("start", names=[name])


_held = Handles[str](__name__, release, at_reset=left_to_reset)


async def clear() -> None:
    """Let each filter of the topology answer again, whichever channel holds it."""
    for name in _topologys:
        await release(name)


@setting(file="")
async def filter_configure(name: str, settings: Dict[str, str]) -> Dict[str, Any]:
    """Set values in a filter's configuration, for its next start."""
    file = Path(parts.PARTS[name].configuration)
    file.write_text(configured(file.read_text(), settings))
    return {"file": str(file)}


def configured(text: str, settings: Dict[str, str]) -> str:
    """Return a configuration with these values.

    It has "Name value", "name = value", "name=value" or "name: value" lines.
    """
    separator = " "
    for line in text.splitlines():
        if line[:1].isalpha():
            word = line.split()[0]
            separator = " = " if " = " in line else "=" if "=" in word else " "
            separator = ": " if word.endswith(":") else separator
            break
    lines = [line for line in text.splitlines() if _name(line) not in settings]
    lines += [f"{name}{separator}{value}" for name, value in settings.items()]
    return "".join(f"{line}\n" for line in lines)


def _name(line: str) -> str:
    return re.split(r"[\s=]|:(?:\s|$)", line)[0] if line[:1].isalpha() else ""


@operation()
async def follow_clock() -> Dict[str, Any]:
    """Let filters see the mail host's clock, which has moved; they keep their databases."""
    await ask("clock", follows=True)
    names = (await ask("look"))["running"]
    if names:
        await ask("stop", names=names)
        await ask("start", names=names)
    return {}


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, and the processes."""
    return await baseline.digest()


@operation(failed=[])
async def restore(also: Sequence[str] = (), elsewhere: Sequence[str] = ()) -> Dict[str, Any]:
    """Restore files and filters; one that nothing has used or changed goes on running.

    ``elsewhere`` are paths that another container restores. Return what could not be restored.
    """
    await channel.undo(also)
    await running.kill_all(baseline.strays)
    now = await ask("look")
    changed = bool(channel.asked - _QUIET) or sorted(now["running"]) != _topologys
    stopped = [
        name for name in now["running"] if changed or (now["lines"] and parts.PARTS[name].remembers)
    ]
    if stopped:
        await ask("stop", names=stopped, for_good=True)
    for name in stopped:
        empty(parts.PARTS[name].database)
    failed = snapshot.put_back(elsewhere)
    if changed:
        await ask("clock", follows=False)
    wanted = [name for name in _topologys if name in stopped or changed]
    if wanted:
        await ask("start", names=wanted)
    begin()
    await ask("begin")
    return {"failed": failed}


def empty(folder: str) -> None:
    """Remove what is in a database's folder."""
    for path in Path(folder).iterdir() if folder else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def begin() -> None:
    """Count what happens to the filters from now on."""
    channel.asked.clear()


def prepare() -> None:
    """Record the container's state after its start, for ``restore``."""
    later = snapshot.BASELINE.exists()
    baseline.prepare()
    _topologys[:] = sorted(os.environ.get("FILTERS", "").split())
    if later:
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
