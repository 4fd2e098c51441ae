"""A capture of tcpdump(8) read: who spoke to whom, by which protocol. Pure.

Reads what ``tcpdump -i any`` writes: pcap files of the link types "cooked" and
"cooked 2" (pcap-savefile(5), LINKTYPE_LINUX_SLL and _SLL2).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput

_SLL, _SLL2 = 113, 276
_MAGIC = {0xA1B2C3D4, 0xA1B23C4D}
_FILE_HEADER, _RECORD_HEADER = 24, 16
_IPV4 = 0x0800
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
_IPV4_HEADER_MIN = 20
# All but these three bits says where in a datagram a fragment belongs.
_FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet; ports are 0 where the protocol, or a later fragment, has none."""

    source: str
    destination: str
    protocol: str
    source_port: int = 0
    destination_port: int = 0

    @property
    def ports(self) -> tuple[int, int]:
        """Both ports, the lower one, as a rule the server's, first."""
        low, high = sorted((self.source_port, self.destination_port))
        return low, high

    @property
    def inside(self) -> bool:
        """Whether it never left its host."""
        return ipaddress.IPv4Address(self.source) in ipaddress.IPv4Network("127.0.0.0/8")


def packets(capture: bytes) -> list[Packet]:
    """Every IPv4 packet of a capture, in order; raises BadInput for what is no capture."""
    if len(capture) < _FILE_HEADER:
        raise BadInput("not a capture: shorter than the header of a pcap file")
    order = next((o for o in "<>" if struct.unpack(f"{o}I", capture[:4])[0] in _MAGIC), "")
    if not order:
        raise BadInput("not a capture: a pcap file begins with another number")
    (link,) = struct.unpack(f"{order}I", capture[20:24])
    if link not in (_SLL, _SLL2):
        raise BadInput(f"a capture of link type {link}, not of 'tcpdump -i any'")
    found = []
    for record in _records(capture, order):
        at, header = (14, 16) if link == _SLL else (0, 20)
        kind = int.from_bytes(record[at : at + 2], "big")
        packet = record[header:]
        if kind == _IPV4 and len(packet) >= _IPV4_HEADER_MIN:
            found.append(_ipv4(packet))
    return found


def _records(capture: bytes, order: str) -> Iterator[bytes]:
    at = _FILE_HEADER
    while at + _RECORD_HEADER <= len(capture):
        (length,) = struct.unpack(f"{order}I", capture[at + 8 : at + 12])
        yield capture[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        at += _RECORD_HEADER + length


def _ipv4(packet: bytes) -> Packet:
    header = (packet[0] & 0x0F) * 4
    protocol = _PROTOCOLS.get(packet[9], str(packet[9]))
    ports = (0, 0)
    first = int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET == 0
    if protocol in ("tcp", "udp") and first and len(packet) >= header + 4:
        ports = struct.unpack("!HH", packet[header : header + 4])
    source, destination = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return Packet(source, destination, protocol, *ports)
