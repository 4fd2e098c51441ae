"""The agent's SMTP server misbehaves at the stage it is told, and is honest at every other."""

from __future__ import annotations

import asyncio
import time

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
from smtp_scene import HERE, MESSAGE, Real, behind
from stories import run

from interception import Wire
from smtpserver import FaultyServer


@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"])
def test_what_is_not_its_turn_goes_through_byte_by_byte(stage: str) -> None:
    """A message of more than one chunk, its dots stuffed, and the real server's replies."""

    async def story() -> tuple[Real, str, FaultyServer]:
        fault = FaultyServer(stage, then="close", after=100)
        async with behind(fault) as scene:
            return scene.real, await scene.send(), fault

    real, reply, fault = run(story())

    assert real.stored == [MESSAGE.replace(b"\r\n..", b"\r\n...") + b".\r\n"]
    assert "queued as 1A2B" in reply
    assert fault.acted == 0


def test_extensions_that_would_hide_the_session_are_not_offered() -> None:
    """Nor to be had by those who ask all the same."""

    async def story() -> bytes:
        async with behind(FaultyServer("DATA", then="close")) as scene:
            return await scene.hears(b"EHLO me\r\nSTARTTLS\r\nQUIT\r\n")

    assert run(story()) == (
        b"220 real ESMTP\r\n250-real\r\n250 PIPELINING\r\n"
        b"502 5.5.1 Error: command not implemented\r\n221 2.0.0 real Bye\r\n"
    )


def test_pipelined_commands_are_answered_in_order() -> None:
    """What stands behind the final dot is a command again (RFC 2920)."""

    async def story() -> bytes:
        async with behind(FaultyServer("RCPT", reply="450 later", first=1)) as scene:
            script = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"
            return await scene.hears(script + b"x\r\n.\r\nQUIT\r\n")

    *_, mail, first, second, data, end, bye = run(story()).splitlines()

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
def test_a_refusal_is_heard_in_the_real_servers_place(
    stage: str, error: type[Exception], unheard: bytes
) -> None:
    """A real SMTP client takes it for what it says, and the real server never hears."""

    async def story() -> tuple[Real, FaultyServer, str]:
        fault = FaultyServer(stage, reply="554 5.7.1 we do not like you")
        async with behind(fault) as scene:
            with pytest.raises(error) as raised:
                await scene.send()
            return scene.real, fault, str(raised.value)

    real, fault, said = run(story())

    assert "we do not like you" in said
    assert unheard not in real.heard
    assert not real.stored
    # aiosmtplib goes on to HELO after a refused EHLO.
    assert fault.acted == (2 if stage == "EHLO" else 1)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data"]
)
def test_a_client_is_hung_up_on(stage: str, then: str) -> None:
    """And the real server loses its client, too; nothing is stored."""

    async def story() -> tuple[Real, FaultyServer]:
        fault = FaultyServer(stage, then=then)
        async with behind(fault) as scene:
            with pytest.raises((SMTPServerDisconnected, SMTPConnectError)):
                await scene.send()
            return scene.real, fault

    real, fault = run(story())

    assert fault.acted == 1
    assert not real.stored


@pytest.mark.parametrize(("then", "error"), [("close", None), ("reset", ConnectionResetError)])
def test_closing_and_resetting_differ_on_the_wire(then: str, error: type[OSError] | None) -> None:
    """FIN is the end of what is read, RST is an error."""

    async def story() -> BaseException | None:
        async with behind(FaultyServer("greeting", then=then)) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            try:
                assert await reader.read() == b""
            except OSError as found:
                return found
            finally:
                writer.close()
        return None

    found = run(story())

    assert isinstance(found, error) if error else found is None


@pytest.mark.parametrize("stage", ["connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_silence_lasts_until_the_client_has_enough(stage: str) -> None:
    """It counts although nothing is said."""

    async def story() -> FaultyServer:
        fault = FaultyServer(stage, then="silence")
        async with behind(fault) as scene:
            with pytest.raises((aiosmtplib.SMTPTimeoutError, SMTPServerDisconnected)):
                async with await scene.client(timeout_s=0.2) as client:
                    await client.sendmail("a@x.test", ["b@y.test"], MESSAGE)
        return fault

    assert run(story()).acted == 1


def test_a_delay_keeps_the_real_reply_back() -> None:
    """It comes in the end, and the session goes on."""

    async def story() -> tuple[Real, float, FaultyServer]:
        fault = FaultyServer("RCPT", delay_s=0.2)
        async with behind(fault) as scene:
            began = time.monotonic()
            await scene.send()
            return scene.real, time.monotonic() - began, fault

    real, took_s, fault = run(story())

    assert took_s >= 0.2
    assert real.stored
    assert fault.acted == 1


def test_a_delayed_refusal_is_still_the_real_one() -> None:
    """A recipient that the real server does not know stays unknown to the session."""

    async def story() -> bytes:
        async with behind(FaultyServer("RCPT", delay_s=0.01)) as scene:
            return await scene.hears(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<nosuch@x>\r\nQUIT\r\n")

    # A client that says all at once and closes is gone while the reply is late.
    assert b"550" not in run(story())


def test_a_reply_comes_byte_by_byte() -> None:
    """As many pieces as bytes, with the interval between."""

    async def story() -> tuple[list[bytes], float]:
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

    pieces, took_s = run(story())

    assert b"".join(pieces) == b"220 slow\r\n"
    assert took_s >= 9 * 0.02


@pytest.mark.parametrize(
    ("interval_s", "lifts"),
    [(0.02, True), (1e-6, False)],
    ids=["lifted-before-we-see-it", "between-two-bytes"],
)
def test_who_goes_in_mid_reply_has_met_the_fault(interval_s: float, lifts: bool) -> None:  # noqa: FBT001  # a case
    """Also where the fault is lifted, or writes on, before it knows that the client has gone."""

    async def story() -> int:
        fault = FaultyServer("greeting", reply="220 " + 1_000_000 * "x", byte_interval_s=interval_s)
        async with behind(fault) as scene:
            reader, writer = await asyncio.open_connection(HERE, scene.front.port)
            await reader.read(1)
            Wire(reader, writer).reset()
            # The connection's end is done in this turn of the loop, and seen in the next.
            await asyncio.sleep(0)
            if lifts:
                fault.lift()
            while not fault.acted:  # noqa: ASYNC110  # a counter tells nobody that it rises
                await asyncio.sleep(0)
        return fault.acted

    assert run(story()) == 1


def test_a_reply_may_have_lines() -> None:
    """As RFC 5321 section 4.2.1 has them."""

    async def story() -> bytes:
        async with behind(FaultyServer("EHLO", reply="250-mx\n250 SIZE 10")) as scene:
            return await scene.hears(b"EHLO me\r\nQUIT\r\n")

    assert b"250-mx\r\n250 SIZE 10\r\n" in run(story())


@pytest.mark.parametrize(
    ("reply", "said", "heard"),
    [
        ("554 no", b"QUIT\r\n", b"554 no\r\n221 2.0.0 Bye\r\n"),
        ("554 no", b"QUIT\r\nNOOP\r\n", b"554 no\r\n221 2.0.0 Bye\r\n"),
        ("554 no", b"", b"554 no\r\n"),
        ("421 busy", b"", b"421 busy\r\n"),
        ("220 fake", b"QUIT\r\n", b"220 fake\r\n221 2.0.0 real Bye\r\n"),
    ],
)
def test_every_byte_that_a_greeted_client_hears(reply: str, said: bytes, heard: bytes) -> None:
    """A refusal takes one more line, 421 none, and after 220 the real server goes on."""

    async def story() -> bytes:
        async with behind(FaultyServer("greeting", reply=reply)) as scene:
            return await scene.hears(said)

    assert run(story()) == heard


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_message_is_stored_before_the_client_loses_the_server(then: str) -> None:
    """A client that tries again makes a duplicate."""

    async def story() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", then=then, stored=True, first=1)
        async with behind(fault) as scene:
            with pytest.raises(SMTPServerDisconnected):
                await scene.send()
            await scene.send()
            return scene.real, fault

    real, fault = run(story())

    assert len(real.stored) == 2
    assert real.stored[0] == real.stored[1]
    assert fault.acted == 1


def test_a_session_goes_on_after_a_message_that_was_refused() -> None:
    """The next transaction in it is the real server's."""

    async def story() -> Real:
        async with behind(FaultyServer("end of data", reply="451 4.3.0 no", first=1)) as scene:
            async with await scene.client() as client:
                with pytest.raises(SMTPDataError):
                    await client.sendmail("a@x.test", ["b@y.test"], b"one\r\n")
                await client.sendmail("a@x.test", ["b@y.test"], b"two\r\n")
            return scene.real

    assert run(story()).stored == [b"two\r\n.\r\n"]


def test_data_without_a_recipient_is_the_real_servers_business() -> None:
    """There is no end of data to lie about."""

    async def story() -> FaultyServer:
        fault = FaultyServer("end of data", then="close")
        async with behind(fault) as scene:
            await scene.hears(b"EHLO me\r\nRCPT TO:<nosuch@x>\r\nDATA\r\nx\r\n.\r\n")
        return fault

    assert run(story()).acted == 0
