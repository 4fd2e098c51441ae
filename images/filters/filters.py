"""Operations of a container with filters: configure them, restore their baseline."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Dict, Sequence

import baseline
import channel
import filterparts
import filtersinit
import parts
import running
import snapshot
import supervised
import supervisor
from operations import operation, setting

# A reset empties the databases.
snapshot.UNWATCHED.update(part.database for part in filterparts.PARTS.values() if part.database)
# Operations that do not change a filter.
_QUIET = {
    "part_pids",
    "filter_ports",
    "flush_log",
    "forget_names",
    "ready",
    "restore",
    "digest",
    "read",
}


@operation(failed=[])
async def ready() -> Dict[str, Any]:
    """Return why filters of the topology do not run; nothing if all listen."""
    return {"failed": (await supervisor.ask("look"))["failed"]}


@operation()
async def flush_log() -> Dict[str, Any]:
    """Return once every line logged so far has been passed on to the mail log."""
    await supervisor.ask("look")
    return {}


@operation()
async def forget_names() -> Dict[str, Any]:
    """Restart what keeps answers of name servers, so that it asks for each again."""
    for name in (await supervisor.ask("look"))["running"]:
        if filterparts.PARTS[name].caches_names:
            await supervisor.ask("stop", names=[name], for_good=True)
            await supervisor.ask("start", names=[name])
    return {}


@operation(ports=[])
async def filter_ports(name: str) -> Dict[str, Any]:
    """Return the ports on which a filter listens; none if that is a socket in the file system."""
    part = filterparts.PARTS[name]
    ports, _ = parts.sockets(part, Path(part.configuration).read_text())
    return {"ports": ports}


@setting(file="")
async def filter_configure(name: str, settings: Dict[str, str]) -> Dict[str, Any]:
    """Set values in a filter's configuration, for its next start."""
    file = Path(filterparts.PARTS[name].configuration)
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
    await supervisor.ask("clock", follows=True)
    names = (await supervisor.ask("look"))["running"]
    if names:
        await supervisor.ask("stop", names=names)
        await supervisor.ask("start", names=names)
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
    now = await supervisor.ask("look")
    changed = bool(channel.asked - _QUIET) or sorted(now["running"]) != supervised.WANTED
    stopped = [
        name
        for name in now["running"]
        if changed or (now["lines"] and filterparts.PARTS[name].remembers)
    ]
    if stopped:
        await supervisor.ask("stop", names=stopped, for_good=True)
    for name in stopped:
        empty(filterparts.PARTS[name].database)
    failed = snapshot.put_back(elsewhere)
    if changed:
        await supervisor.ask("clock", follows=False)
    wanted = [name for name in supervised.WANTED if name in stopped or changed]
    if wanted:
        await supervisor.ask("start", names=wanted)
    begin()
    await supervisor.ask("begin")
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
    supervised.WANTED[:] = sorted(filtersinit.KIND.wanted())
    if later:
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
