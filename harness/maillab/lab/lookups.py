"""The DNS queries in a capture that left a host by UDP, and what came back. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from maillab.lab import pcap

_PORT = 53
_HEADER = struct.Struct("!HHHHHH")
_ANSWER, _TRUNCATED, _RCODE = 0x8000, 0x0200, 0x000F
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA"}
_LABEL_MAX = 63


@dataclass(frozen=True)
class Lookup:
    """A query as it left a host, and the first answer to it that came."""

    name: str
    type: str
    # The code of the answer; "" without an answer.
    rcode: str = ""
    truncated: bool = False
    # From the query to its answer.
    waited_s: float = 0.0


def lookups(capture: bytes, name: str, type_: str) -> list[Lookup]:
    """Return the queries for a name and type that left by a host's interfaces, in order.

    Raise BadInput if it is not a capture.
    """
    found: list[Lookup] = []
    # By the asker's address and port and the message's number: the place in found, and the time.
    open_: dict[tuple[str, int, int], tuple[int, float]] = {}
    for packet in pcap.packets(capture):
        if packet.inside or _PORT not in packet.ports or len(packet.datagram) < _HEADER.size:
            continue
        number, flags, *_ = _HEADER.unpack_from(packet.datagram)
        if not flags & _ANSWER:
            question = _question(packet.datagram)
            if question == (name.lower(), type_):
                open_[packet.source, packet.source_port, number] = len(found), packet.time_s
                found.append(Lookup(*question))
            continue
        place, asked_s = open_.pop((packet.destination, packet.destination_port, number), (-1, 0.0))
        if place >= 0:
            code = flags & _RCODE
            rcode = _RCODES[code] if code < len(_RCODES) else str(code)
            waited_s = packet.time_s - asked_s
            found[place] = Lookup(name, type_, rcode, bool(flags & _TRUNCATED), waited_s)
    return found


def _question(message: bytes) -> tuple[str, str]:
    """Return the name and type of a message's first question, as far as they can be read."""
    labels, at = [], _HEADER.size
    while at < len(message) and 0 < (length := message[at]) <= _LABEL_MAX:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    number = int.from_bytes(message[at + 1 : at + 3], "big")
    return ".".join(labels), _TYPES.get(number, str(number))
