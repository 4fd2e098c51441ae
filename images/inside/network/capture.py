"""A capture of the packets on a host's interfaces (tcpdump(8)), for the evidence."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import rawsockets
from operations import Handles, operation

FILE = Path("/tmp/capture.pcap")
END_WITHIN_S = 5.0


async def _end(capture: tuple[socket.socket, asyncio.StreamReader]) -> None:
    connection, errors = capture
    connection.close()
    await errors.read()


# tcpdump(8) runs in a helper container until its connection is closed, and has ended when its
# standard error is closed. There is at most one.
_captures: Handles[tuple[socket.socket, asyncio.StreamReader]] = Handles(__name__, _end)


@operation()
async def capture_start(helper: str) -> dict[str, Any]:
    """Start a capture by the helper with this token; return once tcpdump(8) listens."""
    await _end_all()
    FILE.unlink(missing_ok=True)
    read_end, write_end = os.pipe()
    try:
        with FILE.open("wb") as output:
            connection = await rawsockets.tcpdump(helper, output.fileno(), write_end)
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    errors = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(errors), os.fdopen(read_end, "rb")
    )
    _captures.add((connection, errors))
    stderr_line = b""
    while line := await errors.readline():
        if b"listening on" in line:
            return {}
        stderr_line = line
    raise RuntimeError(f"tcpdump: {stderr_line.decode().strip()}")


@operation(content="")
async def capture_stop() -> dict[str, Any]:
    """End the capture and return it; return nothing if there is none."""
    if not _captures:
        return {"content": ""}
    await _caught_up()
    await _end_all()
    return {"content": FILE.read_bytes().decode("latin-1")}


async def _caught_up() -> None:
    """Wait until a packet of our own is captured: at its end, tcpdump(8) drops unread packets."""
    end = b"end of capture " + secrets.token_hex(8).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.sendto(end, ours.getsockname())
    for _ in range(int(END_WITHIN_S / 0.01)):
        if end in FILE.read_bytes():
            return
        await asyncio.sleep(0.01)


async def _end_all() -> None:
    for capture in _captures:
        await _captures.undo(capture)
