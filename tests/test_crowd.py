"""Connections that only wait for a greeting, at a small server on this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from stories import run

import crowd

HERE = "127.0.0.1"
CLIENTS = 3


class SlowServer:
    """Greets one client each time it is told to, and keeps all until they leave."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(0)
        self.sessions: list[asyncio.Future[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have one session."""
        done = asyncio.get_running_loop().create_future()
        self.sessions.append(done)
        await self.free.acquire()
        writer.write(b"220 here\r\n")
        # One that leaves with a greeting unread resets the connection.
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        done.set_result(None)


@pytest.mark.parametrize("at_least", [0, 2])
def test_a_slow_server_is_given_time_for_those_it_is_to_greet(at_least: int) -> None:
    """Without a number it is quiet at once; with one only after the last of them."""

    async def story() -> list[str]:
        slow = SlowServer()
        async with await asyncio.start_server(slow.serve, HERE, 0) as server:
            port = server.sockets[0].getsockname()[1]
            number = (await crowd.crowd_open(HERE, port, count=CLIENTS))["crowd"]
            asking = asyncio.ensure_future(
                crowd.crowd_greetings(number, quiet_s=0.05, at_least=at_least, patience_s=60)
            )
            for _ in range(at_least):
                # Longer than it would be quiet for.
                await asyncio.sleep(0.2)
                assert not asking.done()
                slow.free.release()
            told = list((await asking)["greetings"])
            for _ in range(CLIENTS - at_least):
                slow.free.release()
            await crowd.crowd_close(number)
            await asyncio.gather(*slow.sessions)
        return told

    greeted = ["220 here"] * at_least

    assert sorted(run(story())) == [""] * (CLIENTS - at_least) + greeted
