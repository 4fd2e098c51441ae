"""A path on which all packets are lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.faults.path.packetfilter import check_address, filtering
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

Direction = Literal["both", "in", "out"]


@fault(proof="test_path.py::test_symptom_partition[both]", host="receiver")
@dataclass(frozen=True)
class Partition:
    """Silent loss of all IP packets between the host and a ``peer``, or every other host.

    "in" is one way only, towards the host; "out" is away from it. On a router it acts on
    packets that come from the peer and go to it. ``peer`` is an address or a network. Needs
    a kernel whose nftables has the egress hook (5.16).
    """

    peer: str = ""
    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer)
        if self.direction not in get_args(Direction):
            raise BadInput(
                f"{self!r}: unknown direction {self.direction!r} "
                f"(choose from {', '.join(get_args(Direction))})"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Cut the path at the host's interfaces. Its loopback keeps working."""
        with filtering(host, self, "packets dropped", self.rules()) as witness:
            yield witness

    def rules(self) -> str:
        """Return rules for the devices, where a dropped packet is no error for its sender."""
        chains = ""
        for name, hook, field in (("in", "ingress", "saddr"), ("out", "egress", "daddr")):
            if self.direction in ("both", name):
                which = f"ip {field} {self.peer}" if self.peer else "meta protocol ip"
                chains += f"""
  chain {hook} {{
    type filter hook {hook} devices = DEVICES priority 0;
    {which} counter drop comment "{name}"
  }}"""
        return f"table netdev TABLE {{{chains}\n}}\n"
