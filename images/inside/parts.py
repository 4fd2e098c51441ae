"""The parts of a container: programs that its supervisor starts, and where they listen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

TCP = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
UNIX = Path("/proc/net/unix")
# The state of a TCP socket that listens, and the flag of such a socket in the file system
# (proc(5)).
_LISTENS = "0A"
_ACCEPTS = 0x10000


@dataclass(frozen=True)
class Part:
    """One program: its command, its configuration, and what it remembers between messages."""

    command: Tuple[str, ...]
    configuration: str
    # Finds each port or path in the configuration.
    socket: str = ""
    # Where it listens if the configuration names no other place.
    ports: Tuple[int, ...] = ()
    # Its database, which a reset empties or restores.
    database: str = ""
    # It keeps facts about earlier messages or names: a reset restarts it if it was used.
    remembers: bool = False
    # It keeps the answers of name servers until their time to live is over.
    caches_names: bool = False
    # The user that it runs as, if it does not change its user itself.
    user: str = ""
    # The words of its log line without which it does not answer yet.
    ready: str = ""
    # A second log of its own, which it writes into a FIFO.
    log: str = ""
    # Finds the log lines of requests that change nothing in it.
    reads: str = ""


def sockets(part: Part, configuration: str) -> Tuple[List[int], List[str]]:
    """Return the ports and the paths on which a part is to listen."""
    found = [match.groupdict() for match in re.finditer(part.socket, configuration) if part.socket]
    if not found:
        return list(part.ports), []
    ports = [int(groups["port"]) for groups in found if groups.get("port")]
    return ports, [groups["path"] for groups in found if groups.get("path")]


def listening(tcp: str, unix: str) -> Tuple[List[int], List[str]]:
    """Return the ports and the paths on which any program listens, from the kernel's tables."""
    rows = [line.split() for line in tcp.splitlines()]
    ports = [
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if len(row) > 3 and row[3] == _LISTENS  # noqa: PLR2004  # the state
    ]
    named = re.findall(r"(?m)^\w+: \w+ \w+ (\w+) \w+ \w+ +\d+ (\S+)$", unix)
    return ports, [path for flags, path in named if int(flags, 16) & _ACCEPTS]


def listens(part: Part) -> bool:
    """Return True if a program listens on every socket of the part's configuration."""
    wanted_ports, wanted_paths = sockets(part, Path(part.configuration).read_text())
    tcp = "".join(table.read_text() for table in TCP if table.exists())
    ports, paths = listening(tcp, UNIX.read_text())
    return bool(wanted_ports or wanted_paths) and (
        set(wanted_ports) <= set(ports) and set(wanted_paths) <= set(paths)
    )
