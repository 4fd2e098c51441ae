"""Connections that only wait for a greeting, at a small server on this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import connections
from bounded import run

HERE = "127.0.0.1"
CLIENTS = 3


class SlowServer:
    """Greets one client per ``free`` permit, and keeps all sessions open until they end."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(0)
        self.sessions: list[asyncio.Future[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run one session."""
        done = asyncio.get_running_loop().create_future()
        self.sessions.append(done)
        await self.free.acquire()
        writer.write(b"220 here\r\n")
        # A client that leaves with an unread greeting resets the connection.
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        done.set_result(None)


@pytest.mark.parametrize("at_least", [0, 2])
def test_a_slow_server_has_time_for_at_least_this_many_greetings(at_least: int) -> None:
    """The wait ends at once without ``at_least``, otherwise after that many greetings."""

    async def actions() -> list[str]:
        slow = SlowServer()
        async with await asyncio.start_server(slow.serve, HERE, 0) as server:
            port = server.sockets[0].getsockname()[1]
            number = (await connections.connections_open(HERE, port, count=CLIENTS, within_s=30))[
                "connections"
            ]
            asking = asyncio.ensure_future(
                connections.connections_greetings(
                    number, quiet_s=0.05, at_least=at_least, patience_s=60
                )
            )
            for _ in range(at_least):
                # This is longer than the time after which the server counts as quiet.
                await asyncio.sleep(0.2)
                assert not asking.done()
                slow.free.release()
            greetings = list((await asking)["greetings"])
            for _ in range(CLIENTS - at_least):
                slow.free.release()
            await connections.connections_close(number)
            await asyncio.gather(*slow.sessions)
        return greetings

    greeted = ["220 here"] * at_least

    assert sorted(run(actions())) == [""] * (CLIENTS - at_least) + greeted
