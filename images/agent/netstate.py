"""The state of the network namespace as a text, for comparing before and after a fault."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

COMMANDS = (
    ("ip", "-d", "link", "show"),
    ("ip", "address", "show"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "rule", "show"),
    ("tc", "qdisc", "show"),
    # Without counters, and without the elements that traffic adds to sets.
    ("nft", "--stateless", "list", "ruleset"),
)
SYSCTLS = Path("/proc/sys/net/ipv4")


async def netstate() -> dict[str, Any]:
    """Links, addresses, routes, rules, queueing disciplines, packet filter and sysctls.

    What time or traffic alone changes is left out: counters, the life of an
    address, the neighbour table and the path MTUs learned.
    """
    said = await asyncio.gather(*(_said(*command) for command in COMMANDS))
    return {"text": "".join(said) + sysctls()}


def sysctls() -> str:
    """The IPv4 settings of the namespace, one a line."""
    lines = []
    for path in sorted(SYSCTLS.rglob("*")):
        name = path.relative_to(SYSCTLS).as_posix()
        if path.is_file() and not name.startswith("neigh/"):
            try:
                lines.append(f"net.ipv4.{name.replace('/', '.')} = {path.read_text().strip()}\n")
            except OSError:
                # Written only, such as route/flush.
                continue
    return "".join(lines)


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return f"# {' '.join(command)}\n{normal(out.decode())}"


def normal(text: str) -> str:
    """Without the times that run by themselves (ip-address(8), ip-route(8))."""
    return re.sub(r" *(?:valid_lft|preferred_lft|expires) \S+", "", text)


OPERATIONS = {"netstate": netstate}
