"""Operations of a host with lookup tables, with the names and answers of ``machine``.

PID 1 is the supervisor; this module asks it to start and stop the servers, and restores rows
and settings between scenarios.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import Any, Dict, List, Tuple

import baseline
import channel
import running
import snapshot
import supervised
import supervisor
import tableparts
import tablesinit
from operations import Handles, left_to_reset, operation

snapshot.UNWATCHED.update((tableparts.DATA, "/run/mysqld", "/run/postgresql", "/run/slapd"))
# Operations that change neither rows nor settings.
_QUIET = {
    "collect", "conclude", "digest", "first_start", "halt", "undo", "mark", "queue_files",
    "part_pids", "read", "reset",
}  # fmt: skip
# Each prints all rows of the site.
_ROWS = {
    "postgresql": "SELECT * FROM {table} ORDER BY 1",
    "mariadb": "SELECT * FROM {table} ORDER BY 1",
}
_TABLES = ("domains", "users", "aliases")
_ADMINISTRATOR = ("-x", "-D", "cn=admin,dc=example,dc=com", "-w", "admin", "-H", "ldap://127.0.0.1")


def clients() -> Dict[str, Tuple[str, List[str]]]:
    """Return how the administrator asks each server: the user, and the command."""
    psql = ["psql", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "mail"]
    return {
        "postgresql": ("postgres", psql),
        "mariadb": ("", ["mariadb", "--batch", "--skip-column-names", "mail"]),
        "openldap": ("", ["ldapmodify", *_ADMINISTRATOR]),
    }


@operation(status=0, stdout="", stderr="")
async def change_rows(server: str, text: str) -> Dict[str, Any]:
    """Give a server SQL, or OpenLDAP changes in LDIF, as its administrator."""
    user, command = clients()[server]
    return await channel.run(command, user=user, stdin=text)


@operation(hold=0)
async def hold_rows(server: str, text: str, undo: str) -> Dict[str, Any]:
    """Make a change as ``change_rows`` does; ``release_rows`` undoes it."""
    await _changed(server, text)
    return {"hold": _held.add((server, undo))}


@operation()
async def release_rows(hold: int) -> Dict[str, Any]:
    """Undo a change."""
    await _held.undo(hold)
    return {}


async def _changed(server: str, text: str) -> None:
    done = await change_rows(server, text)
    if done["status"]:
        raise RuntimeError(f"{server}: {done['stderr'].strip()}")


async def _undo(change: Tuple[str, str]) -> None:
    await _changed(*change)


_held: Handles[Tuple[str, str]] = Handles(__name__, _undo, at_reset=left_to_reset)


@operation(failed=[])
async def ready() -> Dict[str, Any]:
    """Return why servers of the topology do not run; nothing if all listen."""
    return {"failed": (await supervisor.ask("look"))["failed"]}


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, the rows of servers that run, and the processes."""
    found = await baseline.digest()
    for name in (await supervisor.ask("look"))["running"]:
        found["paths"][f"rows of {name}"] = await rows(name)
    return found


async def rows(name: str) -> str:
    """Return all rows of a server, as its client prints them."""
    if name == "openldap":
        argv = ["ldapsearch", "-LLL", "-o", "ldif-wrap=no", *_ADMINISTRATOR]
        printed = await channel.run([*argv, "-b", "dc=example,dc=com"])
    else:
        text = "".join(_ROWS[name].format(table=table) + ";\n" for table in _TABLES)
        printed = await change_rows(name, text)
    return str(printed["stdout"])


# The servers' processes.


@operation()
async def start() -> Dict[str, Any]:
    """Start the servers of the topology; they listen on return."""
    await supervisor.ask("start", names=supervised.WANTED)
    return {}


@operation(was_running=False)
async def stop() -> Dict[str, Any]:
    """Stop all servers; none of their processes is left on return."""
    names = (await supervisor.ask("look"))["running"]
    if names:
        await supervisor.ask("stop", names=names)
    return {"was_running": bool(names)}


@operation()
async def restart() -> Dict[str, Any]:
    """Stop the servers that run and start them."""
    names = (await supervisor.ask("look"))["running"]
    if names:
        await supervisor.ask("stop", names=names)
        await supervisor.ask("start", names=names)
    return {}


@operation()
async def mark(text: str) -> Dict[str, Any]:
    """Write a line to the log after every line that was logged so far."""
    await supervisor.ask("mark", text=text)
    return {}


# What a lab asks every server.


@operation(queued=[], running=False, due=False)
async def queue_files() -> Dict[str, Any]:
    """Return that no mail waits here."""
    return {"queued": [], "running": True, "due": False}


@operation(mailboxes=[], queued=[], rewriting={})
async def collect() -> Dict[str, Any]:
    """Return that no mail is here."""
    return {"mailboxes": [], "queued": [], "rewriting": {}}


async def untouched() -> bool:
    """Return True if the topology's servers run, and only lookups have happened since."""
    if channel.asked - _QUIET:
        return False
    now = await supervisor.ask("look")
    return not now["lines"] and sorted(now["running"]) == supervised.WANTED


@operation(was_running=False)
async def halt(*, whole: bool) -> Dict[str, Any]:
    """Leave the servers as they are: lookups change nothing here, and a reset restores all."""
    del whole
    return {"was_running": True}


@operation(mailboxes=[], queued=[], rewriting={})
async def conclude(token: str) -> Dict[str, Any]:
    """After every host was halted: mark the end of the log."""
    await mark(f"mark {token}")
    return await collect()


@operation(failed=[], running=True)
async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:
    """Restore rows, settings and files, and mark the log.

    The servers run only if nothing but lookups has happened; ``first_start`` starts them.
    """
    if not whole and await untouched():
        await mark(f"mark {token}")
        return {"failed": [], "running": True}
    names = (await supervisor.ask("look"))["running"]
    if names:
        await supervisor.ask("stop", names=names)
    await running.kill_all()
    failed = snapshot.put_back()
    for name in tableparts.PARTS:
        tablesinit.copy(name)
    await mark(f"mark {token}")
    return {"failed": failed, "running": False}


@operation()
async def first_start() -> Dict[str, Any]:
    """Start the topology's servers after a reset, which does not count as a change of the host."""
    await start()
    await begin()
    return {}


async def begin() -> None:
    """Count what happens to this host from now on."""
    channel.asked.clear()
    await supervisor.ask("begin")


@operation(offset_s=0.0, waits=False)
async def warp(seconds: float) -> Dict[str, Any]:
    """Do nothing: no row depends on the time."""
    return {"offset_s": seconds, "waits": False}


async def thaw(pids: List[int]) -> None:
    """Let processes go on that were stopped for a crash."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


FROZEN: Handles[List[int]] = Handles(__name__, thaw)


@operation(stopped=[], waited_s=0.0)
async def freeze_for_crash(within_s: float = 0.0, seed: int = 0) -> Dict[str, Any]:
    """Stop all servers at a random time."""
    waited_s = random.Random(seed).uniform(0, within_s)  # noqa: S311  # not for secrets
    await asyncio.sleep(waited_s)
    groups = (await supervisor.ask("look"))["pids"].values()
    pids = [pid for group in groups for pid in supervisor.members(group)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    FROZEN.add(pids)
    return {"stopped": pids, "waited_s": waited_s}


def prepare() -> None:
    """Record the host's state before the first request, for ``reset``."""
    supervised.WANTED[:] = sorted(tablesinit.KIND.wanted())
    if snapshot.BASELINE.exists():
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
    baseline.prepare()
