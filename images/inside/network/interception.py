"""Intercepts SMTP sessions with port 25, or with a port of its own, on this host or through it.

A redirect leads each session here. The layers in force handle it one after another: the
latest is nearest to the client, and the output of the last layer goes to the server that
the client addressed. Source NAT by the connection's mark gives the connection to this
server the client's own address, so that its log, relay checks and access tables see the
real client. Connection tracking keeps open sessions alive when the rules are removed.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ipv6 import has_ipv6, ipv4_of, is_ipv6

SMTP_PORT = 25
# Each channel has its own table: several channels may intercept the sessions of one host.
TABLE = f"maillab_smtp_{os.getpid()}"
END_OF_DATA = b"\r\n.\r\n"

_CHUNK_BYTES = 65536
# No SMTP line is longer: Postfix reads 2048 bytes of a command, and writes 4096 of a reply.
LINE_BYTES_MAX = 65536
_REPLY_LINES_MAX = 1000
_KEPT_BYTES_MAX = 1 << 20
# Sessions that may wait to be accepted: under load, hundreds arrive at once.
BACKLOG = 4096
_SO_MARK = 36
# netfilter_ipv4.h and _ipv6.h: the destination before the redirect.
_SO_ORIGINAL_DST = 80
_ADDRESS, _ADDRESS6 = struct.Struct("!HH4s8x"), struct.Struct("!HHI16s4x")

_RULES = """
table %(family)s %(table)s {
  map clients { type mark : %(kind)s; }
  chain prerouting {
    type nat hook prerouting priority dstnat - 50;
    tcp dport %(intercepts)d counter redirect to :%(port)d
  }
  chain postrouting {
    type nat hook postrouting priority srcnat - 50;
    snat to meta mark map @clients
  }
}
"""

Address = tuple[str, int]


class LineTooLong(EOFError):
    """A line without an end: reading stops, and the connection is closed."""


class Wire:
    """One end of a connection: reads lines, messages or chunks; closes in either way.

    A connection ``within`` this program never has TLS: only its two ends on the network do.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, within: bool = False
    ) -> None:
        self._reader = reader
        self.writer = writer
        self._within = within
        self._pending = b""

    async def chunk(self) -> bytes:
        """Return the data that has arrived; b"" at the end of the connection, even an error."""
        if self._pending:
            chunk, self._pending = self._pending, b""
            return chunk
        try:
            return await self._reader.read(_CHUNK_BYTES)
        except OSError:
            return b""

    async def line(self) -> bytes:
        """Return a whole line with its end; raise EOFError at the end of the connection.

        Raise LineTooLong for a line without an end, so that memory stays bounded.
        """
        line, newline, self._pending = self._pending.partition(b"\n")
        while not newline:
            chunk = await self.chunk()
            if not chunk:
                raise EOFError
            more, newline, self._pending = chunk.partition(b"\n")
            line += more
            if len(line) > LINE_BYTES_MAX:
                raise LineTooLong
        return line + newline

    async def reply(self) -> list[bytes]:
        """Return all lines of an SMTP reply (RFC 5321 section 4.2)."""
        lines = [await self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
            if len(lines) > _REPLY_LINES_MAX:
                raise LineTooLong
        return lines

    async def message(self) -> AsyncIterator[bytes]:
        """Yield the data after DATA in pieces, including the line with the final dot."""
        tail = b"\r\n"
        end = -1
        while end < 0:
            chunk = await self.chunk()
            if not chunk:
                raise EOFError
            end = (tail + chunk).find(END_OF_DATA)
            if end >= 0:
                end += len(END_OF_DATA) - len(tail)
                chunk, self._pending = chunk[:end], chunk[end:]
            tail = (tail + chunk)[1 - len(END_OF_DATA) :]
            yield chunk

    async def ended(self) -> None:
        """Wait until the other side closes; keep what it sends until then.

        A side that sends too much counts as closed.
        """
        kept = b""
        try:
            while len(kept) < _KEPT_BYTES_MAX and (chunk := await self.chunk()):
                kept += chunk
        finally:
            self._pending = kept + self._pending

    @property
    def gone(self) -> bool:
        """True if the kernel knows that the other side has closed, fully or half."""
        raw = self.writer.get_extra_info("socket")
        if raw.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    async def send(self, data: bytes) -> None:
        """Write, and wait while the other side reads slowly."""
        self.writer.write(data)
        await self.writer.drain()

    async def start_tls(self, context: ssl.SSLContext, last: bytes = b"") -> None:
        """Send what is last in clear text, then start TLS; raise OSError if that fails."""
        # What the other side sends next belongs to TLS.
        if not self._within:
            cast("asyncio.ReadTransport", self.writer.transport).pause_reading()
        await self.send(last)
        if not self._within:
            await self.writer.start_tls(context)
            self._pending = b""

    def hang_up(self) -> None:
        """End the connection below TLS: with FIN, and without a farewell."""
        self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST: a zero linger time discards unsent data (socket(7))."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Close once everything is written."""
        self.writer.close()


@dataclass
class Session:
    """One client's connection, and the way to the server that the client addressed."""

    client: str
    wire: Wire
    reach: Callable[[], Awaitable[Wire]]


class Layer(Protocol):
    """A program that talks to clients in place of the server."""

    async def talk(self, session: Session) -> None:
        """Handle a session from beginning to end."""

    def lift(self) -> None:
        """Stop acting, and release the clients that it keeps waiting."""


class Front:
    """The layers in force, and the sessions that pass through them.

    ``server`` is the destination of all sessions. Without it, each session with the port
    ``intercepts`` goes where its client wanted, and the packet filter leads clients here.
    """

    def __init__(self, server: Address | None = None, intercepts: int = SMTP_PORT) -> None:
        self.layers: list[Layer] = []
        self.port = 0
        self._intercepts = intercepts
        self._table = TABLE if intercepts == SMTP_PORT else f"{TABLE}_{intercepts}"
        self._server = server
        # By nftables' name of the IP version.
        self._listeners: dict[str, asyncio.Server] = {}
        self._sessions: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()

    async def insert(self, layer: Layer) -> None:
        """Add a layer in front of the others."""
        self.layers.append(layer)
        if self._listeners:
            return
        await self._listen("ip", "0.0.0.0", "ipv4_addr")  # noqa: S104  # a lab's network is closed
        if self._server is None and has_ipv6():
            await self._listen("ip6", "::", "ipv6_addr")

    async def _listen(self, family: str, address: str, kind: str) -> None:
        listener = await asyncio.start_server(self._accept, address, 0, backlog=BACKLOG)
        self._listeners[family] = listener
        port = listener.sockets[0].getsockname()[1]
        if family == "ip":
            self.port = port
        if self._server is None:
            nft(
                _RULES
                % {
                    "family": family,
                    "table": self._table,
                    "kind": kind,
                    "intercepts": self._intercepts,
                    "port": port,
                }
            )

    async def remove(self, layer: Layer) -> None:
        """Remove a layer; sessions that it does not keep waiting continue to their end."""
        if not any(other is layer for other in self.layers):
            # It was removed with all others.
            return
        self.layers[:] = [other for other in self.layers if other is not layer]
        layer.lift()
        if self.layers or not self._listeners:
            return
        if self._server is None:
            self._release()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    async def clear(self) -> None:
        """Remove every layer and end every session, also those of an agent that died."""
        while self.layers:
            await self.remove(self.layers[-1])
        if self._server is None:
            self._release()
        sessions = list(self._sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _release(self) -> None:
        # Add the table first, so that deleting it cannot fail.
        families = ("ip", "ip6") if has_ipv6() else ("ip",)
        tables = [f"{family} {self._table}" for family in families]
        nft("; ".join(f"add table {table}; delete table {table}" for table in tables))
        self._known.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = writer.get_extra_info("peername")[0]
        server = self._server or _meant(writer.get_extra_info("socket"))
        await self._serve(tuple(self.layers), client, server, Wire(reader, writer))

    async def _serve(
        self, layers: Sequence[Layer], client: str, server: Address, wire: Wire
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy
        self._sessions.add(task)

        async def reach() -> Wire:
            if not layers[:-1]:
                return await self._connect(client, server)
            ours, theirs = socket.socketpair()
            inner = Wire(*await asyncio.open_connection(sock=theirs), within=True)
            # The set of sessions holds a reference from the session's first step on.
            asyncio.ensure_future(self._serve(layers[:-1], client, server, inner))  # noqa: RUF006
            return Wire(*await asyncio.open_connection(sock=ours), within=True)

        try:
            # The last layer may just have been lifted.
            talk = layers[-1].talk if layers else relay
            await talk(Session(client, wire, reach))
        except (EOFError, OSError):
            # One side closed, as it may; so the other side is closed, too.
            pass
        finally:
            self._sessions.discard(task)
            wire.close()

    async def _connect(self, client: str, server: Address) -> Wire:
        """Connect to the real server, from the client's address as far as the server can see."""
        by6 = is_ipv6(server[0])
        raw = socket.socket(socket.AF_INET6 if by6 else socket.AF_INET)
        raw.setblocking(False)
        if self._server is None:
            mark = int.from_bytes(socket.inet_aton(ipv4_of(client)))
            if self._listeners and client not in self._known:
                family = "ip6" if by6 else "ip"
                nft(f"add element {family} {self._table} clients {{ {mark} : {client} }}")
                self._known.add(client)
            raw.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("=I", mark))
        try:
            await asyncio.get_running_loop().sock_connect(raw, server)
        except BaseException:
            raw.close()
            raise
        return Wire(*await asyncio.open_connection(sock=raw))


async def relay(session: Session) -> None:
    """Pass on all data in both directions, until one side ends."""
    server = await session.reach()
    await pump(session.wire, server, lambda data: data, lambda data: data)


async def pump(
    client: Wire,
    server: Wire,
    from_client: Callable[[bytes], bytes],
    from_server: Callable[[bytes], bytes],
) -> None:
    """Pass on what each side sends, changed by the functions, until the server ends."""

    async def onward() -> None:
        while chunk := await client.chunk():
            await server.send(from_client(chunk))
        if server.writer.can_write_eof():
            server.writer.write_eof()

    task = asyncio.ensure_future(onward())
    try:
        while chunk := await server.chunk():
            await client.send(from_server(chunk))
    finally:
        task.cancel()
        server.close()
        await asyncio.gather(task, return_exceptions=True)


def nft(commands: str) -> None:
    """Change the packet filter's rules as one transaction (nft(8))."""
    # Only the agent's image has it. The rest of this module is tested without it.
    from nftables import Nftables  # noqa: PLC0415

    status, _, error = Nftables().cmd(commands)
    if status:
        raise RuntimeError(f"nftables: {error.strip()}")


def _meant(raw: Any) -> Address:
    if raw.family == socket.AF_INET6:
        there = raw.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _ADDRESS6.size)
        _, port, _, address = _ADDRESS6.unpack(there)
        return socket.inet_ntop(socket.AF_INET6, address), port
    _, port, address = _ADDRESS.unpack(raw.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    return socket.inet_ntoa(address), port


FRONT = Front()
# By port; those of the ports for submission come with the first fault there.
FRONTS = {SMTP_PORT: FRONT}


def front(port: int) -> Front:
    """Return the front of a port."""
    return FRONTS.setdefault(port, Front(intercepts=port))
