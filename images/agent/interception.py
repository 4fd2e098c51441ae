"""Stands in the way of SMTP sessions: what comes for port 25, to this host or through it.

A redirect leads each session here, where the layers in force talk to the client
in turn, the one set last nearest to it, and what the last layer says goes on to
the server that the client meant. For this server the session comes from the
client's own address: source NAT by the connection's mark, so that its log, its
relay checks and its access tables are not deceived. Connection tracking keeps
sessions alive that are under way when the rules go.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

TABLE = "maillab_smtp"
END_OF_DATA = b"\r\n.\r\n"

_CHUNK_BYTES = 65536
# Sessions that may wait to be accepted: hundreds come at once under load.
BACKLOG = 4096
_SO_MARK = 36
# netfilter_ipv4.h: where the client wanted to go before the redirect.
_SO_ORIGINAL_DST = 80
_ADDRESS = struct.Struct("!HH4s8x")

_RULES = f"""
table ip {TABLE} {{
  map clients {{ type mark : ipv4_addr; }}
  chain prerouting {{
    type nat hook prerouting priority dstnat - 50;
    tcp dport 25 counter redirect to :%d
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat - 50;
    snat to meta mark map @clients
  }}
}}
"""

Address = tuple[str, int]


class Wire:
    """One end of a connection: read by lines, messages or chunks, closed politely or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._pending = b""

    async def chunk(self) -> bytes:
        """What has come by now; nothing at the end, however it came."""
        if self._pending:
            chunk, self._pending = self._pending, b""
            return chunk
        try:
            return await self._reader.read(_CHUNK_BYTES)
        except OSError:
            return b""

    async def line(self) -> bytes:
        """A whole line, its end included; raises EOFError where there is no more."""
        line, newline, self._pending = self._pending.partition(b"\n")
        while not newline:
            chunk = await self.chunk()
            if not chunk:
                raise EOFError
            more, newline, self._pending = chunk.partition(b"\n")
            line += more
        return line + newline

    async def reply(self) -> list[bytes]:
        """All lines of an SMTP reply (RFC 5321 section 4.2)."""
        lines = [await self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
        return lines

    async def message(self) -> AsyncIterator[bytes]:
        """What follows DATA in pieces, up to and with the line of one dot."""
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
        """Wait until the other side closes; what it says until then is kept."""
        kept = b""
        try:
            while chunk := await self.chunk():
                kept += chunk
        finally:
            self._pending = kept + self._pending

    @property
    def gone(self) -> bool:
        """Whether the other side has closed, or half of it, by what the kernel knows."""
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

    def reset(self) -> None:
        """Close with RST: a zero linger time throws away what was not sent (socket(7))."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Close after what was written."""
        self.writer.close()


@dataclass
class Session:
    """One client's connection, and the way to the server that it meant."""

    client: str
    wire: Wire
    reach: Callable[[], Awaitable[Wire]]


class Layer(Protocol):
    """What talks to clients in the server's place."""

    async def talk(self, session: Session) -> None:
        """Have a session from its beginning to its end."""

    def lift(self) -> None:
        """Act no more, and let go whom it keeps waiting."""


class Front:
    """The layers in force, and the sessions that go through them.

    ``server`` is where all sessions go in the end; without it, where each client
    wanted to, and the packet filter leads clients here.
    """

    def __init__(self, server: Address | None = None) -> None:
        self.layers: list[Layer] = []
        self.port = 0
        self._server = server
        self._listener: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()

    async def insert(self, layer: Layer) -> None:
        """Put a layer in front of those there are."""
        self.layers.append(layer)
        if self._listener is not None:
            return
        self._listener = await asyncio.start_server(
            self._accept,
            "0.0.0.0",  # noqa: S104  # a lab's network is closed
            0,
            backlog=BACKLOG,
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        if self._server is None:
            nft(_RULES % self.port)

    async def remove(self, layer: Layer) -> None:
        """Take a layer away; sessions that it does not keep waiting go on to their end."""
        self.layers.remove(layer)
        layer.lift()
        if self.layers or self._listener is None:
            return
        if self._server is None:
            self._release()
        self._listener.close()
        self._listener = None

    async def clear(self) -> None:
        """Take every layer away and cut off every session, also those of who was here before."""
        while self.layers:
            await self.remove(self.layers[-1])
        if self._server is None:
            self._release()
        sessions = list(self._sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _release(self) -> None:
        # Added first, so that there is one to delete.
        nft(f"add table ip {TABLE}; delete table ip {TABLE}")
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
            inner = Wire(*await asyncio.open_connection(sock=theirs))
            # Held by the set of sessions from its first step on.
            asyncio.ensure_future(self._serve(layers[:-1], client, server, inner))  # noqa: RUF006
            return Wire(*await asyncio.open_connection(sock=ours))

        try:
            # None is left when the last one was lifted just now.
            talk = layers[-1].talk if layers else relay
            await talk(Session(client, wire, reach))
        except (EOFError, OSError):
            # One of the two hung up, which is its right; so the other is hung up on.
            pass
        finally:
            self._sessions.discard(task)
            wire.close()

    async def _connect(self, client: str, server: Address) -> Wire:
        """To the real server, from the client's address as far as that can tell."""
        raw = socket.socket()
        raw.setblocking(False)
        if self._server is None:
            mark = int.from_bytes(socket.inet_aton(client))
            if self._listener is not None and client not in self._known:
                nft(f"add element ip {TABLE} clients {{ {mark} : {client} }}")
                self._known.add(client)
            raw.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("=I", mark))
        try:
            await asyncio.get_running_loop().sock_connect(raw, server)
        except BaseException:
            raw.close()
            raise
        return Wire(*await asyncio.open_connection(sock=raw))


async def relay(session: Session) -> None:
    """Hand on everything, both ways, until one side ends."""
    server = await session.reach()
    await pump(session.wire, server, lambda data: data, lambda data: data)


async def pump(
    client: Wire,
    server: Wire,
    from_client: Callable[[bytes], bytes],
    from_server: Callable[[bytes], bytes],
) -> None:
    """Hand on what each side says, as the functions have it, until the server ends."""

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
    # Only the agent's image has it; the rest of this module is tested without.
    from nftables import Nftables  # noqa: PLC0415

    status, _, error = Nftables().cmd(commands)
    if status:
        raise RuntimeError(f"nftables: {error.strip()}")


def _meant(raw: Any) -> Address:
    _, port, address = _ADDRESS.unpack(raw.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    return socket.inet_ntoa(address), port


FRONT = Front()
