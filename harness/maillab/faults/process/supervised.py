"""Shared parts of the faults of supervised programs: filters and servers of tables; no fault."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from maillab.engine.channel import Channel
from maillab.errors import BadInput, UnknownName
from maillab.hosts.host import Host
from maillab.hosts.tables import TablesHost
from maillab.scenario.state import Witness

# The state of a process (proc(5)) that cannot answer, "" for none.
DOWN = ("", "Z", "X")
FROZEN = ("T",)


@contextlib.contextmanager
def held(
    host: Host, channel: Channel, fault: object, part: str, states: tuple[str, ...]
) -> Iterator[Witness]:
    """Keep all processes of a program from answering for a block: killed, or frozen.

    The witness counts the processes that the kernel shows in one of the states.
    """
    pids = running(host, channel, fault, part)
    frozen = states == FROZEN
    seen = "processes seen in state T" if frozen else "processes that the kernel no longer has"
    witness = Witness(repr(fault), host.name, seen)
    how = "frozen" if frozen else "killed"
    number = channel.call("part_hold", name=part, how=how)["hold"]
    try:
        yield witness
    finally:
        now = _states(channel)
        witness.count = sum(now.get(pid, "") in states for pid in pids)
        channel.call("part_release", hold=number)


def running(host: Host, channel: Channel, fault: object, part: str) -> list[int]:
    """Return the processes of a program; raise UnknownName, or BadInput if it does not run."""
    found = channel.call("part_pids", name=part)
    if part not in found["known"]:
        raise UnknownName.among("program", part, found["known"], of=host.name)
    if not found["pids"]:
        raise BadInput(f"{fault!r} on {host.name}: {part} does not run there; start it first")
    pids: list[int] = found["pids"]
    return pids


def filters_of(host: Host, fault: object) -> Channel:
    """Return the channel to a host's filters; raise BadInput if it has none."""
    if host.filters is None:
        raise BadInput(f"{fault!r} on {host.name}: it has no filters; see docs/topologies.md")
    return host.filters


def tables_of(host: Host, fault: object) -> TablesHost:
    """Return the host if it has servers of tables; raise BadInput if it has none."""
    if not isinstance(host, TablesHost):
        raise BadInput(f"{fault!r} on {host.name}: it has no tables; see docs/topologies.md")
    return host


def _states(channel: Channel) -> dict[int, str]:
    """Return the state of each process in the container, as the kernel shows it (proc(5))."""
    # A process may end while it is read.
    shown = channel.call("run", argv=["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"])["stdout"]
    return {int(pid): state for pid, state in re.findall(r"(?m)^(\d+) \(.*\) (\S)", shown)}
