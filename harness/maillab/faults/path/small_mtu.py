"""A path with a small MTU beyond a router."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from maillab.errors import BadInput
from maillab.faults.path.packetfilter import FRAG_NEEDED, check_address, filtering
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# The smallest path MTU that Linux accepts (net.ipv4.route.min_pmtu), and IPv4's maximum.
_MTU_MIN_BYTES, _MTU_MAX_BYTES = 552, 65535
# The IP and TCP headers, whose length nftables' "rt mtu" has subtracted.
_HEADERS_BYTES = 40


@fault(
    proof="test_path.py::test_symptom_a_small_mtu_is_learned",
    host="router",
    example={"peer": "receiver"},
)
@dataclass(frozen=True)
class SmallMtu:
    """A small MTU between a router and ``peer`` (an address or a network).

    The router reports it by ICMP (RFC 1191). The sender learns the path's MTU from that, and
    keeps it for the rest of the scenario.
    """

    peer: str
    mtu_bytes: int = 576

    UNTOLD: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer, optional=False)
        if not _MTU_MIN_BYTES <= self.mtu_bytes <= _MTU_MAX_BYTES:
            raise BadInput(
                f"{self!r}: mtu_bytes must be at least {_MTU_MIN_BYTES}, the smallest path MTU "
                "that Linux accepts (net.ipv4.route.min_pmtu), and below the interface's MTU"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Limit the router's packets to the peer. The witness counts packets to the peer."""
        narrow = {"destination": self.peer, "mtu_bytes": self.mtu_bytes}
        counted = f"packets at a leg of {self.mtu_bytes} bytes"
        with filtering(host, self, counted, self.rules(), narrow=narrow) as witness:
            yield witness

    def rules(self) -> str:
        """Return counters for the packets that fit and pass, and for the ICMP about the others."""
        return f"""
table ip TABLE {{
  chain forward {{
    type filter hook forward priority filter;
    ip daddr {self.peer} rt mtu {self.mtu_bytes - _HEADERS_BYTES} counter comment "small enough"
  }}
  chain output {{
    type filter hook output priority filter;
    {self.UNTOLD and f"{FRAG_NEEDED} {self.UNTOLD}"}
    {FRAG_NEEDED} counter comment "too big, reported"
  }}
}}
"""
