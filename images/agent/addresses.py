"""More addresses for a host: what a second mail server on one machine listens on."""

from __future__ import annotations

import asyncio
from typing import Any

_added: list[list[str]] = []


async def address_add(address: str, beside: str) -> dict[str, Any]:
    """Give the interface that has one address another one in the same network."""
    shown = await _ip("-o", "-4", "address", "show")
    found = [line.split() for line in shown.splitlines() if f" {beside}/" in line]
    if not found:
        raise ValueError(f"no interface has {beside}")
    interface, prefix = found[0][1], found[0][3].partition("/")[2]
    where = [f"{address}/{prefix}", "dev", interface]
    await _ip("address", "add", *where)
    _added.append(where)
    return {}


async def _ip(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "ip", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"ip {' '.join(words)}: {said.decode().strip()}")
    return said.decode()


async def heal() -> None:
    """Take away what was added."""
    while _added:
        await _ip("address", "del", *_added.pop())


OPERATIONS = {"address_add": address_add}
