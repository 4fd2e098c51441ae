"""A session that is reset while it is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.errors import BadInput
from maillab.faults.path.ipversions import IpVersion
from maillab.faults.path.packetfilter import SessionFault
from maillab.faults.registry import fault


@fault(
    proof="test_path.py::test_symptom_a_session_is_reset_while_it_sends[receiver-fault0]",
    host="router",
    example={"bytes_before": "20000"},
)
@dataclass(frozen=True)
class ResetInSession(SessionFault):
    """A reset of both ends in mid-session, as by a firewall on the path.

    ``bytes_before`` or ``packets_before`` is the amount that the client may send before the
    reset, including IP and TCP headers. A packet as this kernel handles it may contain several
    packets of the wire. The packet that exceeds the amount still arrives. A reset answers the
    server's reply to it, and the client's next packet.
    """

    bytes_before: int = 0
    packets_before: int = 0

    COUNTED: ClassVar[str] = "packets answered by a reset"

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [number for number in (self.bytes_before, self.packets_before) if number]
        if len(given) != 1 or given[0] < 0:
            raise BadInput(
                f"{self!r}: needs bytes_before or packets_before, the amount that a session "
                "carries before the reset; to reset it at the start use Refused"
            )

    def acting(self, version: IpVersion, chosen: str) -> str:
        """Return rules that count each session by itself."""
        limit = (
            f"quota over {self.bytes_before} bytes"
            if self.bytes_before
            else f"limit rate over 1/day burst {self.packets_before} packets"
        )
        family, client = version.family, version.client
        return f"""\
{chosen} {client} @broken_{family} counter reject with tcp reset comment "to a client"
    {chosen} add @spent_{family} {{ {client} {limit} }} add @broken_{family} {{ {client} }}"""

    def answering(self, version: IpVersion) -> str:
        """Return rules that reset a broken session at its server's next packet."""
        return (
            f"tcp sport {self.port} tcp flags & rst != rst "
            f"{version.to_client} @broken_{version.family} "
            'counter reject with tcp reset comment "to a server"'
        )
