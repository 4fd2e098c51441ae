"""A capture of what passes a host's interfaces (tcpdump(8)), for the evidence."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from pathlib import Path
from typing import Any

FILE = Path("/tmp/capture.pcap")
END_WITHIN_S = 5.0

_running: list[asyncio.subprocess.Process] = []


async def capture_start() -> dict[str, Any]:
    """Begin to capture; returns once tcpdump listens."""
    await heal()
    process = await asyncio.create_subprocess_exec(
        *("tcpdump", "-i", "any", "-U", "-n", "-Z", "root", "-w", str(FILE)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _running.append(process)
    said = b""
    while process.stderr and (line := await process.stderr.readline()):
        if b"listening on" in line:
            return {}
        said = line
    raise RuntimeError(f"tcpdump: {said.decode().strip()}")


async def capture_stop() -> dict[str, Any]:
    """End the capture and hand it over; without one, nothing."""
    if not _running:
        return {"content": ""}
    await _caught_up()
    await heal()
    return {"content": FILE.read_bytes().decode("latin-1")}


async def _caught_up() -> None:
    """Wait for a packet of our own to be captured: tcpdump drops what it has not read yet."""
    end = b"end of capture " + secrets.token_hex(8).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.sendto(end, ours.getsockname())
    for _ in range(int(END_WITHIN_S / 0.01)):
        if end in FILE.read_bytes():
            return
        await asyncio.sleep(0.01)


async def heal() -> None:
    """Capture no more."""
    while _running:
        process = _running.pop()
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


OPERATIONS = {operation.__name__: operation for operation in (capture_start, capture_stop)}
