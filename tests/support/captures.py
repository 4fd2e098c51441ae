"""Captures made by hand: pcap files, IPv4 packets and UDP datagrams."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

SLL, SLL2 = 113, 276


def capture(
    *records: bytes,
    order: str = "<",
    link: int = SLL2,
    magic: int = 0xA1B2C3D4,
    times_s: Sequence[float] = (),
) -> bytes:
    """Return a pcap file with these records, captured at these times."""
    whole = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for number, record in enumerate(records):
        seconds = times_s[number] if times_s else 1.0
        fractions = round((seconds % 1) * (1e9 if magic == 0xA1B23C4D else 1e6))
        head = (int(seconds), fractions, len(record), len(record))
        whole += struct.pack(f"{order}IIII", *head) + record
    return whole


CLIENT, SERVER = "198.18.0.1", "198.18.0.2"


def ipv4(
    payload: bytes,
    protocol: int = 6,
    fragment: int = 0,
    options: bytes = b"",
    ends: tuple[str, str] = (CLIENT, SERVER),
) -> bytes:
    """Return an IPv4 packet from the first end to the second."""
    source, destination = (ipaddress.IPv4Address(a).packed for a in ends)
    length = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | length, 0, 20, 1, fragment, 64, protocol, 0)
    return head + source + destination + options + payload


def udp(source_port: int, destination_port: int, data: bytes) -> bytes:
    """Return a UDP datagram."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data


def cooked2(packet: bytes, kind: int = 0x0800) -> bytes:
    """Return a record of the link type "cooked 2"."""
    return struct.pack("!HHIHBB8s", kind, 0, 2, 1, 0, 6, b"") + packet


def cooked(packet: bytes, kind: int = 0x0800) -> bytes:
    """Return a record of the link type "cooked"."""
    return struct.pack("!HHH8sH", 0, 1, 6, b"", kind) + packet
