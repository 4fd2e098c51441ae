"""UDP sockets that keep what they receive, for programs that send and want no answer."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

ADDRESS = "127.0.0.1"


class Socket(asyncio.DatagramProtocol):
    """One bound port and what came in, in order."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.awaited: dict[bytes, asyncio.Future[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to close it."""
        self.transport = transport
        self.closed = asyncio.get_running_loop().create_future()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Say so to who waits."""
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """Keep it, or wake who waits for it."""
        if data in self.awaited:
            self.awaited.pop(data).set_result(None)
        else:
            self.received.append(data)


_sockets: dict[int, Socket] = {}


async def datagrams_open(port: int) -> dict[str, Any]:
    """Listen on a port of the loopback address; 0 is any. Returns which."""
    loop = asyncio.get_running_loop()
    transport, socket = await loop.create_datagram_endpoint(Socket, local_addr=(ADDRESS, port))
    bound: int = transport.get_extra_info("sockname")[1]
    _sockets[bound] = socket
    return {"port": bound}


async def datagrams(port: int) -> dict[str, Any]:
    """Give all that was sent to the port by now.

    One of our own goes last: the kernel hands them over in the order they were sent.
    """
    socket = _sockets[port]
    last = uuid.uuid4().bytes
    loop = asyncio.get_running_loop()
    arrived = socket.awaited[last] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(ADDRESS, port)
    )
    transport.sendto(last)
    await arrived
    transport.close()
    return {"received": [data.decode("latin-1") for data in socket.received]}


async def datagrams_close(port: int) -> dict[str, Any]:
    """Stop listening."""
    if port in _sockets:
        socket = _sockets.pop(port)
        socket.transport.close()
        await socket.closed
    return {}


async def heal() -> None:
    """Close what a scenario left open."""
    for port in list(_sockets):
        await datagrams_close(port)


OPERATIONS = {
    operation.__name__: operation for operation in (datagrams, datagrams_close, datagrams_open)
}
