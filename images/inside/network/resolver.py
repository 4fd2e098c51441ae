"""The host's resolver: the name server that it asks, and a dead one before that."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

from ipv6 import behind_prefix
from operations import Handles, operation
from packetfilter import nft

PORT = 53
RESOLV_CONF = Path("/etc/resolv.conf")
# The prefix of dead name servers: every address of the loopback network belongs to the host.
_DEAD = "127.0.53."


@operation(server="", client="")
async def nameserver() -> dict[str, Any]:
    """Return the address of the host's name server, and the host's own address towards it."""
    server = os.environ["NAMESERVER"]
    family = socket.AF_INET
    if f"nameserver {behind_prefix(server)}\n" in RESOLV_CONF.read_text():
        # The host has no IPv4 (addresses.py).
        server, family = behind_prefix(server), socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        # Sends nothing: the kernel chooses the way.
        asker.connect((server, PORT))
        return {"server": server, "client": asker.getsockname()[0]}


def kill_nameserver(table: str, server: str, *, refuses: bool) -> None:
    """Drop packets for an address of this host, or refuse them by ICMP."""
    # Dropped on input: a drop on output is an error for the sender (EPERM).
    verdict = "reject with icmp port-unreachable" if refuses else "drop"
    nft(f"""
table ip {table} {{
  chain input {{
    type filter hook input priority filter;
    ip daddr {server} counter {verdict}
  }}
}}
""")


async def _remove_nameserver(address: str) -> None:
    text = RESOLV_CONF.read_text()
    RESOLV_CONF.write_text(text.replace(f"nameserver {address}\n", "", 1))
    nft(f"delete table ip {_table(address)}")


# The addresses of dead name servers.
_dead: Handles[str] = Handles(__name__, _remove_nameserver)


@operation(number=0, table="")
async def nameserver_start(*, refuses: bool) -> dict[str, Any]:
    """Put a dead name server before the others in resolv.conf(5); return number and table."""
    first, _, rest = RESOLV_CONF.read_text().partition("\n")
    taken = set(re.findall(rf"{re.escape(_DEAD)}\d+", rest))
    dead = next(address for n in range(1, 255) if (address := f"{_DEAD}{n}") not in taken)
    kill_nameserver(_table(dead), dead, refuses=refuses)
    number = _dead.add(dead)
    # After the other dead ones; in place, since Postfix's container mounts the file, too.
    lines = rest.splitlines(keepends=True)
    lines.insert(len(taken), f"nameserver {dead}\n")
    RESOLV_CONF.write_text("".join([f"{first}\n", *lines]))
    return {"number": number, "table": _table(dead)}


@operation()
async def nameserver_stop(number: int) -> dict[str, Any]:
    """Remove a dead name server from resolv.conf(5)."""
    await _dead.undo(number)
    return {}


def _table(address: str) -> str:
    return f"maillab_dead_{address.removeprefix(_DEAD)}"


async def undo() -> None:
    """Remove the dead name servers that an agent that died has left."""
    text = RESOLV_CONF.read_text()
    # In place, as above. Its tables are removed with all others (packetfilter).
    if _DEAD in text:
        RESOLV_CONF.write_text(re.sub(rf"(?m)^nameserver {re.escape(_DEAD)}.*\n", "", text))
