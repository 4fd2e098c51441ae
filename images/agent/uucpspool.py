"""Mail in the UUCP spool: what waits for a call, and what a call has brought.

Taylor UUCP keeps a folder for each system, and in it commands for that system
(C.), data (D.) and commands from there that are still to be run (X.). Runs on
every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Iterator, List, Set

SPOOL = Path("/var/spool/uucp")
WAITING, ARRIVED = "uucp", "uuxqt"
_MESSAGE_ID = re.compile(rb"(?i)message-id:\s*(<[^>]*>)")
_NEEDED = re.compile(rb"(?m)^F (\S+)")
_HEAD_BYTES = 20000


def spooled() -> List[List[str]]:
    """Kind, file name and Message-ID of each message: to be carried on, or to be taken in."""
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
    """The data that commands from a system are about."""
    names: Set[str] = set()
    for command in files(system / "X."):
        with contextlib.suppress(FileNotFoundError):
            names.update(name.decode() for name in _NEEDED.findall(command.read_bytes()))
    return names


def files(folder: Path) -> Iterator[Path]:
    """The files below a folder, which need not be there; grades may have folders of their own."""
    return (path for path in folder.rglob("*") if path.is_file())
