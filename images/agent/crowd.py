"""Many TCP connections at once that say nothing, and which of them a server greets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any


class Crowd:
    """Connections in the order in which they were opened, and the line each was greeted with."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.greetings = [""] * len(writers)
        self.readers: list[asyncio.Task[None]] = []
        self.news = asyncio.Event()

    async def listen(self, place: int, reader: asyncio.StreamReader) -> None:
        """Take down the first line of one server process."""
        with contextlib.suppress(OSError):
            self.greetings[place] = (await reader.readline()).decode("latin-1").strip()
        self.news.set()

    async def quiet(self, quiet_s: float, at_least: int, patience_s: float) -> None:
        """Wait until everybody was greeted, or nobody more for a while.

        The while is ``patience_s`` up to the first ``at_least``, then ``quiet_s``.
        """
        while not all(self.greetings):
            self.news.clear()
            served = sum(1 for line in self.greetings if line)
            try:
                await asyncio.wait_for(
                    self.news.wait(), quiet_s if served >= at_least else patience_s
                )
            except TimeoutError:
                return

    def close(self, places: list[int]) -> None:
        """Hang up."""
        for place in places:
            self.writers[place].close()


_crowds: dict[int, Crowd] = {}
_numbers = itertools.count(1)


async def crowd_open(address: str, port: int, count: int) -> dict[str, Any]:
    """Connect so many times; the kernel takes a connection before any process greets it."""
    opened = [await asyncio.open_connection(address, port) for _ in range(count)]
    crowd = Crowd([writer for _, writer in opened])
    crowd.readers = [
        asyncio.create_task(crowd.listen(place, reader)) for place, (reader, _) in enumerate(opened)
    ]
    number = next(_numbers)
    _crowds[number] = crowd
    return {"crowd": number}


async def crowd_greetings(
    crowd: int, quiet_s: float, at_least: int, patience_s: float
) -> dict[str, Any]:
    """The first line that each got, "" for none, once no more comes for ``quiet_s``."""
    await _crowds[crowd].quiet(quiet_s, at_least, patience_s)
    return {"greetings": _crowds[crowd].greetings}


async def crowd_leave(crowd: int, places: list[int]) -> dict[str, Any]:
    """Close some of the connections."""
    _crowds[crowd].close(places)
    return {}


async def crowd_close(crowd: int) -> dict[str, Any]:
    """Close all of them."""
    closed = _crowds.pop(crowd, None)
    if closed is not None:
        closed.close(list(range(len(closed.writers))))
        for reader in closed.readers:
            reader.cancel()
    return {}


async def heal() -> None:
    """Leave no connection open."""
    for number in list(_crowds):
        await crowd_close(number)


OPERATIONS = {
    operation.__name__: operation
    for operation in (crowd_open, crowd_greetings, crowd_leave, crowd_close)
}
