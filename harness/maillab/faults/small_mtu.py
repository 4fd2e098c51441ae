"""A path with a narrow leg beyond a router."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from maillab.errors import BadInput
from maillab.faults._filter import check_address, filtering
from maillab.host import Host
from maillab.record import Witness

# What Linux believes of a path at least (net.ipv4.route.min_pmtu), and IPv4 allows at most.
_MTU_MIN_BYTES, _MTU_MAX_BYTES = 552, 65535
# The IP and TCP headers, of which nftables' "rt mtu" has taken the length off.
_HEADERS_BYTES = 40


@dataclass(frozen=True)
class SmallMtu:
    """The leg from a router to ``peer`` (an address or a network) takes small packets only.

    The router says so by ICMP (RFC 1191), from which the sender learns the path's
    MTU, and remembers it for the rest of the scenario.
    """

    peer: str
    mtu_bytes: int = 576

    UNTOLD: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer, optional=False)
        if not _MTU_MIN_BYTES <= self.mtu_bytes <= _MTU_MAX_BYTES:
            raise BadInput(
                f"{self!r}: mtu_bytes: from {_MTU_MIN_BYTES}, the least that Linux takes for a "
                "path's MTU (net.ipv4.route.min_pmtu), to less than the interface's"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Narrow the router's leg to the peer. The witness counts what came to that leg."""
        narrow = {"destination": self.peer, "mtu_bytes": self.mtu_bytes}
        counted = f"packets at a leg of {self.mtu_bytes} bytes"
        with filtering(host, self, counted, self.rules(), narrow=narrow) as witness:
            yield witness

    def rules(self) -> str:
        """Counters at the leg: what fits and passes, and the complaints about what does not."""
        complaint = "icmp type destination-unreachable icmp code frag-needed"
        return f"""
table ip TABLE {{
  chain forward {{
    type filter hook forward priority filter;
    ip daddr {self.peer} rt mtu {self.mtu_bytes - _HEADERS_BYTES} counter comment "small enough"
  }}
  chain output {{
    type filter hook output priority filter;
    {self.UNTOLD and f"{complaint} {self.UNTOLD}"}
    {complaint} counter comment "too big, told"
  }}
}}
"""
