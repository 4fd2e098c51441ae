"""The agent's SMTP server misbehaves at its stage, and is correct at every other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import cast

import aiosmtplib
import pytest
from aiosmtplib.errors import (
    SMTPConnectError,
    SMTPConnectResponseError,
    SMTPDataError,
    SMTPHeloError,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from bounded import run
from interception import LineTooLong, Wire
from smtp_scene import HERE, MESSAGE, Real, behind
from smtpserver import TOO_LONG, FaultyServer


@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"])
def test_other_stages_pass_byte_by_byte(stage: str) -> None:
    """A message of several chunks with stuffed dots, and the real server's replies."""

    async def actions() -> tuple[Real, str, FaultyServer]:
        fault = FaultyServer(stage, then="close", after=100)
        async with behind(fault) as scene:
            return scene.real, await scene.send(), fault

    real, reply, fault = run(actions())

    assert real.stored == [MESSAGE.replace(b"\r\n..", b"\r\n...") + b".\r\n"]
    assert "queued as 1A2B" in reply
    assert fault.acted == 0


def test_extensions_that_would_hide_the_session_are_not_offered() -> None:
    """Clients that use them nevertheless are refused."""

    async def actions() -> bytes:
        async with behind(FaultyServer("DATA", then="close")) as scene:
            return await scene.hears(b"EHLO me\r\nSTARTTLS\r\nQUIT\r\n")

    assert run(actions()) == (
        b"220 real ESMTP\r\n250-real\r\n250 PIPELINING\r\n"
        b"502 5.5.1 Error: command not implemented\r\n221 2.0.0 real Bye\r\n"
    )


def test_a_line_without_end_is_refused_and_not_kept() -> None:
    """The client gets an error, and the real server gets nothing."""

    async def actions() -> tuple[bytes, list[bytes]]:
        async with behind(FaultyServer("QUIT", "221 x")) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            heard = await reader.readline()
            with contextlib.suppress(ConnectionError):
                for _ in range(1000):
                    writer.write(b"NOOP" * 10_000)
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                heard += await reader.read()
            writer.close()
            return heard, scene.real.heard

    heard, passed_on = run(actions())

    assert heard in (b"220 real ESMTP\r\n", b"220 real ESMTP\r\n" + TOO_LONG)
    assert passed_on == []


@pytest.mark.parametrize("endless", [b"x", b"250-x\r\n"])
def test_endless_input_is_not_kept(endless: bytes) -> None:
    """A line, a reply of many lines, or input during a pause."""

    async def actions() -> tuple[bool, int]:
        reader = asyncio.StreamReader(limit=1 << 30)
        reader.feed_data(endless * 4_000_000)
        wire = Wire(reader, cast(asyncio.StreamWriter, None))
        try:
            await wire.reply()
        except LineTooLong:
            await wire.ended()
            return True, len(wire._pending)
        return False, 0

    refused, kept_bytes = run(actions())

    assert refused
    assert kept_bytes < 1 << 21


def test_pipelined_commands_are_answered_in_order() -> None:
    """The text after the final dot is a command again (RFC 2920)."""

    async def actions() -> bytes:
        async with behind(FaultyServer("RCPT", reply="450 later", first=1)) as scene:
            script = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"
            return await scene.hears(script + b"x\r\n.\r\nQUIT\r\n")

    *_, mail, first, second, data, end, bye = run(actions()).splitlines()

    assert [mail, first, second, data] == [
        b"250 2.0.0 MAIL",
        b"450 later",
        b"250 2.0.0 RCPT",
        b"354 go on",
    ]
    assert end.startswith(b"250 2.0.0 Ok")
    assert bye.startswith(b"221")


@pytest.mark.parametrize(
    ("stage", "error", "unheard"),
    [
        ("greeting", SMTPConnectResponseError, b"EHLO"),
        ("EHLO", SMTPHeloError, b"EHLO"),
        ("MAIL", SMTPSenderRefused, b"MAIL"),
        ("RCPT", SMTPRecipientsRefused, b"RCPT"),
        ("DATA", SMTPDataError, b"DATA"),
        ("end of data", SMTPDataError, b"DATA"),
    ],
)
def test_a_refusal_replaces_the_real_servers_reply(
    stage: str, error: type[Exception], unheard: bytes
) -> None:
    """An SMTP library takes the reply for real, and the real server gets no command."""

    async def actions() -> tuple[Real, FaultyServer, str]:
        fault = FaultyServer(stage, reply="554 5.7.1 we do not like you")
        async with behind(fault) as scene:
            with pytest.raises(error) as raised:
                await scene.send()
            return scene.real, fault, str(raised.value)

    real, fault, reply = run(actions())

    assert "we do not like you" in reply
    assert unheard not in real.heard
    assert not real.stored
    # aiosmtplib tries HELO after a refused EHLO.
    assert fault.acted == (2 if stage == "EHLO" else 1)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data"]
)
def test_a_client_loses_its_connection(stage: str, then: str) -> None:
    """The real server loses its client, too; nothing is stored."""

    async def actions() -> tuple[Real, FaultyServer]:
        fault = FaultyServer(stage, then=then)
        async with behind(fault) as scene:
            with pytest.raises((SMTPServerDisconnected, SMTPConnectError)):
                await scene.send()
            return scene.real, fault

    real, fault = run(actions())

    assert fault.acted == 1
    assert not real.stored


@pytest.mark.parametrize(("then", "error"), [("close", None), ("reset", ConnectionResetError)])
def test_closing_and_resetting_differ_on_the_wire(then: str, error: type[OSError] | None) -> None:
    """FIN ends the input, RST is an error."""

    async def actions() -> BaseException | None:
        async with behind(FaultyServer("greeting", then=then)) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            try:
                assert await reader.read() == b""
            except OSError as found:
                return found
            finally:
                writer.close()
        return None

    found = run(actions())

    assert isinstance(found, error) if error else found is None


@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_silence_lasts_until_the_client_leaves(stage: str) -> None:
    """It counts although no reply is sent."""

    async def actions() -> FaultyServer:
        fault = FaultyServer(stage, then="silence")
        async with behind(fault) as scene:
            with pytest.raises((aiosmtplib.SMTPTimeoutError, SMTPServerDisconnected)):
                async with await scene.client(timeout_s=0.2) as client:
                    await client.sendmail("a@x.test", ["b@y.test"], MESSAGE)
        return fault

    assert run(actions()).acted == 1


def test_a_delay_holds_the_real_reply() -> None:
    """The reply arrives in the end, and the session continues."""

    async def actions() -> tuple[Real, float, FaultyServer]:
        fault = FaultyServer("RCPT", delay_s=0.2)
        async with behind(fault) as scene:
            began = time.monotonic()
            await scene.send()
            return scene.real, time.monotonic() - began, fault

    real, took_s, fault = run(actions())

    assert took_s >= 0.2
    assert real.stored
    assert fault.acted == 1


def test_a_delayed_refusal_is_still_the_real_one() -> None:
    """A recipient that the real server does not know stays unknown to the session."""

    async def actions() -> bytes:
        async with behind(FaultyServer("RCPT", delay_s=0.01)) as scene:
            return await scene.hears(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<nosuch@x>\r\nQUIT\r\n")

    # A client that sends all at once and closes has gone while the reply is late.
    assert b"550" not in run(actions())


def test_a_reply_comes_byte_by_byte() -> None:
    """There are as many pieces as bytes, with the interval between them."""

    async def actions() -> tuple[list[bytes], float]:
        fault = FaultyServer("greeting", reply="220 slow", byte_interval_s=0.02)
        async with behind(fault) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            began = time.monotonic()
            pieces = [await reader.read(100) for _ in range(10)]
            took_s = time.monotonic() - began
            writer.write(b"QUIT\r\n")
            assert await reader.read() == b"221 2.0.0 real Bye\r\n"
            writer.close()
        assert fault.acted == 1
        return pieces, took_s

    pieces, took_s = run(actions())

    assert b"".join(pieces) == b"220 slow\r\n"
    assert took_s >= 9 * 0.02


@pytest.mark.parametrize(
    ("interval_s", "lifts"),
    [(0.02, True), (1e-6, False)],
    ids=["lifted-before-we-see-it", "between-two-bytes"],
)
def test_a_client_that_leaves_in_mid_reply_counts(interval_s: float, lifts: bool) -> None:  # noqa: FBT001  # a case
    """This also holds if the fault is lifted, or writes on, before it notices the close."""

    async def actions() -> int:
        fault = FaultyServer("greeting", reply="220 " + 1_000_000 * "x", byte_interval_s=interval_s)
        async with behind(fault) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            await reader.read(1)
            Wire(reader, writer).reset()
            # The connection closes in this turn of the loop, and the program sees it in the next.
            await asyncio.sleep(0)
            if lifts:
                fault.lift()
            while not fault.acted:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0)
        return fault.acted

    assert run(actions()) == 1


def test_a_reply_may_have_lines() -> None:
    """As in RFC 5321 section 4.2.1."""

    async def actions() -> bytes:
        async with behind(FaultyServer("EHLO", reply="250-mx\n250 SIZE 10")) as scene:
            return await scene.hears(b"EHLO me\r\nQUIT\r\n")

    assert b"250-mx\r\n250 SIZE 10\r\n" in run(actions())


@pytest.mark.parametrize(
    ("reply", "sent", "heard"),
    [
        ("554 no", b"QUIT\r\n", b"554 no\r\n221 2.0.0 Bye\r\n"),
        ("554 no", b"QUIT\r\nNOOP\r\n", b"554 no\r\n221 2.0.0 Bye\r\n"),
        ("554 no", b"", b"554 no\r\n"),
        ("421 busy", b"", b"421 busy\r\n"),
        ("220 fake", b"QUIT\r\n", b"220 fake\r\n221 2.0.0 real Bye\r\n"),
    ],
)
def test_every_byte_that_a_client_gets_after_the_greeting(
    reply: str, sent: bytes, heard: bytes
) -> None:
    """After a refusal one more line, after 421 none; after 220 the real server continues."""

    async def actions() -> bytes:
        async with behind(FaultyServer("greeting", reply=reply)) as scene:
            return await scene.hears(sent)

    assert run(actions()) == heard


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_message_is_stored_before_the_connection_ends(then: str) -> None:
    """A client that tries again makes a duplicate."""

    async def actions() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", then=then, stored=True, first=1)
        async with behind(fault) as scene:
            with pytest.raises(SMTPServerDisconnected):
                await scene.send()
            await scene.send()
            return scene.real, fault

    real, fault = run(actions())

    assert len(real.stored) == 2
    assert real.stored[0] == real.stored[1]
    assert fault.acted == 1


def test_a_session_goes_on_after_a_message_that_was_refused() -> None:
    """The real server handles the next transaction of the session."""

    async def actions() -> Real:
        async with behind(FaultyServer("end of data", reply="451 4.3.0 no", first=1)) as scene:
            async with await scene.client() as client:
                with pytest.raises(SMTPDataError):
                    await client.sendmail("a@x.test", ["b@y.test"], b"one\r\n")
                await client.sendmail("a@x.test", ["b@y.test"], b"two\r\n")
            return scene.real

    assert run(actions()).stored == [b"two\r\n.\r\n"]


def test_the_real_server_handles_data_without_a_recipient() -> None:
    """There is no end of data at which to misbehave."""

    async def actions() -> FaultyServer:
        fault = FaultyServer("end of data", then="close")
        async with behind(fault) as scene:
            await scene.hears(b"EHLO me\r\nRCPT TO:<nosuch@x>\r\nDATA\r\nx\r\n.\r\n")
        return fault

    assert run(actions()).acted == 0
