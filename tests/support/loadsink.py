"""A server of known behaviour on loopback, and a complete load on it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from typing import Any

import load
from maillab.load.report import Attempted

_MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class Sink:
    """A server that sends configured replies and stores each message."""

    def __init__(self, **replies: str) -> None:
        self.replies = replies
        self.stored: list[bytes] = []
        self.commands: Counter[str] = Counter()
        self.sessions = 0
        self.open = 0
        self.open_max = 0
        self.hangs_up_after = 0
        # Numbers of connections that are accepted and never greeted.
        self.silent: set[int] = set()
        # Numbers of connections that are closed, with 421, as soon as they are open.
        self.closed: set[int] = set()
        self.tls: ssl.SSLContext | None = None
        self._served: set[asyncio.Task[None]] = set()

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_MESSAGE_BYTES_MAX)

    async def end(self) -> None:
        """Wait until the last session is over and its connection is closed."""
        await asyncio.gather(*self._served)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def before_the_greeting(self) -> None:
        """Wait, in subclasses, before the greeting."""

    async def before_a_reply(self, word: str) -> None:
        """Wait, in subclasses, before the reply to a command."""

    async def before_the_end(self, data: bytes) -> None:
        """Wait, in subclasses, before the reply to the end of data."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        number = self.sessions
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        if self.sessions in self.silent:
            await reader.read()
            self.open -= 1
            return
        await self.before_the_greeting()
        writer.write(f"{self.replies.get('greeting', '220 sink')}\r\n".encode())
        while line := await reader.readline():
            word = line.split()[0].decode().upper()
            self.commands[word] += 1
            await self.before_a_reply(word)
            if word == "DATA":
                writer.write(b"354 go on\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                if self.hangs_up_after and len(self.stored) >= self.hangs_up_after:
                    break
                await self.before_the_end(data)
                self.stored.append(data)
                writer.write(
                    f"{self.replies.get('end', '250 2.0.0 Ok: queued as A1')}\r\n".encode()
                )
            elif word == "STARTTLS" and self.tls:
                writer.write(b"220 go on\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            elif word == "EHLO" and number in self.closed:
                writer.write(b"250-sink\r\n250 ok\r\n421 4.4.2 sink timed out\r\n")
                break
            else:
                writer.write(f"{self.replies.get(word, '250 ok')}\r\n".encode())
        self.open -= 1


async def until_it_is(number: int, what: str) -> dict[str, Any]:
    """Wait until a load is "ready" or has "ended"; return its status."""
    while not (status := await load.load_status(number))[what]:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.02)
    return status


def plan(port: int, **changes: Any) -> dict[str, Any]:
    """Return the plan of a small load."""
    return {
        "address": "127.0.0.1", "port": port, "name": "client.test", "sender": "load@client.test",
        "token": "tok", "templates": ["To: @TO@\r\n\r\nmessage @TOKEN@\r\n"],
        "template_weights": [1.0], "recipients": ["a@x.test", "b@x.test", "c@x.test"],
        "recipient_counts": [[1, 1.0]], "sessions": 4, "messages": 20, "messages_per_session": 1,
        "rate": 0, "barrier": False, "tls": False, "auth": "", "retries": 0, "timeout_s": 20,
        "greeting_wait_s": 20, "seed": 1, "first_number": 0, "step": 1,
    } | changes  # fmt: skip


async def play(sink: Sink, **changes: Any) -> tuple[list[Attempted], dict[str, Any]]:
    """Run a load from start to report."""
    server = await sink.start()
    async with server:
        port = server.sockets[0].getsockname()[1]
        started = await load.load_start([plan(port, **changes)])
        number = started["load"]
        if changes.get("barrier"):
            await until_it_is(number, "ready")
        await load.load_go(number)
        await until_it_is(number, "ended")
        done = await load.load_stop(number)
        await sink.end()
    return [Attempted.of(line) for line in done["messages"]], done["status"]
