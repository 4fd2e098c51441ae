"""Mail in the UUCP spool: messages that wait for a call, and messages that a call brought.

Taylor UUCP has a folder for each system. It contains commands for that system (C.), data
(D.) and commands from that system that are still to be run (X.). Runs on every Python
from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Iterator, List, Set

SPOOL = Path("/var/spool/uucp")
WAITING, ARRIVED = "uucp", "uuxqt"
_MESSAGE_ID = re.compile(rb"(?i)message-id:\s*(<[^>]{0,998}>)")
_NEEDED = re.compile(rb"(?m)^F (\S+)")
_HEAD_BYTES = 20000


def spooled() -> List[List[str]]:
    """Return kind, file name and Message-ID of each message, outgoing and incoming."""
    found: List[List[str]] = []
    if not SPOOL.is_dir():
        return found
    for system in SPOOL.iterdir():
        arrived = needed(system)
        for data in files(system / "D."):
            with contextlib.suppress(FileNotFoundError):
                message_id = _MESSAGE_ID.search(data.read_bytes()[:_HEAD_BYTES])
                kind = ARRIVED if data.name in arrived else WAITING
                found.append([kind, data.name, message_id[1].decode() if message_id else ""])
    return found


def needed(system: Path) -> Set[str]:
    """Return the data files that commands from a system refer to."""
    names: Set[str] = set()
    for command in files(system / "X."):
        with contextlib.suppress(FileNotFoundError):
            names.update(name.decode() for name in _NEEDED.findall(command.read_bytes()))
    return names


def files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, which may be missing; grades may have subfolders."""
    return (path for path in folder.rglob("*") if path.is_file())
