"""A path on which all packets are lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.faults.path.ipversions import Over, check_over, versions
from maillab.faults.path.packetfilter import check_address, filtering
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

Direction = Literal["both", "in", "out"]
# NDP is to IPv6 what ARP is to IPv4 (RFC 4861): without it the kernel reports an error.
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"


@fault(proof="test_path.py::test_symptom_partition[both]", host="receiver")
@dataclass(frozen=True)
class Partition:
    """Silent loss of all IP packets between the host and a ``peer``, or every other host.

    "in" is one way only, towards the host; "out" is away from it. On a router it acts on
    packets that come from the peer and go to it. ``peer`` is an address or a network, and
    stands for its own version of IP; ``over`` restricts the fault to one. Neighbours are still
    found (ARP, NDP). Needs a kernel whose nftables has the egress hook (5.16).
    """

    peer: str = ""
    direction: Direction = "both"
    over: Over = "both"

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer, ipv6=True)
        check_over(self, self.over, self.peer)
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
                cut = "\n".join(
                    f"    {version.family} {field} {self.peer} {drop}"
                    if self.peer
                    else f"    meta protocol {version.family} {drop}"
                    for version in versions(self.over, self.peer)
                    for drop in [f'counter drop comment "{name}"']
                )
                chains += f"""
  chain {hook} {{
    type filter hook {hook} devices = DEVICES priority 0;
    {_NEIGHBOURS} accept
{cut}
  }}"""
        return f"table netdev TABLE {{{chains}\n}}\n"
