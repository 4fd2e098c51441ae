"""Delays the answers of a service on this host's loopback, such as a Milter's.

A redirect leads new connections to a proxy here. What the client sends passes at once, and what
the service answers passes later. Connections that are open already stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from typing import Any

from interception import BACKLOG, Wire, nft
from operations import Handles, operation

ADDRESS = "127.0.0.1"
# The proxy's own connections to the service, which are not redirected. The rules that count
# (faults/process/filter_slow.py) know the mark, too.
MARK = 0x51021
_SO_MARK = 36
_numbers = itertools.count(1)

_RULES = """
table ip %s {
  chain output {
    type nat hook output priority -150;
    ip daddr 127.0.0.0/8 tcp dport %d meta mark != %d counter redirect to :%d
  }
}
"""


class SlowService:
    """A proxy before one port; ``acted`` counts the answers that came late, or too late."""

    def __init__(self, port: int, delay_s: float) -> None:
        self.acted = 0
        self._port = port
        self._delay_s = delay_s
        self._lifted = asyncio.Event()
        self._table = f"maillab_slow_{os.getpid()}_{next(_numbers)}"
        self._listener: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Redirect new connections here."""
        self._listener = await asyncio.start_server(self._accept, ADDRESS, 0, backlog=BACKLOG)
        nft(_RULES % (self._table, self._port, MARK, self.port))

    @property
    def port(self) -> int:
        """The port of the proxy."""
        assert self._listener is not None  # noqa: S101  # for mypy: it has begun
        return int(self._listener.sockets[0].getsockname()[1])

    async def end(self) -> None:
        """Redirect no more; answers that wait pass at once, and open sessions go on."""
        self._lifted.set()
        # Add the table first, so that deleting it cannot fail.
        nft(f"add table ip {self._table}; delete table ip {self._table}")
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy
        self._sessions.add(task)
        client = Wire(reader, writer)
        try:
            await self._serve(client)
        except OSError:
            # One side closed, as it may; so the other side is closed, too.
            pass
        finally:
            self._sessions.discard(task)
            client.close()

    async def _serve(self, client: Wire) -> None:
        service = await self._connect()
        onward = asyncio.ensure_future(_pass_on(client, service))
        try:
            while answer := await service.chunk():
                await self._delay(onward)
                await client.send(answer)
        finally:
            onward.cancel()
            service.close()
            await asyncio.gather(onward, return_exceptions=True)

    async def _delay(self, client_ends: asyncio.Future[None]) -> None:
        """Wait; stop waiting if the fault is lifted or the client leaves."""
        lifted = asyncio.ensure_future(self._lifted.wait())
        await asyncio.wait(
            (client_ends, lifted), timeout=self._delay_s, return_when="FIRST_COMPLETED"
        )
        # A client that leaves has waited in vain.
        self.acted += not self._lifted.is_set()
        lifted.cancel()
        await asyncio.gather(lifted, return_exceptions=True)

    async def _connect(self) -> Wire:
        raw = socket.socket()
        raw.setblocking(False)
        # Only where the packet filter is ours to change; the tests need no rights.
        with contextlib.suppress(PermissionError):
            raw.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("=I", MARK))
        try:
            await asyncio.get_running_loop().sock_connect(raw, (ADDRESS, self._port))
        except BaseException:
            raw.close()
            raise
        return Wire(*await asyncio.open_connection(sock=raw))


async def _pass_on(client: Wire, service: Wire) -> None:
    while request := await client.chunk():
        await service.send(request)
    if service.writer.can_write_eof():
        service.writer.write_eof()


async def _end(service: SlowService) -> None:
    await service.end()


_services: Handles[SlowService] = Handles(__name__, _end)


@operation(service=0)
async def answers_delay(port: int, delay_s: float) -> dict[str, Any]:
    """Delay every answer of the service on this port of the loopback."""
    service = SlowService(port, delay_s)
    await service.begin()
    return {"service": _services.add(service)}


@operation(acted=0)
async def answers_undelay(service: int) -> dict[str, Any]:
    """Delay no more; return the number of answers that came late, or too late."""
    if service not in _services:
        return {"acted": 0}
    acted = _services[service].acted
    await _services.undo(service)
    return {"acted": acted}
