"""A port that stores its datagrams returns exactly those sent so far."""

from __future__ import annotations

import asyncio
import socket

import pytest

import datagrams
from operations import program


def send(port: int, *texts: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in texts:
            sender.sendto(text, (datagrams.ADDRESS, port))


def test_datagrams_are_returned_in_order() -> None:
    async def scenario() -> tuple[list[str], list[str], list[str]]:
        port = (await datagrams.datagrams_open(0))["port"]
        nothing = (await datagrams.datagrams(port))["received"]
        send(port, b"bob@0", b"", b"\xff@1")
        first = (await datagrams.datagrams(port))["received"]
        send(port, b"bob@2")
        both = (await datagrams.datagrams(port))["received"]
        await program("datagrams").undo()
        return nothing, first, both

    nothing, first, both = asyncio.run(scenario())

    assert nothing == []
    assert first == ["bob@0", "", "\xff@1"]
    assert both == [*first, "bob@2"]


def test_a_closed_port_is_free_again() -> None:
    async def scenario() -> None:
        port = (await datagrams.datagrams_open(0))["port"]
        await datagrams.datagrams_close(port)
        await datagrams.datagrams_close(port)
        await datagrams.datagrams_open(port)
        await program("datagrams").undo()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((datagrams.ADDRESS, port))

    asyncio.run(scenario())


def test_a_port_in_use_is_an_error() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((datagrams.ADDRESS, 0))
            await datagrams.datagrams_open(taken.getsockname()[1])

    with pytest.raises(OSError, match="in use"):
        asyncio.run(scenario())
