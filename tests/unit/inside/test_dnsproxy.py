"""The agent's DNS proxy on this machine's loopback, against a real resolver library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bounded import run
from dnsproxy import HERE, Proxy, Rule

# The time that a resolver waits for an answer.
PATIENCE_S = 0.3
# For answers that do come, on a machine that is busy.
WITHIN_S = 30.0
TRUTH = {
    ("example.net.", "MX"): "10 remote.example.net.",
    ("remote.example.net.", "A"): "192.0.2.20",
    ("other.example.net.", "A"): "192.0.2.21",
    ("20.2.0.192.in-addr.arpa.", "PTR"): "remote.example.net.",
}


class Authority(Proxy):
    """A name server with the true answers; it returns unreadable queries reversed."""

    async def _ask(self, wire: bytes, *, tcp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
            reply = dns.message.make_response(query)
        except dns.exception.DNSException:
            return wire[::-1]
        for question in query.question:
            kind = dns.rdatatype.to_text(question.rdtype)
            data = TRUTH.get((question.name.to_text().lower(), kind))
            if data is not None:
                reply.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, data))
        return reply.to_wire()


@dataclass
class Names:
    """A name server, the proxy before it, and a resolver that asks the proxy."""

    proxy: Proxy
    authority: Authority

    async def ask(
        self, name: str, kind: str = "A", *, tcp: bool = False, within_s: float = PATIENCE_S
    ) -> str:
        """Return the answer as text, or the name of the error."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        port = self.proxy.tcp_port if tcp else self.proxy.udp_port
        resolver.nameservers, resolver.port = [HERE], port
        try:
            answer = await resolver.resolve(
                name, kind, tcp=tcp, lifetime=within_s, raise_on_no_answer=False, search=False
            )
        except dns.exception.DNSException as error:
            return type(error).__name__
        return " ".join(record.to_text() for record in answer.rrset or ())

    def spoil(self, action: str, name: str = "*", kind: str = "*", **settings: Any) -> Rule:
        """Add a rule."""
        rule = Rule(action, name, kind, **settings)
        self.proxy.rules[len(self.proxy.rules)] = rule
        return rule


@asynccontextmanager
async def names() -> AsyncIterator[Names]:
    """Start all three, with one port for UDP and TCP if possible."""
    authority = Authority((HERE, 0))
    await one_port(authority)
    proxy = Proxy((HERE, authority.udp_port))
    await one_port(proxy)
    try:
        yield Names(proxy, authority)
    finally:
        await proxy.stop()
        await authority.stop()


async def one_port(proxy: Proxy) -> None:
    """Start a proxy with TCP on the port of UDP, where a resolver expects it."""
    while True:
        await proxy.start()
        assert proxy._tcp is not None
        proxy._tcp.close()
        try:
            proxy._tcp = await asyncio.start_server(proxy._client, HERE, proxy.udp_port)
        except OSError:
            await proxy.stop()
        else:
            proxy.tcp_port = proxy.udp_port
            return


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_query_without_a_rule_passes(*, tcp: bool) -> None:
    """Any name and type pass, also those that the name server does not have."""

    async def actions() -> list[str]:
        async with names() as here:
            here.spoil("drop", "elsewhere.test")
            asked = [*TRUTH, ("nosuch.example.net.", "A")]
            return [await here.ask(name, kind, tcp=tcp) for name, kind in asked]

    assert run(actions()) == [*TRUTH.values(), ""]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_an_answer_is_passed_on_byte_by_byte(*, tcp: bool) -> None:
    """Including the identifier, the flags and the case of the name."""
    query = dns.message.make_query("ReMote.example.NET", "A", use_edns=True, payload=4096)

    async def actions() -> tuple[bytes | None, bytes | None]:
        async with names() as here:
            wire = query.to_wire()
            return await here.authority._ask(wire, tcp=tcp), await here.proxy.answer(wire, tcp=tcp)

    truth, handed_on = run(actions())

    assert handed_on == truth


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=1, max_size=60))
def test_an_invalid_query_goes_to_the_nameserver(wire: bytes) -> None:
    """The proxy forwards any bytes and returns the answer."""

    async def actions() -> tuple[bytes | None, bytes | None]:
        async with names() as here:
            return await here.authority._ask(wire, tcp=False), await here.proxy.answer(
                wire, tcp=False
            )

    truth, handed_on = run(actions())

    assert handed_on == truth


ACTIONS: dict[str, dict[str, Any]] = {
    "drop": {},
    "delay": {"delay_s": 0.001},
    "rcode": {"rcode": "SERVFAIL"},
    "truncate": {},
    "answer": {"data": "192.0.2.9"},
}


def changed(query: bytes, at: int, value: int) -> bytes:
    return query[:at] + bytes([value]) + query[at + 1 :]


@settings(deadline=None)
@given(
    st.sampled_from(sorted(ACTIONS)),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=3),
    st.binary(max_size=8),
    st.booleans(),
)
@example("rcode", [(2, 0x81)], b"", False)
@example("answer", [(2, 0x81)], b"", True)
@example("answer", [(28, 15)], b"", False)
def test_a_damaged_query_is_answered_or_passes(
    action: str,
    changes: list[tuple[int, int]],
    tail: bytes,
    tcp: bool,  # noqa: FBT001  # a case
) -> None:
    """With the response flag (QR), of another class or type, or truncated."""
    query = dns.message.make_query("remote.example.net", "A").to_wire()
    for at, value in changes:
        query = changed(query, at, value)

    async def actions() -> bytes | None:
        async with names() as here:
            here.spoil(action, **ACTIONS[action])
            return await here.proxy.answer(query + tail, tcp=tcp)

    assert isinstance(run(actions()), bytes | None)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_response_sent_as_a_query_goes_to_the_nameserver(action: str) -> None:
    """Packets with the QR bit are no queries, so no rule applies."""
    response = changed(dns.message.make_query("remote.example.net", "A").to_wire(), 2, 0x81)

    async def actions() -> tuple[bytes | None, bytes | None, int]:
        async with names() as here:
            rule = here.spoil(action, **ACTIONS[action])
            truth = await here.authority._ask(response, tcp=False)
            return truth, await here.proxy.answer(response, tcp=False), rule.matched

    truth, handed_on, matched = run(actions())

    assert handed_on == truth
    assert matched == 0


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("action", "settings", "heard"),
    [
        ("drop", {}, "LifetimeTimeout"),
        ("delay", {"delay_s": 10}, "LifetimeTimeout"),
        ("delay", {"delay_s": 0.1}, "192.0.2.20"),
        ("rcode", {"rcode": "NXDOMAIN"}, "NXDOMAIN"),
        ("rcode", {"rcode": "SERVFAIL"}, "NoNameservers"),
        ("rcode", {"rcode": "REFUSED"}, "NoNameservers"),
        ("answer", {"data": "192.0.2.99"}, "192.0.2.99"),
    ],
    ids=["drop", "too late", "late", "nxdomain", "servfail", "refused", "stale"],
)
def test_a_resolvers_view_of_a_spoilt_answer(
    action: str, settings: dict[str, Any], heard: str, *, tcp: bool
) -> None:
    """The name is spoilt, its neighbour is not."""

    async def actions() -> tuple[str, str]:
        async with names() as here:
            here.spoil(action, "remote.example.net", "A", **settings)
            spoilt = await here.ask("remote.example.net", tcp=tcp)
            return spoilt, await here.ask("other.example.net", tcp=tcp)

    assert run(actions()) == (heard, "192.0.2.21")


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"])
def test_the_error_is_the_configured_one(rcode: str) -> None:
    """The answer has the question, the identifier, and nothing else."""
    query = dns.message.make_query("example.net", "MX")

    async def actions() -> dns.message.Message:
        async with names() as here:
            here.spoil("rcode", rcode=rcode)
            return await dns.asyncquery.udp(query, HERE, port=here.proxy.udp_port, timeout=5)

    reply = run(actions())

    assert (dns.rcode.to_text(reply.rcode()), reply.answer) == (rcode, [])


def test_a_truncated_answer_leads_to_a_query_by_tcp() -> None:
    """The resolver gets the true answer, and the rule counted both of its queries."""

    async def actions() -> tuple[str, int, int, bool]:
        async with names() as here:
            rule = here.spoil("truncate")
            query = dns.message.make_query("example.net", "MX")
            reply = await dns.asyncquery.udp(query, HERE, port=here.proxy.udp_port, timeout=5)
            truncated = bool(reply.flags & dns.flags.TC) and not reply.answer
            return await here.ask("example.net", "MX"), rule.acted, rule.over_tcp, truncated

    assert run(actions()) == ("10 remote.example.net.", 2, 1, True)


def test_a_wrong_ptr() -> None:
    """An address's PTR record names another host."""

    async def actions() -> str:
        async with names() as here:
            here.spoil("answer", "20.2.0.192.in-addr.arpa", "PTR", data="trusted.example.com.")
            return await here.ask("20.2.0.192.in-addr.arpa", "PTR")

    assert run(actions()) == "trusted.example.com."


def test_a_late_answer_is_late_by_its_delay() -> None:
    """It does not arrive sooner; two delays add up."""

    async def actions() -> tuple[float, str]:
        async with names() as here:
            here.spoil("delay", delay_s=0.1)
            here.spoil("delay", delay_s=0.15)
            began = asyncio.get_running_loop().time()
            heard = await here.ask("remote.example.net", within_s=WITHIN_S)
            return asyncio.get_running_loop().time() - began, heard

    took_s, heard = run(actions())

    assert took_s >= 0.25
    assert heard == "192.0.2.20"


def test_a_delayed_answer_is_sent_when_the_rule_is_lifted() -> None:
    """The answer is sent at once; it was not late by the whole delay, so it does not count."""

    async def actions() -> tuple[bytes | None, int]:
        async with names() as here:
            rule = here.spoil("delay", delay_s=1000)
            query = dns.message.make_query("remote.example.net", "A").to_wire()
            waiting = asyncio.ensure_future(here.proxy.answer(query, tcp=False))
            while not rule.matched:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0)
            rule.lifted.set()
            return await waiting, rule.acted

    answer, acted = run(actions())

    assert answer is not None
    assert "192.0.2.20" in dns.message.from_wire(answer).to_text()
    assert acted == 0


@pytest.mark.parametrize(
    ("name", "kind", "spoilt"),
    [
        ("*", "*", ["example.net MX", "remote.example.net A", "badexample.net A"]),
        ("*", "A", ["remote.example.net A", "badexample.net A"]),
        ("example.net", "*", ["example.net MX"]),
        ("EXAMPLE.net", "MX", ["example.net MX"]),
        ("example.net", "A", []),
        (".example.net", "*", ["remote.example.net A"]),
        (".net", "*", ["example.net MX", "remote.example.net A", "badexample.net A"]),
    ],
)
def test_the_names_and_types_of_a_rule(name: str, kind: str, spoilt: list[str]) -> None:
    """One name, all names below it, or any; upper and lower case are equal."""
    rule = Rule("drop", name, kind)
    asked = ["example.net MX", "remote.example.net A", "badexample.net A"]

    def is_about(query: str) -> bool:
        of, type_ = query.split()
        return rule.matches(dns.message.make_query(of, type_).question[0])

    assert [name_ for name_ in asked if is_about(name_)] == spoilt


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        ({}, "xxxxxxxxxx"),
        ({"first": 2}, "xx........"),
        ({"every": 3}, "..x..x..x."),
        ({"after": 7}, ".......xxx"),
        ({"after": 1, "every": 2, "first": 3}, "..x.x.x..."),
    ],
)
def test_counters(settings: dict[str, Any], turns: str) -> None:
    """The first two; every third; from the eighth on; and all of these together."""

    async def actions() -> tuple[str, int]:
        async with names() as here:
            rule = here.spoil("rcode", rcode="REFUSED", **settings)
            heard = [await here.ask("remote.example.net") for _ in turns]
            return "".join(
                "x" if answer == "NoNameservers" else "." for answer in heard
            ), rule.acted

    assert run(actions()) == (turns, turns.count("x"))


def test_the_latest_of_several_rules_applies() -> None:
    """A rule that has used up its occasions leaves the query to the rule before it."""

    async def actions() -> list[str]:
        async with names() as here:
            here.spoil("rcode", rcode="NXDOMAIN")
            here.spoil("answer", "remote.example.net", "A", data="192.0.2.1", first=1)
            return [await here.ask("remote.example.net") for _ in range(2)]

    assert run(actions()) == ["192.0.2.1", "NXDOMAIN"]


def test_without_a_nameserver_there_is_no_answer() -> None:
    """By UDP and by TCP; the proxy keeps running."""

    async def actions() -> list[str]:
        async with names() as here:
            await here.authority.stop()
            return [await here.ask("example.net", "MX", tcp=tcp) for tcp in (False, True)]

    assert run(actions()) == ["LifetimeTimeout", "LifetimeTimeout"]


def test_stopping_leaves_no_client_waiting() -> None:
    """A waiting TCP client is disconnected, a UDP client gets no answer; twice is no error."""

    async def actions() -> bytes:
        async with names() as here:
            rule = here.spoil("drop")
            reader, writer = await asyncio.open_connection(HERE, here.proxy.tcp_port)
            query = dns.message.make_query("example.net", "MX").to_wire()
            writer.write(len(query).to_bytes(2, "big") + query)
            while not rule.acted:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0)
            await here.proxy.stop()
            rest = await reader.read()
            writer.close()
            return rest

    assert run(actions()) == b""
