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
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import run

from dnsproxy import HERE, Proxy, Rule

# What a resolver waits for an answer that does not come.
PATIENCE_S = 0.3
TRUTH = {
    ("example.net.", "MX"): "10 remote.example.net.",
    ("remote.example.net.", "A"): "192.0.2.20",
    ("other.example.net.", "A"): "192.0.2.21",
    ("20.2.0.192.in-addr.arpa.", "PTR"): "remote.example.net.",
}


class Authority(Proxy):
    """A nameserver that knows the truth; what it cannot read comes back reversed."""

    async def _ask(self, wire: bytes, *, tcp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return wire[::-1]
        reply = dns.message.make_response(query)
        for question in query.question:
            kind = dns.rdatatype.to_text(question.rdtype)
            data = TRUTH.get((question.name.to_text().lower(), kind))
            if data is not None:
                reply.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, data))
        return reply.to_wire()


@dataclass
class Names:
    """A nameserver, the proxy before it, and a resolver that asks the proxy."""

    proxy: Proxy
    authority: Authority

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> str:
        """The answer as text, or the name of what went wrong."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        port = self.proxy.tcp_port if tcp else self.proxy.udp_port
        resolver.nameservers, resolver.port = [HERE], port
        try:
            answer = await resolver.resolve(
                name, kind, tcp=tcp, lifetime=PATIENCE_S, raise_on_no_answer=False, search=False
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
    """The three of them; UDP and TCP have one port where the system lets them."""
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
    """Start it with TCP on the port of UDP, as a nameserver is reached and a resolver asks."""
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
def test_what_no_rule_is_about_passes(*, tcp: bool) -> None:
    """Any name and type, also those that the nameserver does not have."""

    async def story() -> list[str]:
        async with names() as here:
            here.spoil("drop", "elsewhere.test")
            asked = [*TRUTH, ("nosuch.example.net.", "A")]
            return [await here.ask(name, kind, tcp=tcp) for name, kind in asked]

    assert run(story()) == [*TRUTH.values(), ""]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_an_answer_is_handed_on_byte_by_byte(*, tcp: bool) -> None:
    """The identifier, the flags and the case of the name included."""
    query = dns.message.make_query("ReMote.example.NET", "A", use_edns=True, payload=4096)

    async def story() -> tuple[bytes | None, bytes | None]:
        async with names() as here:
            wire = query.to_wire()
            return await here.authority._ask(wire, tcp=tcp), await here.proxy.answer(wire, tcp=tcp)

    truth, handed_on = run(story())

    assert handed_on == truth


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=1, max_size=60))
def test_what_is_no_query_is_the_nameservers_business(wire: bytes) -> None:
    """Whatever the bytes are, the proxy asks and hands the answer on."""

    async def story() -> tuple[bytes | None, bytes | None]:
        async with names() as here:
            return await here.authority._ask(wire, tcp=False), await here.proxy.answer(
                wire, tcp=False
            )

    truth, handed_on = run(story())

    assert handed_on == truth


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
def test_what_a_resolver_makes_of_a_spoilt_answer(
    action: str, settings: dict[str, Any], heard: str, *, tcp: bool
) -> None:
    """The one name is spoilt, its neighbour is not."""

    async def story() -> tuple[str, str]:
        async with names() as here:
            here.spoil(action, "remote.example.net", "A", **settings)
            spoilt = await here.ask("remote.example.net", tcp=tcp)
            return spoilt, await here.ask("other.example.net", tcp=tcp)

    assert run(story()) == (heard, "192.0.2.21")


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"])
def test_an_error_is_the_one_that_was_asked_for(rcode: str) -> None:
    """With the question and the identifier, and nothing else."""
    query = dns.message.make_query("example.net", "MX")

    async def story() -> dns.message.Message:
        async with names() as here:
            here.spoil("rcode", rcode=rcode)
            return await dns.asyncquery.udp(query, HERE, port=here.proxy.udp_port, timeout=5)

    reply = run(story())

    assert (dns.rcode.to_text(reply.rcode()), reply.answer) == (rcode, [])


def test_a_truncated_answer_is_asked_for_by_tcp() -> None:
    """The resolver gets the truth that way, and the rule saw both of its queries."""

    async def story() -> tuple[str, int, int, bool]:
        async with names() as here:
            rule = here.spoil("truncate")
            query = dns.message.make_query("example.net", "MX")
            reply = await dns.asyncquery.udp(query, HERE, port=here.proxy.udp_port, timeout=5)
            truncated = bool(reply.flags & dns.flags.TC) and not reply.answer
            return await here.ask("example.net", "MX"), rule.acted, rule.over_tcp, truncated

    assert run(story()) == ("10 remote.example.net.", 2, 1, True)


def test_a_wrong_ptr() -> None:
    """An address's name is another one's."""

    async def story() -> str:
        async with names() as here:
            here.spoil("answer", "20.2.0.192.in-addr.arpa", "PTR", data="trusted.example.com.")
            return await here.ask("20.2.0.192.in-addr.arpa", "PTR")

    assert run(story()) == "trusted.example.com."


def test_a_late_answer_is_late_by_its_delay() -> None:
    """And not sooner; two delays add up."""

    async def story() -> tuple[float, str]:
        async with names() as here:
            here.spoil("delay", delay_s=0.1)
            here.spoil("delay", delay_s=0.15)
            began = asyncio.get_running_loop().time()
            heard = await here.ask("remote.example.net")
            return asyncio.get_running_loop().time() - began, heard

    took_s, heard = run(story())

    assert took_s >= 0.25
    assert heard == "192.0.2.20"


def test_an_answer_held_back_goes_when_the_rule_is_lifted() -> None:
    """At once; it was not late by what was asked for, so it does not count."""

    async def story() -> tuple[bytes | None, int]:
        async with names() as here:
            rule = here.spoil("delay", delay_s=1000)
            query = dns.message.make_query("remote.example.net", "A").to_wire()
            waiting = asyncio.ensure_future(here.proxy.answer(query, tcp=False))
            while not rule.matched:  # noqa: ASYNC110  # nothing else tells
                await asyncio.sleep(0)
            rule.lifted.set()
            return await waiting, rule.acted

    answer, acted = run(story())

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
def test_which_names_and_types_a_rule_is_about(name: str, kind: str, spoilt: list[str]) -> None:
    """One name, all below a name, or any; upper and lower case are the same."""
    rule = Rule("drop", name, kind)
    asked = ["example.net MX", "remote.example.net A", "badexample.net A"]

    def is_about(query: str) -> bool:
        of, type_ = query.split()
        return rule.matches(dns.message.make_query(of, type_).question[0])

    assert [one for one in asked if is_about(one)] == spoilt


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
    """The first two, then well; every third; from the eighth on; and all of it."""

    async def story() -> tuple[str, int]:
        async with names() as here:
            rule = here.spoil("rcode", rcode="REFUSED", **settings)
            heard = [await here.ask("remote.example.net") for _ in turns]
            return "".join("x" if one == "NoNameservers" else "." for one in heard), rule.acted

    assert run(story()) == (turns, turns.count("x"))


def test_of_several_rules_the_latest_decides() -> None:
    """One that has had its turns leaves the query to the one before it."""

    async def story() -> list[str]:
        async with names() as here:
            here.spoil("rcode", rcode="NXDOMAIN")
            here.spoil("answer", "remote.example.net", "A", data="192.0.2.1", first=1)
            return [await here.ask("remote.example.net") for _ in range(2)]

    assert run(story()) == ["192.0.2.1", "NXDOMAIN"]


def test_a_nameserver_that_is_gone_is_no_answer() -> None:
    """By UDP and by TCP; the proxy lives on."""

    async def story() -> list[str]:
        async with names() as here:
            await here.authority.stop()
            return [await here.ask("example.net", "MX", tcp=tcp) for tcp in (False, True)]

    assert run(story()) == ["LifetimeTimeout", "LifetimeTimeout"]


def test_stopping_leaves_nobody_behind() -> None:
    """A client that waits by TCP is cut off, one by UDP hears nothing; twice is no error."""

    async def story() -> bytes:
        async with names() as here:
            rule = here.spoil("drop")
            reader, writer = await asyncio.open_connection(HERE, here.proxy.tcp_port)
            query = dns.message.make_query("example.net", "MX").to_wire()
            writer.write(len(query).to_bytes(2, "big") + query)
            while not rule.acted:  # noqa: ASYNC110  # nothing else tells
                await asyncio.sleep(0)
            await here.proxy.stop()
            rest = await reader.read()
            writer.close()
            return rest

    assert run(story()) == b""
