"""The agent's SMTP server in TLS: after STARTTLS, from the first byte, and at AUTH."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from bounded import run
from certificates import needs_openssl, new_authority
from interception import Front
from maillab.faults.smtp import wire
from smtp_scene import HERE
from smtpserver import FaultyServer

pytestmark = needs_openssl

REPLY = "535-5.7.8 Username and Password not accepted.\n535 5.7.8 see the manual"
CREDENTIALS = "AGFsaWNlAHNlY3JldA=="


@pytest.fixture(scope="module")
def pem() -> str:
    """Return a server's key and certificate."""
    return new_authority().issue("mx.test").pem


class Real:
    """The real server: TLS after STARTTLS or at once, and a login in one or two steps."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.heard: list[str] = []
        self.sessions: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task
        self.sessions.add(task)
        try:
            await self.answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each command until the client leaves."""
        writer.write(b"220 real ESMTP\r\n")
        while line := (await reader.readline()).decode().strip():
            self.heard.append(line)
            if line.startswith("EHLO"):
                writer.write(
                    b"250-real\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n250 CHUNKING\r\n"
                )
            elif line == "STARTTLS":
                writer.write(b"220 go on\r\n")
                await writer.start_tls(self.context)
            elif line == "AUTH LOGIN":
                writer.write(b"334 VXNlcm5hbWU6\r\n")
                self.heard.append((await reader.readline()).decode().strip())
                writer.write(b"235 2.7.0 welcome\r\n")
            else:
                writer.write(b"250 2.0.0 Ok\r\n")


def trusting() -> ssl.SSLContext:
    """Return the TLS of a client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def talk(
    folder: Path,
    pem: str,
    faults: list[FaultyServer],
    actions: Callable[[aiosmtplib.SMTP], Coroutine[Any, Any, None]],
    *,
    port: int = 587,
) -> Real:
    """Run a client's actions against faults in front of a real server, in TLS."""
    at_once = port == 465
    (folder / "chain.pem").write_text(pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "chain.pem")
    real = Real(context)

    async def scene() -> None:
        tls = context if at_once else None
        async with await asyncio.start_server(real.serve, HERE, 0, ssl=tls) as server:
            front = Front(server.sockets[0].getsockname()[:2])
            for fault in faults:
                await front.insert(fault)
            client = aiosmtplib.SMTP(
                hostname=HERE,
                port=front.port,
                use_tls=at_once,
                start_tls=not at_once,
                tls_context=trusting(),
            )
            await client.connect()
            await client.ehlo()
            try:
                await actions(client)
            finally:
                client.close()
                await front.clear()
                await asyncio.gather(*real.sessions)

    run(scene())
    return real


@pytest.mark.parametrize("port", [587, 465])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_login_is_refused_in_tls(tmp_path: Path, pem: str, port: int, layers: int) -> None:
    """The reply has all its lines, and the real server never sees the credentials."""
    fault = FaultyServer("AUTH", reply=REPLY, port=port, pem=pem)
    beside = [FaultyServer("DATA", then="close", port=port, pem=pem)] * (layers - 1)

    async def login(client: aiosmtplib.SMTP) -> None:
        for command in (f"AUTH PLAIN {CREDENTIALS}", "AUTH LOGIN"):
            first = await client.execute_command(command.encode())
            while first.code == 334:
                first = await client.execute_command(b"YWxpY2U=")
            assert (first.code, first.message) == (
                535,
                "5.7.8 Username and Password not accepted.\n5.7.8 see the manual",
            )
        # The session goes on.
        assert (await client.noop()).code == 250

    real = talk(tmp_path, pem, [fault, *beside], login, port=port)

    assert fault.acted == 2
    assert not [line for line in real.heard if "AUTH" in line or "YWxp" in line]
    assert "NOOP" in real.heard


def test_a_late_reply_to_a_login_is_the_real_servers(tmp_path: Path, pem: str) -> None:
    """The dialogue of AUTH passes to the real server; CHUNKING is not offered."""
    fault = FaultyServer("AUTH", delay_s=0.01, port=587, pem=pem)

    async def login(client: aiosmtplib.SMTP) -> None:
        assert not client.supports_extension("chunking")
        assert (await client.execute_command(b"AUTH LOGIN")).code == 334
        assert (await client.execute_command(b"YWxpY2U=")).code == 235

    real = talk(tmp_path, pem, [fault], login)

    assert real.heard[-1] == "YWxpY2U="
    assert fault.acted == 1


def test_the_size_of_a_record_tells_the_reply(pem: str) -> None:
    """The kernel's rule has the header of the record that TLS really sends (RFC 8446)."""
    server = FaultyServer("AUTH", reply=REPLY, port=465, pem=pem).tls
    assert server is not None
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(received, sent, server_side=True)
    theirs = trusting().wrap_bio(sent, received)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (theirs, ours):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {ours, theirs}
    sent.read()

    ours.write(REPLY.replace("\n", "\r\n").encode() + b"\r\n")

    assert sent.read().startswith(wire.sealed(REPLY))
