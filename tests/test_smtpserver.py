"""The agent's misbehaving SMTP server, on this machine's loopback, a small real one behind it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

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

import interception
import smtpserver
from interception import Front, Session
from maillab.errors import BadInput
from maillab.faults import Greeting, SmtpStage
from smtpserver import FaultyServer

HERE = "127.0.0.1"
# What a test may take, so that nothing hangs.
BOUND_S = 20.0
MESSAGE = b"Subject: x\r\n\r\n..dot\r\n" + 70_000 * b"long " + b"\r\n"

Value = TypeVar("Value")


def run(story: Coroutine[Any, Any, Value]) -> Value:
    """Play a story to its end."""

    async def bounded() -> Value:
        async with asyncio.timeout(BOUND_S):
            return await story

    return asyncio.run(bounded())


@dataclass
class Real:
    """The server behind: takes everything, but no recipient named nosuch."""

    heard: list[bytes] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        task = asyncio.current_task()
        assert task
        self.sessions.add(task)
        try:
            await self.answer(reader, writer)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each command, until it leaves."""
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
    """A real server and what stands in front of it."""

    real: Real
    front: Front

    async def client(self, timeout_s: float = BOUND_S) -> aiosmtplib.SMTP:
        """A library's client, connected."""
        client = aiosmtplib.SMTP(
            hostname=HERE, port=self.front.port, timeout=timeout_s, start_tls=False
        )
        await client.connect()
        return client

    async def send(self, *recipients: str, message: bytes = MESSAGE) -> str:
        """A message by a library's client; returns the last reply."""
        async with await self.client() as client:
            _, reply = await client.sendmail("a@x.test", recipients or ("b@y.test",), message)
        return reply

    async def hears(self, said: bytes) -> bytes:
        """All that one hears who says this and then no more."""
        reader, writer = await asyncio.open_connection(HERE, self.front.port)
        writer.write(said)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def behind(*faults: FaultyServer) -> AsyncIterator[Scene]:
    """A real server behind faults, the last of them nearest to the client."""
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


# Honest where it is not to lie.


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


# What it does at each stage.


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


# When it is its turn.


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        ({"first": 2}, "xx......"),
        ({"every": 3}, "..x..x.."),
        ({"after": 5}, ".....xxx"),
        ({"after": 1, "every": 2, "first": 2}, "..x.x..."),
    ],
)
def test_counters_choose_the_occasions(settings: dict[str, int], turns: str) -> None:
    """The first so many, each so-manieth, those from one on."""

    async def story() -> tuple[str, int]:
        fault = FaultyServer("MAIL", reply="450 later", **settings)  # type: ignore[arg-type]
        async with behind(fault) as scene, await scene.client() as client:
            await client.ehlo()
            found = ""
            for _ in range(8):
                reply = await client.execute_command(b"MAIL FROM:<>")
                found += "x" if reply.code == 450 else "."
        return found, fault.acted

    assert run(story()) == (turns, turns.count("x"))


def test_mail_for_one_recipient_is_chosen() -> None:
    """By the name at RCPT, by those accepted at the end of data."""

    async def story() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", reply="450 later", recipient="Joe@y.test")
        async with behind(fault) as scene:
            await scene.send("b@y.test")
            with pytest.raises(SMTPDataError):
                await scene.send("b@y.test", "joe@Y.test")
            return scene.real, fault

    real, fault = run(story())

    assert len(real.stored) == 1
    assert fault.acted == 1


def test_one_client_is_chosen() -> None:
    """By its address."""

    async def story() -> list[int]:
        other = FaultyServer("greeting", reply="554 no", client="192.0.2.1")
        own = FaultyServer("greeting", reply="554 no", client=HERE)
        heard = []
        for fault in (other, own):
            async with behind(fault) as scene:
                heard.append(int((await scene.hears(b"QUIT\r\n"))[:3]))
        return heard

    assert run(story()) == [220, 554]


def test_more_sessions_than_allowed_are_greeted_otherwise() -> None:
    """Until one of them has ended; those refused do not count."""

    async def story() -> list[int]:
        fault = FaultyServer("greeting", reply="421 too many", above_sessions=2)
        codes = []
        async with behind(fault) as scene:
            clients = [await scene.client(), await scene.client()]
            for _ in range(2):
                with pytest.raises(SMTPConnectResponseError) as error:
                    await scene.client()
                codes.append(error.value.code)
            await clients.pop().quit()
            clients.append(await scene.client())
            for client in clients:
                await client.quit()
        return [*codes, fault.acted]

    assert run(story()) == [421, 421, 2]


# Lifting and nesting.


def test_who_waits_is_let_go_by_the_end() -> None:
    """Nobody talks to a fault that was lifted, and nobody new gets in."""

    async def story() -> list[bytes]:
        heard = []
        for fault in (
            FaultyServer("greeting", reply="554 no"),
            FaultyServer("greeting", then="silence"),
            FaultyServer("greeting", reply="220 late", delay_s=100),
        ):
            async with behind(fault) as scene:
                reader, writer = await asyncio.open_connection(HERE, scene.front.port)
                first = await reader.readline() if fault.reply.startswith("5") else b""
                await asyncio.sleep(0.05)
                await scene.front.remove(fault)
                heard.append(first + await reader.read())
                writer.close()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(HERE, scene.front.port)
        return heard

    assert run(story()) == [b"554 no\r\n", b"", b""]


def test_a_session_that_is_only_late_goes_on_to_its_end() -> None:
    """Its mail is not sent twice because a fault was lifted."""

    async def story() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", delay_s=100)
        async with behind(fault) as scene:
            sending = asyncio.ensure_future(scene.send())
            while not scene.real.stored:  # noqa: ASYNC110  # what it waits for is in a list
                await asyncio.sleep(0.01)
            await scene.front.remove(fault)
            assert "queued as" in await sending
            return scene.real, fault

    real, fault = run(story())

    assert len(real.stored) == 1
    # It was cut short before anybody could tell.
    assert fault.acted == 0


@pytest.mark.parametrize("lifted_first", [0, 1])
def test_faults_nest_and_lift_in_any_order(lifted_first: int) -> None:
    """Each acts at its own stage, and what one lets through meets the next."""

    async def story() -> list[bytes]:
        faults = [
            FaultyServer("MAIL", reply="450 inner"),
            FaultyServer("EHLO", reply="250 outer"),
        ]
        heard = []
        async with behind(*faults) as scene:
            for lifted in (None, faults[lifted_first]):
                if lifted:
                    await scene.front.remove(lifted)
                lines = (await scene.hears(b"EHLO me\r\nMAIL FROM:<>\r\nQUIT\r\n")).splitlines()
                heard.append(b" ".join([lines[-3].split()[-1], lines[-2].split()[-1]]))
        return heard

    both, one = run(story())

    assert both == b"outer inner"
    assert one == (b"outer MAIL" if lifted_first == 0 else b"PIPELINING inner")


def test_a_session_without_any_layer_is_only_handed_on() -> None:
    """Such as one that came while the last was being lifted."""

    async def story() -> bytes:
        fault = FaultyServer("MAIL", then="close")
        async with behind(fault) as scene:
            scene.front.layers.clear()
            heard = await scene.hears(b"EHLO me\r\nQUIT\r\n")
            scene.front.layers.append(fault)
        return heard

    assert b"250-STARTTLS" in run(story())


def test_a_real_server_that_is_down_leaves_the_client_without_one() -> None:
    """It is hung up on."""

    async def story() -> bytes:
        with socket.create_server((HERE, 0)) as free:
            address = free.getsockname()
        front = Front(address)
        fault = FaultyServer("MAIL", then="close")
        await front.insert(fault)
        try:
            return await Scene(Real(), front).hears(b"")
        finally:
            await front.remove(fault)

    assert run(story()) == b""


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The packet filter's part in a fault, written down instead of done."""
    done: list[str] = []
    monkeypatch.setattr(interception, "nft", done.append)
    yield done
    smtpserver._faults.clear()


def test_the_fault_from_its_beginning_to_its_end(rules: list[str]) -> None:
    """Clients are led to it while it lasts; stopping twice is no error."""

    async def story() -> list[int]:
        number = (await smtpserver.smtp_fault_start(stage="greeting", reply="554 no"))["fault"]
        assert f"redirect to :{interception.FRONT.port}" in rules[0]
        # Nobody redirected this one, so where it wanted to go is where it is.
        scene = Scene(Real(), interception.FRONT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interception, "_meant", lambda _: (HERE, 1))
            assert (await scene.hears(b"QUIT\r\n")).startswith(b"554 no")
        answers = [await smtpserver.smtp_fault_stop(number) for _ in range(2)]
        return [answer["acted"] for answer in answers]

    assert run(story()) == [1, 0]
    assert rules[1:] == ["add table ip maillab_smtp; delete table ip maillab_smtp"]


def test_healing_lifts_every_fault(rules: list[str]) -> None:
    """A scenario that broke off leaves nothing."""

    async def story() -> None:
        for _ in range(2):
            await smtpserver.smtp_fault_start(stage="greeting", reply="554 no")
        await smtpserver.heal()
        assert not interception.FRONT.layers
        # Also what another program left, which died.
        rules.clear()
        await smtpserver.heal()

    run(story())

    assert rules == ["add table ip maillab_smtp; delete table ip maillab_smtp"]


def test_a_layer_is_told_who_the_client_is() -> None:
    """Also one that is not the first."""
    clients = []

    class Curious(FaultyServer):
        async def talk(self, session: Session) -> None:
            clients.append(session.client)
            await super().talk(session)

    async def story() -> None:
        async with behind(Curious("DATA", then="close"), Curious("DATA", then="close")) as scene:
            await scene.hears(b"QUIT\r\n")

    run(story())

    assert clients == [HERE, HERE]


# What can be asked for.


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"stage": "VRFY", "then": "close"}, "it has: connect, greeting, EHLO"),
        ({"stage": "RCPT"}, "does nothing"),
        ({"stage": "RCPT", "reply": "no"}, "write a code and a text"),
        ({"stage": "RCPT", "reply": "450 a\r\n250 b"}, "write a code and a text"),
        ({"stage": "RCPT", "reply": "250-a\n550 b"}, "write a code and a text"),
        ({"stage": "RCPT", "then": "explode"}, "silence, close, reset"),
        ({"stage": "RCPT", "delay_s": -1}, "not below 0"),
        ({"stage": "RCPT", "then": "close", "every": 0}, "at least 1"),
        ({"stage": "connect", "reply": "220 hi"}, "the stage for that is 'greeting'"),
        ({"stage": "MAIL", "then": "close", "byte_interval_s": 1}, "no bytes"),
        ({"stage": "MAIL", "then": "close", "stored": True}, "'end of data'"),
        ({"stage": "end of data", "delay_s": 1, "stored": True}, "'then'"),
        ({"stage": "MAIL", "then": "close", "recipient": "a@x"}, "known at RCPT"),
        ({"stage": "MAIL", "then": "close", "sessions_max": 2}, "for connect and greeting"),
        ({"stage": "greeting", "then": "close", "sessions_max": -1}, "not below 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], advice: str) -> None:
    """Before anything is touched, with what would work."""
    with pytest.raises(BadInput, match="SmtpStage") as refused:
        SmtpStage(**settings)

    assert advice in str(refused.value)


def test_a_greeting_that_is_no_reply_is_refused() -> None:
    """As an SmtpStage is."""
    with pytest.raises(BadInput, match="write a code and a text"):
        Greeting("hello")
