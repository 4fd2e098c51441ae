"""A host with an address, and no way from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

Version = Literal["ipv4", "ipv6"]


@fault(
    proof="test_ipv6.py::test_symptom_an_address_without_a_route_is_unreachable",
    host="sender",
)
@dataclass(frozen=True)
class NoRoute:
    """A host has addresses of one version of IP, and no route: it reaches no other host by it.

    Programs see "Network is unreachable" at once, without a packet. Much software is on hosts
    whose network gave them an IPv6 address and no way out. With ``over="ipv4"`` the host also
    loses its name server. The witness counts, in the kernel, the packets without a route.
    """

    over: Version = "ipv6"

    def __post_init__(self) -> None:
        if self.over not in get_args(Version):
            raise BadInput(
                f"{self!r}: unknown version {self.over!r} "
                f"(choose from {', '.join(get_args(Version))})"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Take the host's routes for the block."""
        witness = Witness(repr(self), host.name, f"packets without a route ({self._counter})")
        before = self._missed(host)
        taken = host.agent.call("routes_take", version=self.over)["routes"]
        try:
            yield witness
        finally:
            witness.count = self._missed(host) - before
            host.agent.call("routes_give_back", routes=taken)

    @property
    def _counter(self) -> str:
        return "Ip6OutNoRoutes" if self.over == "ipv6" else "OutNoRoutes"

    def _missed(self, host: Host) -> int:
        return int(host.agent.call("routes_missed", version=self.over)["packets"])
