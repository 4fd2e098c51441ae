"""The agent's proxy before a service on loopback, whose answers it delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

import slowanswers
from bounded import run
from operations import program

HERE = "127.0.0.1"


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[int]:
    """Run a service that answers each request with the same bytes; yield its port."""
    sessions: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        sessions.add(task)
        while request := await reader.read(100):
            writer.write(request)
        writer.close()

    async with await asyncio.start_server(serve, HERE, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*sessions)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the rules of the packet filter, and apply none."""
    done: list[str] = []
    monkeypatch.setattr(slowanswers, "nft", done.append)
    return done


@pytest.mark.parametrize("ending", ["stops", "is undone"])
def test_answers_wait_until_the_fault_ends(rules: list[str], ending: str) -> None:
    """Lifted, the proxy passes what it holds at once, and counts it no more."""

    async def actions() -> tuple[int, bytes]:
        async with service() as port:
            number = (await slowanswers.answers_delay(port, delay_s=3600))["service"]
            slow = slowanswers._services[number]
            assert f"tcp dport {port}" in rules[0]
            assert f"redirect to :{slow.port}" in rules[0]
            reader, writer = await asyncio.open_connection(HERE, slow.port)
            writer.write(b"negotiate")
            await writer.drain()
            if ending == "stops":
                acted = (await slowanswers.answers_undelay(number))["acted"]
            else:
                await program("slowanswers").undo()
                acted = slow.acted
            answer = await reader.read(100)
            writer.close()
            return acted, answer

    assert run(actions()) == (0, b"negotiate")
    assert rules[1].startswith("add table ip maillab_slow_")


def test_each_answer_is_late(rules: list[str]) -> None:
    """Each request of a session has its answer, later."""

    async def actions() -> list[bytes | int]:
        async with service() as port:
            number = (await slowanswers.answers_delay(port, delay_s=0.01))["service"]
            reader, writer = await asyncio.open_connection(HERE, slowanswers._services[number].port)
            answers: list[bytes | int] = []
            for request in (b"negotiate", b"connect"):
                writer.write(request)
                answers.append(await reader.read(100))
            writer.close()
            answers.append((await slowanswers.answers_undelay(number))["acted"])
            return answers

    assert run(actions()) == [b"negotiate", b"connect", 2]


def test_a_client_that_leaves_first_has_waited_in_vain(rules: list[str]) -> None:
    """It counts, too: a Milter's time limit may be shorter than the delay."""

    async def actions() -> int:
        async with service() as port:
            number = (await slowanswers.answers_delay(port, delay_s=3600))["service"]
            slow = slowanswers._services[number]
            _, writer = await asyncio.open_connection(HERE, slow.port)
            writer.write(b"negotiate")
            writer.close()
            # The session ends once the client has left.
            while not slow._sessions:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0)
            await asyncio.gather(*slow._sessions)
            return int((await slowanswers.answers_undelay(number))["acted"])

    assert run(actions()) == 1
