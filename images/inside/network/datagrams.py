"""UDP sockets that store what they receive, for programs that send and expect no answer."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from operations import Handles, operation

ADDRESS = "127.0.0.1"


class Socket(asyncio.DatagramProtocol):
    """One bound port and the datagrams that arrived, in order."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.awaited: dict[bytes, asyncio.Future[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to close it later."""
        self.transport = transport
        self.closed = asyncio.get_running_loop().create_future()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Wake the task that waits for the end."""
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """Store a datagram, or wake the task that waits for it."""
        if data in self.awaited:
            self.awaited.pop(data).set_result(None)
        else:
            self.received.append(data)


async def _close(socket: Socket) -> None:
    socket.transport.close()
    await socket.closed


# The sockets by port.
_sockets: Handles[Socket] = Handles(__name__, _close)


@operation(port=0)
async def datagrams_open(port: int) -> dict[str, Any]:
    """Listen on a port of the loopback address, 0 for any; return the port."""
    loop = asyncio.get_running_loop()
    transport, socket = await loop.create_datagram_endpoint(Socket, local_addr=(ADDRESS, port))
    bound: int = transport.get_extra_info("sockname")[1]
    _sockets.add(socket, bound)
    return {"port": bound}


@operation(received=[])
async def datagrams(port: int) -> dict[str, Any]:
    """Return every datagram sent to the port so far.

    A datagram of our own goes last: the kernel delivers them in the order of sending.
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


@operation()
async def datagrams_close(port: int) -> dict[str, Any]:
    """Stop listening on a port."""
    if port in _sockets:
        await _sockets.undo(port)
    return {}
