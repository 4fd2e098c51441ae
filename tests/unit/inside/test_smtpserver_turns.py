"""The selection of occasions, with one fault or several, until they are lifted."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiosmtplib.errors import SMTPConnectResponseError, SMTPDataError

from bounded import run
from interception import Front, Session
from smtp_scene import HERE, Real, Scene, behind
from smtpserver import FaultyServer


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        ({"first": 2}, "xx......"),
        ({"every": 3}, "..x..x.."),
        ({"after": 5}, ".....xxx"),
        ({"after": 1, "every": 2, "first": 2}, "..x.x..."),
    ],
)
def test_counters_select_the_occasions(settings: dict[str, int], turns: str) -> None:
    """The first N, every Nth, and those after the first N."""

    async def actions() -> tuple[str, int]:
        fault = FaultyServer("MAIL", reply="450 later", **settings)  # type: ignore[arg-type]
        async with behind(fault) as scene, await scene.client() as client:
            await client.ehlo()
            found = ""
            for _ in range(8):
                reply = await client.execute_command(b"MAIL FROM:<>")
                found += "x" if reply.code == 450 else "."
        return found, fault.acted

    assert run(actions()) == (turns, turns.count("x"))


def test_mail_for_one_recipient_is_selected() -> None:
    """By the name at RCPT, and by the accepted recipients at the end of data."""

    async def actions() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", reply="450 later", recipient="Joe@y.test")
        async with behind(fault) as scene:
            await scene.send("b@y.test")
            with pytest.raises(SMTPDataError):
                await scene.send("b@y.test", "joe@Y.test")
            return scene.real, fault

    real, fault = run(actions())

    assert len(real.stored) == 1
    assert fault.acted == 1


def test_one_client_is_selected() -> None:
    """By its address."""

    async def actions() -> list[int]:
        other = FaultyServer("greeting", reply="554 no", client="192.0.2.1")
        own = FaultyServer("greeting", reply="554 no", client=HERE)
        heard = []
        for fault in (other, own):
            async with behind(fault) as scene:
                heard.append(int((await scene.hears(b"QUIT\r\n"))[:3]))
        return heard

    assert run(actions()) == [220, 554]


def test_sessions_above_the_limit_get_the_other_greeting() -> None:
    """Until one of them has ended; refused sessions do not count."""

    async def actions() -> list[int]:
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

    assert run(actions()) == [421, 421, 2]


def test_lifting_releases_waiting_clients() -> None:
    """A lifted fault talks to no client, and gets no new one."""

    async def actions() -> list[bytes]:
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

    assert run(actions()) == [b"554 no\r\n", b"", b""]


def test_a_session_that_is_only_late_continues_to_its_end() -> None:
    """Its mail is not sent twice because a fault was lifted."""

    async def actions() -> tuple[Real, FaultyServer]:
        fault = FaultyServer("end of data", delay_s=100)
        async with behind(fault) as scene:
            sending = asyncio.ensure_future(scene.send())
            while not scene.real.stored:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
            await scene.front.remove(fault)
            assert "queued as" in await sending
            return scene.real, fault

    real, fault = run(actions())

    assert len(real.stored) == 1
    # The fault was lifted before it had acted.
    assert fault.acted == 0


@pytest.mark.parametrize("lifted_first", [0, 1])
def test_faults_nest_and_lift_in_any_order(lifted_first: int) -> None:
    """Each acts at its own stage, and what passes one meets the next."""

    async def actions() -> list[bytes]:
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

    both, remaining = run(actions())

    assert both == b"outer inner"
    assert remaining == (b"outer MAIL" if lifted_first == 0 else b"PIPELINING inner")


def test_a_session_without_any_layer_is_only_relayed() -> None:
    """For example a session that starts while the last layer is being lifted."""

    async def actions() -> bytes:
        fault = FaultyServer("MAIL", then="close")
        async with behind(fault) as scene:
            scene.front.layers.clear()
            heard = await scene.hears(b"EHLO me\r\nQUIT\r\n")
            scene.front.layers.append(fault)
        return heard

    assert b"250-STARTTLS" in run(actions())


def test_without_the_real_server_the_client_is_disconnected() -> None:
    """The connection is closed."""

    async def actions() -> bytes:
        with socket.create_server((HERE, 0)) as free:
            address = free.getsockname()
        front = Front(address)
        fault = FaultyServer("MAIL", then="close")
        await front.insert(fault)
        try:
            return await Scene(Real(), front).hears(b"")
        finally:
            await front.remove(fault)

    assert run(actions()) == b""


def test_a_layer_gets_the_clients_address() -> None:
    """Also a layer that is not the first."""
    clients = []

    class Curious(FaultyServer):
        async def talk(self, session: Session) -> None:
            clients.append(session.client)
            await super().talk(session)

    async def actions() -> None:
        async with behind(Curious("DATA", then="close"), Curious("DATA", then="close")) as scene:
            await scene.hears(b"QUIT\r\n")

    run(actions())

    assert clients == [HERE, HERE]
