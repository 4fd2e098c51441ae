"""Every mailbox of a mail host, wherever its settings may have put it.

Users have theirs in the mail spool or in their homes, virtual users and aliases
that name a file in a folder of the administrator's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator, List, Tuple

HOMES, HOME_OF_ROOT = "/home", "/root"
# What home_mailbox names a file, in the answers of the FAQ and by a forgotten slash.
IN_HOME = ("Mailbox", "Maildir")
SPOOLS = ("/var/mail", "/var/vmail", "/var/vspool")


def collect() -> List[List[str]]:
    """Owner, form and content of each: a whole "mbox", or one message of a "maildir".

    In a home the owner is whose home it is, elsewhere the mailbox's own name.
    """
    found = []
    for owner, form, path in (*in_homes(), *in_spools()):
        # Mail may be moved, and a mailbox removed, meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.append([owner, form, path.read_bytes().decode("latin-1")])
    return found


def in_homes() -> Iterator[Tuple[str, str, Path]]:
    """Owner, form and file of what is in users' homes."""
    for home in [*sorted(Path(HOMES).iterdir()), Path(HOME_OF_ROOT)]:
        for name in IN_HOME:
            if (home / name).is_file():
                yield home.name, "mbox", home / name
        for folder in sorted(home.glob("*/")):
            for path in messages(folder):
                yield home.name, "maildir", path


def in_spools() -> Iterator[Tuple[str, str, Path]]:
    """Name, form and file of what is in folders of mailboxes."""
    for spool in SPOOLS:
        for name, folders, files in os.walk(spool):
            folder = Path(name)
            if is_maildir(folder):
                folders.clear()
                for path in messages(folder):
                    yield folder.name, "maildir", path
                continue
            for file in sorted(files):
                # Some delivery agent is at work (postconf(5) mailbox_delivery_lock).
                if not file.endswith(".lock"):
                    yield file, "mbox", folder / file


def is_maildir(folder: Path) -> bool:
    """Whether it has the folders of one (maildir(5))."""
    return all((folder / name).is_dir() for name in ("tmp", "new", "cur"))


def messages(folder: Path) -> Iterator[Path]:
    """The messages of a maildir; of any other folder none."""
    if is_maildir(folder):
        for name in ("new", "cur"):
            yield from sorted((folder / name).iterdir())
