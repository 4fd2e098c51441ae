"""What mail a host has: its mailboxes and its queue files."""

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
# The second is where scenarios have mailboxes that belong to no user.
SPOOLS = (Path("/var/mail"), Path("/var/vmail"))
# Where other instances (postmulti(1)) have theirs, beside it.
SPOOL = Path("/var/spool")
# What pickup(8) leaves alone for good is not under way.
NEVER_PICKED_UP = "maildrop, but never picked up"
BEING_WRITTEN_S = 2.0


def queue_directories() -> List[Path]:
    """The queue directory, and those of other instances on this host."""
    others = sorted(path.parent for path in SPOOL.glob("*/maildrop"))
    return [QUEUE_DIRECTORY, *(path for path in others if path != QUEUE_DIRECTORY)]


def places() -> Iterator[Tuple[str, Path]]:
    """Where mail may be stored, and whose it is: a file is an mbox, a folder a maildir."""
    for folder in SPOOLS:
        if folder.is_dir():
            yield from ((path.name, path) for path in folder.iterdir())
    for path in [*Path("/home").glob("*/*"), *Path("/root").iterdir()]:
        # home_mailbox may name any of them; a user's other files are no mail.
        if path.name in ("Mailbox", "Maildir") or (path / "new").is_dir():
            yield path.parent.name, path


def mailboxes() -> List[List[str]]:
    """Owner, form (mbox or maildir) and content of every mailbox, or message of a maildir."""
    found = []
    for owner, path in places():
        if path.is_dir():
            found += [
                [owner, "maildir", file.read_bytes().decode("latin-1")]
                for state in ("new", "cur")
                for file in path.glob(f"{state}/*")
            ]
        elif path.suffix != ".lock":
            # A lock says that some delivery agent is at work (mailbox_delivery_lock).
            found.append([owner, "mbox", path.read_bytes().decode("latin-1")])
    return found


def queued() -> List[List[str]]:
    """Queue, queue id and Message-ID of every message in the queue directories.

    What came by UUCP is looked at first: from there it goes into the queue.
    """
    found = uucpspool.spooled()
    for queue, file in queue_paths():
        with contextlib.suppress(FileNotFoundError):
            ignored = queue == "maildrop" and not picked_up(file.stat(), file.parent.stat().st_uid)
            where = NEVER_PICKED_UP if ignored else queue
            head = file.read_bytes()[:20000]
            message_id = re.search(rb"(?i)message-id:\s*(<[^>]*>)", head)
            found.append(
                [where, file.name, message_id.group(1).decode("latin-1") if message_id else ""]
            )
    return found


def lengths() -> Dict[str, int]:
    """How many files are in each queue: cheap even when there are thousands.

    Without those that a killed cleanup(8) has left half-written in incoming: nobody was
    told that they are accepted, and qmgr(8) leaves them alone until they are old.
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
    """Whether cleanup(8) has finished a queue file, which it makes executable then."""
    try:
        return bool(file.stat().st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return False


def picked_up(file: os.stat_result, postfix: int) -> bool:
    """Whether pickup(8) will take a file out of maildrop, now or when it is written.

    It wants the owner's execute bit, which postdrop(1) sets in the end, and to be
    able to read the file as the user ``postfix``.
    """
    if file.st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return file.st_uid == postfix or bool(file.st_mode & stat.S_IROTH)
    return abs(time.time() - file.st_mtime) < BEING_WRITTEN_S


def queue_paths() -> Iterator[Tuple[str, Path]]:
    """Every file in the queues, with the queue's name."""
    for directory in queue_directories():
        for queue in QUEUES:
            for folder, _, files in os.walk(directory / queue):
                for name in files:
                    yield queue, Path(folder, name)
