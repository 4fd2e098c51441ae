"""The queue files of a mail host."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import uucpspool

QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
QUEUE_DIRECTORY = Path("/var/spool/postfix")
# The folder with the queue directories of other instances (postmulti(1)).
SPOOL = Path("/var/spool")
# The pseudo-queue of files that pickup(8) will never take.
NEVER_PICKED_UP = "maildrop, but never picked up"
BEING_WRITTEN_S = 2.0


def queue_directories() -> List[Path]:
    """Return the queue directory, and those of other instances on this host."""
    others = sorted(path.parent for path in SPOOL.glob("*/maildrop"))
    return [QUEUE_DIRECTORY, *(path for path in others if path != QUEUE_DIRECTORY)]


def queued() -> List[List[str]]:
    """Return queue, queue id and Message-ID of every message in the queue directories.

    The UUCP spool is read first, since mail moves from there into the queue.
    """
    found = uucpspool.spooled()
    for queue, file in queue_paths():
        with contextlib.suppress(FileNotFoundError):
            ignored = queue == "maildrop" and not picked_up(file.stat(), file.parent.stat().st_uid)
            where = NEVER_PICKED_UP if ignored else queue
            head = file.read_bytes()[:20000]
            message_id = re.search(rb"(?i)message-id:\s*(<[^>]{0,998}>)", head)
            found.append(
                [where, file.name, message_id.group(1).decode("latin-1") if message_id else ""]
            )
    return found


def lengths() -> Dict[str, int]:
    """Return the number of files in each queue: cheap even if there are thousands.

    Half-written files that a killed cleanup(8) left in incoming do not count: Postfix never
    acknowledged them, and qmgr(8) ignores them until they are old.
    """
    return {
        queue: sum(
            queue != "incoming" or _is_whole(Path(folder, name))
            for folder, _, names in os.walk(QUEUE_DIRECTORY / queue)
            for name in names
        )
        for queue in QUEUES
    }


def _is_whole(file: Path) -> bool:
    """Return True if cleanup(8) has finished a queue file; it then makes the file executable."""
    try:
        return bool(file.stat().st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return False


def picked_up(file: os.stat_result, postfix: int) -> bool:
    """Return True if pickup(8) will take a file out of maildrop, now or when it is complete.

    pickup(8) needs the owner's execute bit, which postdrop(1) sets at the end, and has to be able
    to read the file as the user ``postfix``.
    """
    if file.st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return file.st_uid == postfix or bool(file.st_mode & stat.S_IROTH)
    return abs(time.time() - file.st_mtime) < BEING_WRITTEN_S


def queue_paths() -> Iterator[Tuple[str, Path]]:
    """Yield every file in the queues, with the queue's name."""
    for directory in queue_directories():
        for queue in QUEUES:
            for folder, _, files in os.walk(directory / queue):
                for name in files:
                    yield queue, Path(folder, name)
