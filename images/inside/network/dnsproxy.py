"""A DNS proxy before the name server that spoils chosen answers to one host.

It runs in the name server's container, where a redirect leads the host's queries to it. On
the host's own wire queries leave at once, and answers are late, wrong or missing. Running
daemons, which keep the resolver that they started with, see the proxy at once, and lose it
at once. The proxy forwards a query without a rule to the name server, UDP by UDP and TCP by
TCP, and returns the answer byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

from ipv6 import ipv4_of, is_ipv6
from operations import Handles, new_number, operation
from packetfilter import nft, tables
from turns import Turns

HERE = "127.0.0.1"
ANYWHERE, ANYWHERE6 = "0.0.0.0", "::"  # noqa: S104  # a lab's network is closed
PORT = 53
UPSTREAM_WITHIN_S = 10.0
TTL_S = 60
PREFIX = "maillab_names_"

_LENGTH = struct.Struct("!H")


@dataclass
class Rule(Turns):
    """The queries to spoil, and how; ``acted`` counts the spoilt ones.

    ``name`` is one name, ``.name`` all names below it, ``*`` any; ``type`` is one type or
    ``*``. `Turns` selects from the queries that match.
    """

    action: str
    name: str
    type: str
    delay_s: float = 0.0
    rcode: str = ""
    data: str = ""
    acted: int = 0
    over_tcp: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, question: dns.rrset.RRset) -> bool:
        """Return True if a query is for this name and type."""
        asked = question.name.to_text(omit_final_dot=True).lower()
        name = self.name.lower()
        of_name = name in ("*", asked) or (name[0] == "." and asked.endswith(name))
        return of_name and self.type in ("*", dns.rdatatype.to_text(question.rdtype))

    async def hold(self) -> None:
        """Delay an answer, until the delay has passed or the rule is lifted."""
        try:
            await asyncio.wait_for(self.lifted.wait(), self.delay_s)
        except TimeoutError:
            self.acted += 1

    def reply(self, query: dns.message.Message) -> bytes:
        """Return the answer that replaces the true one."""
        reply = dns.message.make_response(query, recursion_available=True)
        (question,) = query.question
        if self.action == "rcode":
            reply.set_rcode(dns.rcode.from_text(self.rcode))
        elif self.action == "truncate":
            reply.flags |= dns.flags.TC
        else:
            reply.answer.append(
                dns.rrset.from_text(question.name, TTL_S, "IN", question.rdtype, self.data)
            )
        self.acted += 1
        return reply.to_wire()


class Proxy(asyncio.DatagramProtocol):
    """Answers queries on a UDP and a TCP port, by its rules or from upstream.

    If several rules match a query, the latest applies; delays add up. A rule that truncates
    applies to UDP, and counts the queries that are repeated by TCP.
    """

    def __init__(self, upstream: tuple[str, int], *, here: str = HERE, source: str = "") -> None:
        self.rules: dict[int, Rule] = {}
        self.udp_port = self.tcp_port = 0
        self._upstream = upstream
        self._here = here
        # The proxy asks from this address; the kernel counts queries by it.
        self._source = source
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on free ports."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, (self._here, 0))
        self.udp_port = self._udp.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(self._client, self._here, 0)
        self.tcp_port = self._tcp.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening; pending queries get no answer."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the answer to one query, or None for no answer."""
        try:
            query = dns.message.from_wire(wire)
            (question,) = query.question
        except (dns.exception.DNSException, ValueError):
            return await self._ask(wire, tcp=tcp)
        if query.flags & dns.flags.QR or query.opcode() != dns.opcode.QUERY:
            return await self._ask(wire, tcp=tcp)
        for rule in reversed(self.rules.values()):
            if not rule.matches(question):
                continue
            if rule.action == "truncate" and tcp:
                rule.over_tcp += 1
            elif not rule.count():
                continue
            elif rule.action == "delay":
                await rule.hold()
            elif rule.action == "drop":
                rule.acted += 1
                return None
            else:
                with contextlib.suppress(dns.exception.DNSException, ValueError):
                    return rule.reply(query)
                # This class or type has no such answer.
                break
        return await self._ask(wire, tcp=tcp)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a query that arrived by UDP."""
        udp = self._udp

        async def reply() -> None:
            answer = await self.answer(data, tcp=False)
            if answer is not None and udp is not None and not udp.is_closing():
                udp.sendto(answer, addr)

        task = asyncio.ensure_future(reply())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer queries by TCP, one after another (RFC 1035 section 4.2.2)."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this coroutine runs as a task
        self._tasks.add(task)
        try:
            while True:
                answer = await self.answer(await _read_tcp(reader), tcp=True)
                if answer is not None:
                    writer.write(_LENGTH.pack(len(answer)) + answer)
                    await writer.drain()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            # The client has gone, or the proxy stops.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _ask(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the name server's own answer, or None if it does not answer."""
        loop = asyncio.get_running_loop()
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as asker:
            asker.setblocking(False)
            if self._source:
                asker.bind((self._source, 0))
            try:
                async with asyncio.timeout(UPSTREAM_WITHIN_S):
                    await loop.sock_connect(asker, self._upstream)
                    if not tcp:
                        await loop.sock_sendall(asker, wire)
                        return await loop.sock_recv(asker, 65535)
                    reader, writer = await asyncio.open_connection(sock=asker)
                    writer.write(_LENGTH.pack(len(wire)) + wire)
                    answer = await _read_tcp(reader)
                    writer.close()
                    return answer
            except (TimeoutError, OSError, asyncio.IncompleteReadError):
                return None


async def _read_tcp(reader: asyncio.StreamReader) -> bytes:
    """Read one message after its length."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


# The packet filter's part: the redirect of one host, what it counts, refused connections.


def own_source(client: str) -> str:
    """Return the loopback address from which the proxy asks for a client."""
    return f"127.{ipv4_of(client).partition('.')[2]}"


def family_of(client: str) -> str:
    """Return nftables' name of the IP version that a client uses."""
    return "ip6" if is_ipv6(client) else "ip"


def table_of(client: str, number: int) -> str:
    """Return the name of a client's table; every channel finds the table by it."""
    return f"{PREFIX}{re.sub('[.:]', '_', client)}_{number}"


def redirect(table: str, client: str, udp_port: int, tcp_port: int) -> None:
    """Redirect a client's queries for the nameserver to the proxy."""
    family = family_of(client)
    nft(f"""
table {family} {table} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    {family} saddr {client} udp dport {PORT} counter redirect to :{udp_port}
    {family} saddr {client} tcp dport {PORT} counter redirect to :{tcp_port}
  }}
}}
""")


def count(table: str, client: str, *, refuse: bool) -> None:
    """Count the queries for a client; with ``refuse`` reject its TCP connections."""
    ours = f"ip saddr {own_source(client)}"
    to_us = f"{family_of(client)} saddr {client} tcp dport {PORT}"
    rejects = f'{to_us} counter reject with tcp reset comment "refused"' if refuse else ""
    nft(f"""
table inet {table} {{
  chain output {{
    type filter hook output priority filter;
    {ours} udp dport {PORT} counter comment "passed on"
    {ours} tcp dport {PORT} tcp flags & (syn | ack) == syn counter comment "passed on"
  }}
  chain prerouting {{
    type filter hook prerouting priority mangle;
    {rejects}
  }}
}}
""")


def remove(table: str) -> None:
    """Remove a table, unless another channel has lifted the fault meanwhile."""
    for family, name in tables(nft("list tables", as_json=True), table):
        if name == table:
            nft(f"delete table {family} {table}")


async def forget_flows(client: str) -> None:
    """Delete the kernel's records of a client's UDP queries, so that new rules apply at once.

    A resolver repeats a query from the same port, and for up to two minutes conntrack sends
    packets from that port to the old destination.
    """
    family = "ipv6" if is_ipv6(client) else "ipv4"
    flows = ("-f", family, "-p", "udp", "--orig-src", client, "--orig-port-dst", str(PORT))
    argv = ("conntrack", "-D", *flows)
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    # conntrack(8) exits with 1 also if there was no flow to delete.
    if b"flow entries have been deleted" not in stderr:
        raise RuntimeError(f"conntrack: {stderr.decode().strip()}")


@dataclass
class Way:
    """One client's proxy, and the table of its redirect."""

    proxy: Proxy
    table: str


@dataclass
class Spoilt:
    """A rule for one client's queries, and the table that counts them."""

    client: str
    rule: Rule
    table: str


_ways: dict[str, Way] = {}


async def _remove_rule(spoilt: Spoilt) -> dict[str, Any]:
    way = _ways[spoilt.client]
    rules = way.proxy.rules
    for number in [number for number, rule in rules.items() if rule is spoilt.rule]:
        del rules[number]
    spoilt.rule.lifted.set()
    remove(spoilt.table)
    if not rules:
        del _ways[spoilt.client]
        remove(way.table)
        await forget_flows(spoilt.client)
        await way.proxy.stop()
    return {"acted": spoilt.rule.acted, "over_tcp": spoilt.rule.over_tcp}


_rules: Handles[Spoilt] = Handles(__name__, _remove_rule)


@operation(rule=0, table="")
async def names_start(client: str, *, refuse: bool = False, **rule: Any) -> dict[str, Any]:
    """Add a rule for a client's queries, and the client's proxy with the first of them.

    Returns the rule's number, and the table with the kernel's counts: what was "passed on"
    to the nameserver, and the TCP connections "refused".
    """
    number = new_number()
    first = client not in _ways
    if first:
        here = ANYWHERE6 if is_ipv6(client) else ANYWHERE
        proxy = Proxy((HERE, PORT), here=here, source=own_source(client))
        _ways[client] = Way(proxy, table_of(client, new_number()))
    way = _ways[client]
    spoilt = Spoilt(client, Rule(**rule), table_of(client, number))
    # Register first: if a later step is interrupted, lifting the rule still undoes all of them.
    way.proxy.rules[number] = spoilt.rule
    _rules.add(spoilt, number)
    count(spoilt.table, client, refuse=refuse)
    if first:
        await way.proxy.start()
        redirect(way.table, client, way.proxy.udp_port, way.proxy.tcp_port)
        await forget_flows(client)
    return {"rule": number, "table": spoilt.table}


@operation(acted=0, over_tcp=0)
async def names_stop(rule: int) -> dict[str, Any]:
    """Remove a rule; stop the proxy after the last rule. Return the rule's counts."""
    done: dict[str, Any] = await _rules.undo(rule)
    return done


@operation()
async def names_clear(client: str) -> dict[str, Any]:
    """Lift every fault of one client's names, whichever channel set it."""
    for number in _rules:
        if _rules[number].client == client:
            await _rules.undo(number)
    # Of other channels, dead or alive.
    for _, table in tables(nft("list tables", as_json=True), table_of(client, 0)[:-1]):
        remove(table)
    await forget_flows(client)
    return {}
