"""Queries and answers in a capture."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import CLIENT, SERVER, capture, cooked2, ipv4, udp
from maillab.lab.lookups import Lookup, lookups

QUERY = dns.message.make_query("Example.net", "MX")
MX = ("example.net", "MX")


def datagram(
    source_port: int, destination_port: int, data: bytes, ends: tuple[str, str] = (CLIENT, SERVER)
) -> bytes:
    return cooked2(ipv4(udp(source_port, destination_port, data), protocol=17, ends=ends))


def asked(query: dns.message.Message = QUERY, port: int = 40000, client: str = CLIENT) -> bytes:
    return datagram(port, 53, query.to_wire(), (client, SERVER))


def answered(
    query: dns.message.Message = QUERY,
    port: int = 40000,
    rcode: str = "NOERROR",
    flags: int = 0,
    client: str = CLIENT,
) -> bytes:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.from_text(rcode))
    reply.flags |= flags
    return datagram(53, port, reply.to_wire(), (SERVER, client))


@pytest.mark.parametrize("rcode", ["NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED"])
def test_an_answer_belongs_to_its_query(rcode: str) -> None:
    """By the port and the number of the message; it came after the time between them."""
    file = capture(asked(), answered(port=40001), answered(rcode=rcode), times_s=[1, 2, 4.5])

    assert lookups(file, *MX) == [Lookup(*MX, rcode, waited_s=3.5)]


def test_an_answer_belongs_to_the_host_that_asked() -> None:
    """A router sees the queries of several hosts, which may have chosen one port and number."""
    other = "198.18.0.3"
    file = capture(asked(client=other), asked(), answered(rcode="REFUSED", client=other))

    assert [one.rcode for one in lookups(file, *MX)] == ["REFUSED", ""]


def test_a_query_without_an_answer_waits_for_none() -> None:
    """Each try is a query of its own."""
    again = dns.message.make_query("example.net", "MX")
    file = capture(asked(), asked(again, port=40001))

    assert lookups(file, *MX) == [Lookup(*MX), Lookup(*MX)]


def test_a_truncated_answer_is_known() -> None:
    (found,) = lookups(capture(asked(), answered(flags=dns.flags.TC)), *MX)

    assert found.truncated


def test_other_queries_are_left_out() -> None:
    """Of another name or type, and what is no DNS message."""
    names = [("example.org", "MX"), ("example.net", "A")]
    others = [dns.message.make_query(*name) for name in names]
    file = capture(*map(asked, others), *map(answered, others), datagram(1, 53, b"x"))

    assert lookups(file, *MX) == []


@given(st.binary(max_size=40))
def test_any_datagram_can_be_read(data: bytes) -> None:
    assert isinstance(lookups(capture(datagram(40000, 53, data)), *MX), list)
