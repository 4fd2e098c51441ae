"""The first of two name servers is dead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from maillab.faults import counters
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.hosts.serverhost import ServerHost
from maillab.scenario.state import Witness


@fault(
    proof="test_names.py::test_symptom_a_dead_first_nameserver_is_asked_each_time[silent]",
    host="sender",
)
@dataclass(frozen=True)
class DeadNameserver:
    """The first of two name servers in resolv.conf(5) is dead; the second is the lab's.

    It is silent, so that each query waits for the resolver's first timeout of 2 s. Or it
    ``refuses``: its host is up, and that host's kernel reports by ICMP that no name server
    runs there. Postfix restarts at the beginning and at the end of the block, since daemons
    read resolv.conf(5) at their start. The witness counts, in the kernel, the queries to the
    dead server.
    """

    refuses: bool = False

    RESTARTS: ClassVar[bool] = True

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put the dead name server first in this host's resolv.conf(5)."""
        witness = Witness(repr(self), host.name, "packets sent to the dead nameserver")
        begun = host.agent.call("nameserver_start", refuses=self.refuses)
        try:
            _restart(host)
            yield witness
        finally:
            witness.count = counters.counted(host.agent, "ip", begun["table"]).total()
            host.agent.call("nameserver_stop", number=begun["number"])
            _restart(host)


def _restart(host: Host) -> None:
    if isinstance(host, ServerHost):
        host.restart()
