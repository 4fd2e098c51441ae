"""A session that is reset while it is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.errors import BadInput
from maillab.faults._filter import CLIENT, TO_CLIENT, SessionFault


@dataclass(frozen=True)
class ResetInSession(SessionFault):
    """Both ends get a reset when the client has sent so much, as from a firewall on the way.

    Counted is what the client sends, with IP and TCP headers: ``bytes_before`` or
    ``packets_before`` the reset (a packet as this kernel handles it may hold several
    of the wire's). The packet that is too much still arrives: the server's answer to
    it, and the client's next packet, are answered by a reset.
    """

    bytes_before: int = 0
    packets_before: int = 0

    COUNTED: ClassVar[str] = "packets answered by a reset"

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [number for number in (self.bytes_before, self.packets_before) if number]
        if len(given) != 1 or given[0] < 0:
            raise BadInput(
                f"{self!r}: needs bytes_before or packets_before, what a session carries before it "
                "is reset; for none at all there is Refused"
            )

    def acting(self, chosen: str) -> str:
        """Each session has an account of its own."""
        limit = (
            f"quota over {self.bytes_before} bytes"
            if self.bytes_before
            else f"limit rate over 1/day burst {self.packets_before} packets"
        )
        answer = (
            f"tcp sport {self.port} tcp flags & rst != rst {TO_CLIENT} @broken "
            "counter reject with tcp reset"
        )
        return f"""
    {chosen} {CLIENT} @broken counter reject with tcp reset comment "to a client"
    {chosen} add @spent {{ {CLIENT} {limit} }} add @broken {{ {CLIENT} }}
    {answer} comment "to a server"
  }}
  chain output {{
    type filter hook output priority raw;
    {answer} comment "to a server"
"""
