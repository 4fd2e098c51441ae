"""Many open TCP connections at once that send nothing, and the greetings that they get."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from operations import Handles, operation


class Connections:
    """Connections in the order in which they were opened, and the greeting of each."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.greetings = [""] * len(writers)
        self.readers: list[asyncio.Task[None]] = []
        self.news = asyncio.Event()

    async def listen(self, place: int, reader: asyncio.StreamReader) -> None:
        """Store the first line that a server process sends."""
        # ValueError: the line is longer than the reader's buffer.
        with contextlib.suppress(OSError, ValueError):
            self.greetings[place] = (await reader.readline()).decode("latin-1").strip()
        self.news.set()

    async def quiet(self, quiet_s: float, at_least: int, patience_s: float) -> None:
        """Wait until every connection was greeted, or no further one was for some time.

        That time is ``patience_s`` up to the first ``at_least`` greetings, then ``quiet_s``.
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
        """Close some of the connections."""
        for place in places:
            self.writers[place].close()


async def _close_all(connections: Connections) -> None:
    connections.close(list(range(len(connections.writers))))
    for reader in connections.readers:
        reader.cancel()


_held: Handles[Connections] = Handles(__name__, _close_all)


@operation(connections=0)
async def connections_open(address: str, port: int, count: int, within_s: float) -> dict[str, Any]:
    """Open ``count`` connections; the kernel accepts them before any process greets them."""
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        async with asyncio.timeout(within_s):
            for _ in range(count):
                opened.append(await asyncio.open_connection(address, port))  # noqa: PERF401  # to be closed
    except OSError as error:
        for _, writer in opened:
            writer.close()
        # TimeoutError, an OSError, has no text.
        why = str(error) or f"the next one did not within {within_s:g} s"
        raise OSError(
            f"{len(opened)} of {count} connections to {address}:{port} opened: {why}"
        ) from error
    connections = Connections([writer for _, writer in opened])
    connections.readers = [
        asyncio.create_task(connections.listen(place, reader))
        for place, (reader, _) in enumerate(opened)
    ]
    return {"connections": _held.add(connections)}


@operation(greetings=[])
async def connections_greetings(
    connections: int, quiet_s: float, at_least: int, patience_s: float
) -> dict[str, Any]:
    """Return the first line on each connection, or "", once none arrives for ``quiet_s``."""
    await _held[connections].quiet(quiet_s, at_least, patience_s)
    return {"greetings": _held[connections].greetings}


@operation()
async def connections_leave(connections: int, places: list[int]) -> dict[str, Any]:
    """Close some of the connections."""
    _held[connections].close(places)
    return {}


@operation()
async def connections_close(connections: int) -> dict[str, Any]:
    """Close all connections."""
    if connections in _held:
        await _held.undo(connections)
    return {}
