"""A path on which nothing passes any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.faults._filter import check_address, filtering
from maillab.host import Host
from maillab.record import Witness

Direction = Literal["both", "in", "out"]


@dataclass(frozen=True)
class Partition:
    """All IP packets between the host and a ``peer``, or everybody, vanish without a word.

    "in" is one way only, towards the host; "out" is away from it. On a router it
    concerns what comes from the peer and goes to it. ``peer`` is an address or a
    network. Needs a kernel whose nftables has the egress hook (5.16).
    """

    peer: str = ""
    direction: Direction = "both"

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer)
        if self.direction not in get_args(Direction):
            raise BadInput(f"{self!r}: direction: one of {', '.join(get_args(Direction))}")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Cut the path at the host's interfaces; its loopback stays."""
        with filtering(host, self, "packets dropped", self.rules()) as witness:
            yield witness

    def rules(self) -> str:
        """At the devices, where a dropped packet is no error for the one who sent it."""
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
