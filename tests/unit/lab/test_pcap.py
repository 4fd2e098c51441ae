"""Parsing of a capture."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import SLL, SLL2, capture, cooked, cooked2, ipv4, udp
from maillab.errors import BadInput
from maillab.lab.pcap import Packet, packets

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


def test_both_versions_of_ip_are_read() -> None:
    """With ports and datagrams; ICMPv6 has none."""
    ours, theirs = (bytes.fromhex("20010db80000000000000000c61200") + bytes([n]) for n in (1, 2))

    def ipv6(data: bytes, protocol: int) -> bytes:
        return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + ours + theirs + data

    sent = [ipv6(PORTS, 6), ipv6(udp(40000, 53, b"question"), 17), ipv6(PORTS, 58)]

    file = capture(*(cooked2(packet, kind=0x86DD) for packet in sent))

    names = ("2001:db8::c612:1", "2001:db8::c612:2")
    assert packets(file) == [
        Packet(*names, "tcp", 40000, 540),
        Packet(*names, "udp", 40000, 53, datagram=b"question"),
        Packet(*names, "icmpv6"),
    ]
    assert packets(file)[1].datagram == b"question"


@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_times_are_read_in_seconds(magic: int) -> None:
    records = [cooked2(ipv4(PORTS))] * 2
    found = packets(capture(*records, magic=magic, times_s=[7, 8.25]))

    assert [packet.time_s for packet in found] == pytest.approx([7, 8.25])


def test_a_datagram_is_kept() -> None:
    """Of UDP; of TCP there is none."""
    sent = [ipv4(udp(40000, 53, b"question"), protocol=17), ipv4(PORTS + b"x" * 20)]

    assert [p.datagram for p in packets(capture(*map(cooked2, sent)))] == [b"question", b""]


def test_ports_follow_the_options() -> None:
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
def test_other_protocols_and_fragments_have_no_ports(packet: bytes, protocol: str) -> None:
    (found,) = packets(capture(cooked2(packet)))

    assert (found.protocol, found.ports) == (protocol, (0, 0))


def test_other_protocols_than_ip_are_left_out() -> None:
    assert packets(capture(cooked2(b"arp" * 10, kind=0x0806), cooked2(b"short"))) == []


def test_the_loopback_is_inside() -> None:
    assert Packet("127.0.0.1", "127.0.0.1", "tcp").inside
    assert not TCP.inside


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "shorter"),
        (b"x" * 40, "no magic number"),
        (capture(link=1), "link type must .* not 1"),
    ],
)
def test_another_file_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        packets(content)


@given(st.binary(), st.sampled_from([SLL, SLL2]))
def test_a_broken_capture_never_fails_otherwise(rest: bytes, link: int) -> None:
    assert isinstance(packets(capture(link=link) + rest), list)
