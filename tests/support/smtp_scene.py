"""A small real SMTP server on loopback, with the agent's faults in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiosmtplib

from bounded import BOUND_S
from interception import Front
from smtpserver import FaultyServer

HERE = "127.0.0.1"
MESSAGE = b"Subject: x\r\n\r\n..dot\r\n" + 70_000 * b"long " + b"\r\n"


@dataclass
class Real:
    """The real server, which accepts every recipient except nosuch."""

    heard: list[bytes] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task
        self.sessions.add(task)
        try:
            await self.answer(reader, writer)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each command until the client leaves."""
        writer.write(b"220 real ESMTP\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper()
            self.heard.append(verb)
            if verb == b"EHLO":
                writer.write(b"250-real\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 CHUNKING\r\n")
            elif b"nosuch" in line:
                writer.write(b"550 5.1.1 no such user\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                try:
                    self.stored.append(await reader.readuntil(b"\r\n.\r\n"))
                except asyncio.IncompleteReadError:
                    break
                writer.write(b"250 2.0.0 Ok: queued as 1A2B\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 real Bye\r\n")
                break
            else:
                writer.write(b"250 2.0.0 " + verb + b"\r\n")


@dataclass
class Scene:
    """A real server and the faults in front of it."""

    real: Real
    front: Front

    async def client(self, timeout_s: float = BOUND_S) -> aiosmtplib.SMTP:
        """Return a connected client of aiosmtplib."""
        client = aiosmtplib.SMTP(
            hostname=HERE, port=self.front.port, timeout=timeout_s, start_tls=False
        )
        await client.connect()
        return client

    async def send(self, *recipients: str, message: bytes = MESSAGE) -> str:
        """Send a message with aiosmtplib and return the last reply."""
        async with await self.client() as client:
            _, reply = await client.sendmail("a@x.test", recipients or ("b@y.test",), message)
        return reply

    async def hears(self, sent: bytes) -> bytes:
        """Send these bytes, then end of input; return everything received."""
        reader, writer = await asyncio.open_connection(HERE, self.front.port)
        writer.write(sent)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def behind(*faults: FaultyServer) -> AsyncIterator[Scene]:
    """Run a real server with faults in front, the last one nearest to the client."""
    real = Real()
    async with await asyncio.start_server(real.serve, HERE, 0, limit=1 << 20) as server:
        front = Front(server.sockets[0].getsockname()[:2])
        for fault in faults:
            await front.insert(fault)
        try:
            yield Scene(real, front)
        finally:
            await front.clear()
            await asyncio.gather(*real.sessions)
