"""A capture read."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillab.errors import BadInput
from maillab.pcap import Packet, packets

SLL, SLL2 = 113, 276


def capture(*records: bytes, order: str = "<", link: int = SLL2, magic: int = 0xA1B2C3D4) -> bytes:
    whole = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for record in records:
        whole += struct.pack(f"{order}IIII", 1, 2, len(record), len(record)) + record
    return whole


def ipv4(payload: bytes, protocol: int = 6, fragment: int = 0, options: bytes = b"") -> bytes:
    source, destination = (ipaddress.IPv4Address(a).packed for a in ("198.18.0.1", "198.18.0.2"))
    length = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | length, 0, 20, 1, fragment, 64, protocol, 0)
    return head + source + destination + options + payload


def cooked2(packet: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack("!HHIHBB8s", kind, 0, 2, 1, 0, 6, b"") + packet


def cooked(packet: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack("!HHH8sH", 0, 1, 6, b"", kind) + packet


PORTS = struct.pack("!HH", 40000, 540)
TCP = Packet("198.18.0.1", "198.18.0.2", "tcp", 40000, 540)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
@pytest.mark.parametrize(("link", "wrap"), [(SLL, cooked), (SLL2, cooked2)])
def test_every_form_of_file_is_read(order: str, magic: int, link: int, wrap: object) -> None:
    assert callable(wrap)

    file = capture(wrap(ipv4(PORTS)), wrap(ipv4(PORTS)), order=order, link=link, magic=magic)

    assert packets(file) == [TCP, TCP]
    assert TCP.ports == (540, 40000)


def test_ports_stand_behind_the_options() -> None:
    assert packets(capture(cooked2(ipv4(PORTS, options=b"\x01" * 8)))) == [TCP]


@pytest.mark.parametrize(
    ("packet", "protocol"),
    [
        (ipv4(PORTS, protocol=1), "icmp"),
        (ipv4(PORTS, protocol=47), "47"),
        (ipv4(PORTS, protocol=17, fragment=100), "udp"),
        (ipv4(b"", protocol=6), "tcp"),
    ],
)
def test_what_has_no_ports_has_none(packet: bytes, protocol: str) -> None:
    (found,) = packets(capture(cooked2(packet)))

    assert (found.protocol, found.ports) == (protocol, (0, 0))


def test_other_protocols_than_ip_are_left_out() -> None:
    assert packets(capture(cooked2(b"arp" * 10, kind=0x0806), cooked2(b"short"))) == []


def test_the_loopback_is_inside() -> None:
    assert Packet("127.0.0.1", "127.0.0.1", "tcp").inside
    assert not TCP.inside


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "shorter"), (b"x" * 40, "another number"), (capture(link=1), "link type 1")],
)
def test_what_is_no_capture_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        packets(content)


@given(st.binary(), st.sampled_from([SLL, SLL2]))
def test_a_broken_capture_never_fails_otherwise(rest: bytes, link: int) -> None:
    assert isinstance(packets(capture(link=link) + rest), list)
