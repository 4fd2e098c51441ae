"""A host that cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.path.packetfilter import SessionFault
from maillab.faults.registry import fault


@fault(
    proof="test_path.py::test_symptom_no_connection[receiver-unreachable]",
    host="router",
    example={"after": "4"},
)
@dataclass(frozen=True)
class Unreachable(SessionFault):
    """ICMP "host unreachable" (RFC 792, RFC 4443) answers a client's SYN, as from the last router.

    The client sees "No route to host". Open sessions continue.
    """

    VERDICT: ClassVar[str] = "reject with icmpx type host-unreachable"
    COUNTED: ClassVar[str] = "connections answered by 'host unreachable'"
