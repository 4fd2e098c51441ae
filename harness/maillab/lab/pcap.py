"""The packets of a tcpdump(8) capture: times, addresses, protocol, ports and data. Pure.

Reads the files of ``tcpdump -i any``: pcap with the link types "cooked" and
"cooked 2" (pcap-savefile(5), LINKTYPE_LINUX_SLL and _SLL2).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from maillab.errors import BadInput

_SLL, _SLL2 = 113, 276
# Each magic number, with the fractions of a second that its time stamps count.
_MAGIC = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}
_FILE_HEADER, _RECORD_HEADER = 24, 16
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_IPV4_HEADER_MIN, _IPV6_HEADER = 20, 40
_UDP_HEADER = 8
_PORTS = struct.Struct("!HH")
# The lower 13 bits: the fragment's position in its datagram.
_FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True)
class Packet:
    """An IP packet; ports are 0 if the protocol, or a later fragment, has none."""

    source: str
    destination: str
    protocol: str
    source_port: int = 0
    destination_port: int = 0
    # When it was captured, by the capturing host's real clock.
    time_s: float = field(default=0.0, compare=False)
    # What a UDP datagram carries; of other protocols nothing is kept.
    datagram: bytes = field(default=b"", compare=False, repr=False)

    @property
    def ports(self) -> tuple[int, int]:
        """Both ports, the lower one first; that is usually the server's."""
        low, high = sorted((self.source_port, self.destination_port))
        return low, high

    @property
    def inside(self) -> bool:
        """Return True if the packet never left its host."""
        return ipaddress.ip_address(self.source).is_loopback


def packets(capture: bytes) -> list[Packet]:
    """Return every IP packet of a capture, in order; raise BadInput if it is not a capture."""
    if len(capture) < _FILE_HEADER:
        raise BadInput("not a capture: shorter than a pcap file's header")
    order = next((o for o in "<>" if struct.unpack(f"{o}I", capture[:4])[0] in _MAGIC), "")
    if not order:
        raise BadInput("not a capture: no magic number of a pcap file")
    (link,) = struct.unpack(f"{order}I", capture[20:24])
    if link not in (_SLL, _SLL2):
        raise BadInput(f"link type must be that of 'tcpdump -i any', not {link}")
    (magic,) = struct.unpack(f"{order}I", capture[:4])
    found = []
    for time_s, record in _records(capture, order, _MAGIC[magic]):
        at, header = (14, 16) if link == _SLL else (0, 20)
        kind = int.from_bytes(record[at : at + 2], "big")
        packet = record[header:]
        if kind == _IPV4 and len(packet) >= _IPV4_HEADER_MIN:
            found.append(_ipv4(packet, time_s))
        elif kind == _IPV6 and len(packet) >= _IPV6_HEADER:
            found.append(_ipv6(packet, time_s))
    return found


def _records(capture: bytes, order: str, fraction_s: float) -> Iterator[tuple[float, bytes]]:
    at = _FILE_HEADER
    while at + _RECORD_HEADER <= len(capture):
        seconds, fractions, length = struct.unpack(f"{order}III", capture[at : at + 12])
        record = capture[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        yield seconds + fractions * fraction_s, record
        at += _RECORD_HEADER + length


def _ipv4(packet: bytes, time_s: float) -> Packet:
    header = (packet[0] & 0x0F) * 4
    protocol = _PROTOCOLS.get(packet[9], str(packet[9]))
    first = int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET == 0
    source, destination = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return _packet(source, destination, protocol, packet[header:] if first else b"", time_s)


def _ipv6(packet: bytes, time_s: float) -> Packet:
    """Parse a packet without extension headers; hosts of a lab send no other with ports."""
    protocol = _PROTOCOLS.get(packet[6], str(packet[6]))
    source, destination = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
    return _packet(source, destination, protocol, packet[_IPV6_HEADER:], time_s)


def _packet(source: str, destination: str, protocol: str, data: bytes, time_s: float) -> Packet:
    ports = (0, 0)
    if protocol in ("tcp", "udp") and len(data) >= _PORTS.size:
        ports = _PORTS.unpack_from(data)
    datagram = data[_UDP_HEADER:] if protocol == "udp" else b""
    return Packet(source, destination, protocol, *ports, time_s=time_s, datagram=datagram)
