"""A DNS proxy between a host and its nameserver that spoils chosen answers.

A redirect in the host's own namespace leads what goes to the nameserver here, so
that running daemons, which keep the resolver they started with, meet it at once
and lose it at once. What no rule is about is asked of the nameserver itself, UDP
by UDP and TCP by TCP, and handed on byte by byte.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from packetfilter import counters, nft

HERE = "127.0.0.1"
PORT = 53
# Our own questions carry it, so that the redirect does not lead them back to us.
MARK = 0x6D6C
UPSTREAM_WITHIN_S = 10.0
TTL_S = 60
RESOLV_CONF = Path("/etc/resolv.conf")

_LENGTH = struct.Struct("!H")


@dataclass
class Rule:
    """Which queries are spoilt and how; ``acted`` counts those that were.

    ``name`` is one name, ``.name`` all below it, ``*`` any; ``type`` one type or
    ``*``. Of the queries that match, those behind the ``after``th count, of them
    each ``every``th is spoilt, and the ``first`` of those only, unless it is 0.
    """

    action: str
    name: str
    type: str
    first: int = 0
    every: int = 1
    after: int = 0
    delay_s: float = 0.0
    rcode: str = ""
    data: str = ""
    matched: int = 0
    acted: int = 0
    over_tcp: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, question: dns.rrset.RRset) -> bool:
        """Whether a query is of the name and type."""
        asked = question.name.to_text(omit_final_dot=True).lower()
        name = self.name.lower()
        of_name = name in ("*", asked) or (name[0] == "." and asked.endswith(name))
        return of_name and self.type in ("*", dns.rdatatype.to_text(question.rdtype))

    def takes_turn(self) -> bool:
        """Count a query that matches; whether it is one of those to be spoilt."""
        self.matched += 1
        behind = self.matched - self.after
        turn, rest = divmod(behind, self.every)
        return behind > 0 and not rest and not 0 < self.first < turn

    async def hold(self) -> None:
        """Keep an answer back for the delay, or until the rule is lifted."""
        try:
            await asyncio.wait_for(self.lifted.wait(), self.delay_s)
        except TimeoutError:
            self.acted += 1

    def reply(self, query: dns.message.Message) -> bytes:
        """The answer that the query gets in place of the true one."""
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
    """Answers on a UDP and a TCP port of its own, by its rules or as upstream does.

    Of several rules for a query the latest decides; delays add up. A rule that
    truncates is about UDP, and counts the queries that came again by TCP.
    """

    def __init__(self, upstream: tuple[str, int], mark: int = 0) -> None:
        self.rules: dict[int, Rule] = {}
        self.udp_port = self.tcp_port = 0
        self._upstream = upstream
        self._mark = mark
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on loopback, on ports that are free."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, (HERE, 0))
        self.udp_port = self._udp.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(self._client, HERE, 0)
        self.tcp_port = self._tcp.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more; whoever still waits is left without an answer."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one query; None is silence."""
        try:
            query = dns.message.from_wire(wire)
            (question,) = query.question
        except (dns.exception.DNSException, ValueError):
            return await self._ask(wire, tcp=tcp)
        for rule in reversed(self.rules.values()):
            if not rule.matches(question):
                continue
            if rule.action == "truncate" and tcp:
                rule.over_tcp += 1
            elif not rule.takes_turn():
                continue
            elif rule.action == "delay":
                await rule.hold()
            elif rule.action == "drop":
                rule.acted += 1
                return None
            else:
                return rule.reply(query)
        return await self._ask(wire, tcp=tcp)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A query by UDP."""
        udp = self._udp

        async def reply() -> None:
            answer = await self.answer(data, tcp=False)
            if answer is not None and udp is not None and not udp.is_closing():
                udp.sendto(answer, addr)

        task = asyncio.ensure_future(reply())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Queries by TCP, one after another (RFC 1035 section 4.2.2)."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # we run as one
        self._tasks.add(task)
        try:
            while True:
                answer = await self.answer(await _read_tcp(reader), tcp=True)
                if answer is not None:
                    writer.write(_LENGTH.pack(len(answer)) + answer)
                    await writer.drain()
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            # The client has gone, or we have to.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _ask(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """What the nameserver itself answers; None when it does not."""
        loop = asyncio.get_running_loop()
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as asker:
            asker.setblocking(False)  # fixed by whose function it is
            if self._mark:
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
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
    """One message with its length before it."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


# The host's own part: the redirect, refused connections, a second nameserver.


def add(table: str, chain: str, *rules: str) -> None:
    """Add a table of ours with one chain of rules."""
    head = [f"add table ip {table}", f"add chain ip {table} only {{ type {chain}; }}"]
    nft("\n".join([*head, *(f"add rule ip {table} only {rule}" for rule in rules)]))


def redirect(server: str, udp_port: int, tcp_port: int) -> None:
    """Lead what goes to the nameserver to the proxy, but for the proxy's own questions."""
    ours = f"meta mark != {MARK} ip daddr {server}"
    add(
        "maillab_names",
        "nat hook output priority -100",
        f"{ours} udp dport {PORT} counter redirect to :{udp_port}",
        f"{ours} tcp dport {PORT} counter redirect to :{tcp_port}",
    )


def refuse_tcp(table: str, server: str) -> None:
    """Answer every TCP connection to the nameserver with a reset, before the redirect has it."""
    to_server = f"meta mark != {MARK} ip daddr {server} tcp dport {PORT}"
    rule = f"{to_server} counter reject with tcp reset"
    add(table, "filter hook output priority -150", rule)


def kill_nameserver(table: str, server: str, *, refuses: bool) -> None:
    """Let what comes for an address of ours be lost, or be refused by ICMP."""
    # On its way in: on its way out the sender would be told of a drop (EPERM).
    verdict = "reject with icmp port-unreachable" if refuses else "drop"
    add(table, "filter hook input priority 0", f"ip daddr {server} counter {verdict}")


def remove(table: str) -> int:
    """Take a table of ours away; returns how many packets its rules counted."""
    listed = nft(f"list table ip {table}", as_json=True)
    nft(f"delete table ip {table}")
    return sum(counters(listed).values())


async def forget_flows() -> None:
    """Have the kernel decide anew where UDP from a known port to the nameserver goes.

    A resolver that asks again asks from the same port, and conntrack remembers
    for up to two minutes where it led that.
    """
    argv = ("conntrack", "-D", "-p", "udp", "--orig-port-dst", str(PORT))
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    # It ends with 1 when there was nothing to forget, too.
    if b"flow entries have been deleted" not in said:
        raise RuntimeError(f"conntrack: {said.decode().strip()}")


_numbers = itertools.count(1)
_proxies: dict[str, Proxy] = {}
_refusing: dict[int, str] = {}
_dead: dict[int, str] = {}
_resolv_conf: list[str] = []


def _server() -> str:
    return os.environ["NAMESERVER"]


async def names_start(*, refuse: bool = False, **rule: Any) -> dict[str, Any]:
    """Add a rule, and the proxy with the first of them; returns the rule's number."""
    server, number = _server(), next(_numbers)
    proxy = _proxies.get(server)
    if proxy is None:
        proxy = Proxy((server, PORT), MARK)
        await proxy.start()
        redirect(server, proxy.udp_port, proxy.tcp_port)
        _proxies[server] = proxy
        await forget_flows()
    proxy.rules[number] = Rule(**rule)
    if refuse:
        refuse_tcp(f"maillab_names_tcp{number}", server)
        _refusing[number] = f"maillab_names_tcp{number}"
    return {"rule": number}


async def names_stop(rule: int) -> dict[str, Any]:
    """Take a rule away, and the proxy with the last; returns what the rule did."""
    proxy = _proxies[_server()]
    lifted = proxy.rules.pop(rule)
    lifted.lifted.set()
    refused = remove(_refusing.pop(rule)) if rule in _refusing else 0
    if not proxy.rules:
        del _proxies[_server()]
        remove("maillab_names")
        await forget_flows()
        await proxy.stop()
    return {"acted": lifted.acted, "over_tcp": lifted.over_tcp, "refused": refused}


async def nameserver_start(*, refuses: bool) -> dict[str, Any]:
    """Put a dead nameserver in front of the others in resolv.conf; returns its number."""
    number = next(_numbers)
    if not _dead:
        _resolv_conf[:] = [RESOLV_CONF.read_text()]
    # Of the loopback network each address is the host's own.
    _dead[number] = f"127.0.53.{number % 250 + 1}"
    kill_nameserver(f"maillab_dead{number}", _dead[number], refuses=refuses)
    _write_resolv_conf()
    return {"number": number}


async def nameserver_stop(number: int) -> dict[str, Any]:
    """Take it out again; returns how many packets it was asked with."""
    del _dead[number]
    _write_resolv_conf()
    return {"asked": remove(f"maillab_dead{number}")}


def _write_resolv_conf() -> None:
    # In place: it is mounted in the container of Postfix, too.
    dead = "".join(f"nameserver {address}\n" for address in _dead.values())
    first, _, rest = _resolv_conf[0].partition("\n")
    RESOLV_CONF.write_text(f"{first}\n{dead}{rest}")


async def heal() -> None:
    """Lift what a scenario left."""
    for proxy in list(_proxies.values()):
        for rule in list(proxy.rules):
            await names_stop(rule)
    for number in list(_dead):
        await nameserver_stop(number)


OPERATIONS = {
    operation.__name__: operation
    for operation in (names_start, names_stop, nameserver_start, nameserver_stop)
}
