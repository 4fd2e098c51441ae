"""Shared parts of the faults of filters beside a mail host; not a fault itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from maillab.engine.channel import Channel
from maillab.errors import BadInput, UnknownName
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@dataclass(frozen=True)
class FilterFault:
    """A fault of all processes of one filter."""

    filter: str

    # The request to the supervisor, and the state that the kernel then reports.
    HOW: ClassVar[str]
    SEEN: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.filter:
            raise BadInput(f"{self!r}: filter must be a name such as opendkim")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the filter from answering for the block."""
        channel = host.filters
        if channel is None:
            raise BadInput(f"{self!r} on {host.name}: it has no filters; see docs/topologies.md")
        found = channel.call("filter_pids", name=self.filter)
        if self.filter not in found["known"]:
            raise UnknownName.among("filter", self.filter, found["known"])
        if not found["pids"]:
            raise BadInput(
                f"{self!r} on {host.name}: {self.filter} does not run there; start it first"
            )
        witness = Witness(repr(self), host.name, self.SEEN)
        held = channel.call("filter_hold", name=self.filter, how=self.HOW)["hold"]
        try:
            yield witness
        finally:
            states = _states(channel)
            witness.count = sum(self.acted(states.get(pid, "")) for pid in found["pids"])
            channel.call("filter_release", hold=held)

    def acted(self, state: str) -> bool:
        """Return True if a process in this state (proc(5)), "" for none, cannot answer."""
        raise NotImplementedError


def _states(channel: Channel) -> dict[int, str]:
    """Return the state of each process in the container, as the kernel shows it (proc(5))."""
    # A process may end while it is read.
    shown = channel.call("run", argv=["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"])["stdout"]
    return {int(pid): state for pid, state in re.findall(r"(?m)^(\d+) \(.*\) (\S)", shown)}
