"""A port that refuses connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.path.packetfilter import SessionFault
from maillab.faults.registry import fault


@fault(
    proof="test_path.py::test_symptom_no_connection[receiver-refused]",
    host="receiver",
    example={"every": "3"},
)
@dataclass(frozen=True)
class Refused(SessionFault):
    """A reset answers a client's SYN, as on a port without a server (RFC 9293 section 3.5.2).

    The client sees "Connection refused". Open sessions continue.
    """

    VERDICT: ClassVar[str] = "reject with tcp reset"
    COUNTED: ClassVar[str] = "connections refused"
