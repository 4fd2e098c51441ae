"""The agent's SMTP client, on this machine's loopback."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smtpclient
from bounded import run

HERE = "127.0.0.1"


@dataclass
class Conversation:
    """One client of a scripted server: its lines, and the way it closed."""

    lines: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Scripted:
    """A server that answers each line of a client with the next reply of its script.

    ``None`` in the script closes the connection. After ``354`` a whole message is one line.
    """

    script: list[str | None]
    port: int = 0
    clients: list[Conversation] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        client = Conversation()
        self.clients.append(client)
        end = b"\n"
        try:
            for reply in self.script:
                if reply is None:
                    return
                writer.write(reply.replace("\n", "\r\n").encode("latin-1") + b"\r\n")
                await writer.drain()
                end = b"\r\n.\r\n" if reply.startswith("354") else b"\n"
                client.lines.append(await reader.readuntil(end))
            assert await reader.read() == b""
        except (OSError, asyncio.IncompleteReadError) as error:
            client.lines.append(getattr(error, "partial", b""))
        finally:
            writer.close()
            client.ended.set()


@asynccontextmanager
async def scripted(*script: str | None) -> AsyncIterator[Scripted]:
    """Yield a scripted server that listens for the block."""
    server_ = Scripted(list(script))
    server = await asyncio.start_server(server_.serve, HERE, 0)
    server_.port = server.sockets[0].getsockname()[1]
    async with server:
        yield server_
        for client in server_.clients:
            await client.ended.wait()


@asynccontextmanager
async def session(port: int) -> AsyncIterator[Callable[[str], Awaitable[dict[str, Any]]]]:
    """Open a session; yield the function that sends one line in it."""
    opened = await smtpclient.smtp_open(HERE, port)
    assert opened["code"] == 220

    async def say(line: str) -> dict[str, Any]:
        return await smtpclient.smtp_command(opened["session"], line)

    try:
        yield say
    finally:
        await smtpclient.smtp_close(opened["session"])


@pytest.fixture(autouse=True)
def _no_session_is_left() -> Iterator[None]:
    """Check that each test closes the sessions that it opens."""
    yield
    assert list(smtpclient._sessions) == []


@pytest.fixture
def dead_port() -> int:
    """Return a port of this machine on which no program listens."""
    with closing(socket.create_server((HERE, 0))) as free:
        return int(free.getsockname()[1])


# The client.


def test_the_greeting_is_the_first_reply() -> None:
    """The reply comes with a number for the session, which later steps use."""

    async def actions() -> tuple[dict[str, Any], list[bytes]]:
        async with scripted("220-mx.test ESMTP\n220 ready") as server:
            opened = await smtpclient.smtp_open(HERE, server.port)
            await smtpclient.smtp_close(opened["session"])
        return opened, server.clients[0].lines

    opened, lines = run(actions())

    assert opened["session"] > 0
    assert (opened["code"], opened["text"]) == (220, "mx.test ESMTP\nready")
    # The client sent nothing by itself, and closed without QUIT.
    assert lines == [b""]


def test_lines_and_replies_are_unchanged() -> None:
    """Nothing is added, removed or repeated."""

    async def actions() -> tuple[list[dict[str, Any]], list[bytes]]:
        script = "220 hi", "250-mx.test\n250-SIZE\n250 DSN", "250 2.1.0 Ok", "550 5.1.1 <x>: no"
        async with scripted(*script, "500 5.5.2 What?") as server, session(server.port) as say:
            lines = "EHLO me", "MAIL FROM:<> SIZE=7", "RCPT TO:<x@y.test>", "J\xe4h  ?"
            replies = [await say(line) for line in lines]
        return replies, server.clients[0].lines

    replies, lines = run(actions())

    assert replies == [
        {"code": 250, "text": "mx.test\nSIZE\nDSN"},
        {"code": 250, "text": "2.1.0 Ok"},
        {"code": 550, "text": "5.1.1 <x>: no"},
        {"code": 500, "text": "5.5.2 What?"},
    ]
    assert lines[:4] == [
        b"EHLO me\r\n",
        b"MAIL FROM:<> SIZE=7\r\n",
        b"RCPT TO:<x@y.test>\r\n",
        b"J\xe4h  ?\r\n",
    ]


def test_bytes_sent_without_waiting_are_unchanged() -> None:
    """Its reply is not read, and the session can be closed."""

    async def actions() -> list[bytes]:
        async with scripted("220 hi", "250 Ok", "250 Ok") as server:
            opened = await smtpclient.smtp_open(HERE, server.port)
            await smtpclient.smtp_say(opened["session"], "half a l\xefne")
            await smtpclient.smtp_say(opened["session"], "\r\n")
            await smtpclient.smtp_close(opened["session"])
            await server.clients[0].ended.wait()
        return server.clients[0].lines

    assert run(actions()) == [b"half a l\xefne\r\n", b""]


def data_of(content: bytes) -> bytes:
    """Return the data that a server gets when a message is sent, with the final dot."""

    async def actions() -> bytes:
        script = "220 hi", "354 go on", "250 2.0.0 Ok: queued as 1A2B"
        async with scripted(*script) as server:
            opened = await smtpclient.smtp_open(HERE, server.port)
            done = await smtpclient.smtp_data(opened["session"], content.decode("latin-1"))
            await smtpclient.smtp_close(opened["session"])
            assert done == {"code": 250, "text": "2.0.0 Ok: queued as 1A2B"}
        first, message, *_ = server.clients[0].lines
        # An EHLO here would end the transaction that the scenario began.
        assert first == b"DATA\r\n"
        return message

    return run(actions())


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a: b\n\ntext\n", b"a: b\r\n\r\ntext\r\n.\r\n"),
        (b"a: b\n\n.dot\n..\n", b"a: b\r\n\r\n..dot\r\n...\r\n.\r\n"),
        (b"a: b\n\nno end", b"a: b\r\n\r\nno end\r\n.\r\n"),
        (b"a: b\n\n\xe4\x00\xff\n", b"a: b\r\n\r\n\xe4\x00\xff\r\n.\r\n"),
    ],
    ids=["line ends", "dots", "no line end", "any bytes"],
)
def test_data_sends_the_message_with_dots_stuffed(content: bytes, sent: bytes) -> None:
    """RFC 5321 section 4.5.2, and CRLF as the only line end."""
    assert data_of(content) == sent


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=20).map(lambda line: re.sub(rb"[\r\n]", b"", line)), min_size=1))
def test_a_server_that_unstuffs_gets_what_was_sent(lines: list[bytes]) -> None:
    """This holds for any bytes."""
    sent = data_of(b"".join(line + b"\n" for line in lines)).removesuffix(b".\r\n")

    assert [line.removeprefix(b".") for line in sent.split(b"\r\n")[:-1]] == lines


def test_a_refused_data_is_a_reply() -> None:
    """The refusal comes before the message, or after it."""

    async def actions(*script: str) -> dict[str, Any]:
        async with scripted("220 hi", *script) as server:
            opened = await smtpclient.smtp_open(HERE, server.port)
            done = await smtpclient.smtp_data(opened["session"], "a: b\n\ntext\n")
            await smtpclient.smtp_close(opened["session"])
        return done

    assert run(actions("503 5.5.1 no RCPT")) == {"code": 503, "text": "5.5.1 no RCPT"}
    assert run(actions("354 go", "550 5.7.1 spam")) == {"code": 550, "text": "5.7.1 spam"}


@pytest.mark.parametrize(
    ("greeting", "code"), [("421 4.3.2 busy", 421), ("554 5.7.1 no", 554), ("250 odd", 250)]
)
def test_a_greeting_other_than_220_opens_no_session(greeting: str, code: int) -> None:
    """Its reply is returned, and the connection is closed."""

    async def actions() -> dict[str, Any]:
        # The server waits until the client has closed.
        async with scripted(greeting) as server:
            return await smtpclient.smtp_open(HERE, server.port)

    opened = run(actions())

    assert (opened["session"], opened["code"], opened["text"]) == (0, code, greeting[4:])


def test_a_server_that_closes_at_once_gives_no_reply() -> None:
    """The code is 0, with the reason as text."""

    async def actions() -> dict[str, Any]:
        async with scripted(None) as server:
            return await smtpclient.smtp_open(HERE, server.port)

    opened = run(actions())

    assert (opened["session"], opened["code"]) == (0, 0)
    assert opened["text"].startswith("SMTP")


def test_a_port_without_a_listener_gives_no_reply(dead_port: int) -> None:
    """The code is 0, with the reason as text."""
    opened = run(smtpclient.smtp_open(HERE, dead_port))

    assert (opened["session"], opened["code"]) == (0, 0)
    assert str(dead_port) in opened["text"]


def test_a_server_that_never_greets_hits_the_time_limit() -> None:
    """The code is 0 after the time limit, and the connection is closed."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        gone.set()

    async def actions() -> dict[str, Any]:
        async with await asyncio.start_server(silent, HERE, 0) as server:
            port = server.sockets[0].getsockname()[1]
            opened = await smtpclient.smtp_open(HERE, port, timeout_s=0.1)
            await gone.wait()
        return opened

    gone = asyncio.Event()
    opened = run(actions())

    assert (opened["session"], opened["code"]) == (0, 0)
    assert "imed out" in opened["text"]


@pytest.mark.parametrize("cut", [1, 2, 3], ids=["after EHLO", "after DATA", "after the message"])
def test_a_broken_connection_gives_code_0_from_then_on(cut: int) -> None:
    """The break may come at any step; later steps of the session return code 0, too."""
    script = ["220 hi", "250 mx.test", "354 go on", "250 queued"]
    broken = [*script[: cut + 1], None]
    broken[cut] = None

    async def actions() -> list[int]:
        async with scripted(*broken) as server:
            opened = await smtpclient.smtp_open(HERE, server.port)
            number = opened["session"]
            replies = [
                await smtpclient.smtp_command(number, "EHLO me"),
                await smtpclient.smtp_data(number, "a: b\n\ntext\n"),
                await smtpclient.smtp_command(number, "QUIT"),
            ]
            await smtpclient.smtp_close(number)
        assert all(isinstance(reply["text"], str) and reply["text"] for reply in replies)
        return [reply["code"] for reply in replies]

    assert run(actions()) == [250 if cut > 1 else 0, 0, 0]


def test_after_a_421_in_mid_session_there_are_no_replies() -> None:
    """A server that sends 421 closes the connection (RFC 5321 section 3.8)."""

    async def actions() -> list[dict[str, Any]]:
        script = "220 hi", "421 4.3.2 shutting down"
        async with scripted(*script) as server, session(server.port) as say:
            return [await say("NOOP"), await say("NOOP")]

    reply_421, nothing = run(actions())

    assert reply_421 == {"code": 421, "text": "4.3.2 shutting down"}
    assert nothing["code"] == 0


def test_concurrent_sessions_do_not_mix() -> None:
    """Each has its own connection."""

    async def actions() -> list[str]:
        async with scripted("220 one", "250 one") as one, scripted("220 two", "250 two") as two:
            first = await smtpclient.smtp_open(HERE, one.port)
            second = await smtpclient.smtp_open(HERE, two.port)
            numbers = second["session"], first["session"]
            replies = [await smtpclient.smtp_command(number, "NOOP") for number in numbers]
            for number in numbers:
                await smtpclient.smtp_close(number)
        return [reply["text"] for reply in replies]

    assert run(actions()) == ["two", "one"]


def test_closing_twice_is_no_error_and_an_unknown_session_is() -> None:
    """A closed session is an unknown one."""
    assert run(smtpclient.smtp_close(12345)) == {}
    with pytest.raises(KeyError):
        run(smtpclient.smtp_command(12345, "NOOP"))
