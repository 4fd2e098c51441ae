"""The mailboxes of a mail host, wherever its configuration puts them.

Only an mbox file or a maildir is a mailbox. Both are searched for at any depth below
mail_spool_directory, virtual_mailbox_base, Dovecot's mail_location, the users' home
directories (home_mailbox), and in files that an alias or a .forward file names.

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Set, Tuple

import configuration
import mailfiles
from remembered import Remembered, text_of

# Scenarios use the second for mailboxes that belong to no user.
SPOOLS = (Path("/var/mail"), Path("/var/vmail"))
PASSWD = Path("/etc/passwd")
ALIASES = (Path("/etc/aliases"), Path("/etc/mail/aliases"))
DOVECOT = Path("/etc/dovecot")
LOGS = Path("/var/log")
# These folders store no mail, and some are endless.
SYSTEM = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin",
          "sys", "usr"}  # fmt: skip
# Names of a mailbox inside a user's folder; the folder has the user's name.
INNER = {"inbox", "mail", "mailbox", "maildir", ".maildir", "mbox"}
FIRST_USER, NOBODY = 1000, 65534
_SETS_LOCATION = re.compile(
    r"(?m)^\s*(?:mail_location|mail_path|mail_home|mail_inbox_path)\s*=\s*(.*)|\bhome=(\S+)"
)
# A path up to its first variable, as in maildir:/var/vmail/%d/%n:INBOX=/var/mail/%u.
_LOCATION = re.compile(r"(?:^|[:=])(/[^%$:\s]*)")
_COMMENT = re.compile(r"(?m)^\s*#.*")
_TABLE = re.compile(r":(/[^\s,{}]+)")
# A file in the list of an alias (aliases(5)), also in an included list.
_TARGET = re.compile(r'(?m)(?:[:,]|^)[ \t]*"?(/[^\s,"]+)')


class Root(NamedTuple):
    """A folder to search; its mailboxes belong to the owner, or are named by their path."""

    path: Path
    owner: str = ""


class Mailbox(NamedTuple):
    """An mbox file or a maildir, and its owner."""

    owner: str
    form: str
    path: Path


def mailboxes() -> List[List[str]]:
    """Return owner, form, content and path of every mbox, and of every message of a maildir."""
    found = []
    for owner, form, path in find(roots()):
        for file in _messages(path) if form == "maildir" else [path]:
            with contextlib.suppress(FileNotFoundError):
                found.append([owner, form, file.read_bytes().decode("latin-1"), str(file)])
    return found


def roots() -> Iterator[Root]:
    """Yield the folders that may hold mailboxes, the most specific first."""
    settings = configuration.settings()
    bases = settings["mail_spool_directory"] | settings["virtual_mailbox_base"]
    named = {Path(base) for base in bases if base.strip("/")}
    stores = [Root(path) for path in sorted({*SPOOLS, *named, *_dovecot_locations()})]
    # The deepest folder is the most specific: a home in a store, or a store in a home.
    yield from sorted([*stores, *_homes()], key=lambda root: -len(root.path.parts))
    tables = settings["alias_maps"] | settings["alias_database"]
    files = {Path(path) for value in tables for path in _TABLE.findall(value)}
    yield from (Root(path) for path in sorted(_alias_targets({*ALIASES, *files})))
    if any(base and not base.strip("/") for base in bases):
        # The table contains absolute paths.
        yield Root(Path("/"))


def _homes() -> Iterator[Root]:
    """Yield the home directories of root and of users, without those of daemons."""
    yield from _users.about(PASSWD)


def _roots_of_users(_: Path) -> List[Root]:
    found = []
    for user in pwd.getpwall():
        person = FIRST_USER <= user.pw_uid != NOBODY
        if (person or user.pw_uid == 0) and user.pw_dir.strip("/"):
            found.append(Root(Path(user.pw_dir), user.pw_name))
    return found


def find(wanted: Iterable[Root]) -> Iterator[Mailbox]:
    """Yield every mailbox in or below the folders, each once."""
    return _Search().run(wanted)


class _Search:
    def __init__(self) -> None:
        self.queues = set(mailfiles.queue_directories())
        self.seen: Set[Tuple[int, int]] = set()
        self.links: List[Tuple[Path, Root, str]] = []

    def run(self, wanted: Iterable[Root]) -> Iterator[Mailbox]:
        for root in wanted:
            yield from self.below(root.path, root)
        # Links come last, so that a mailbox is named by its own path if possible.
        while self.links:
            yield from self.below(*self.links.pop(), follow=True)

    def below(
        self, path: Path, root: Root, owner: str = "", *, follow: bool = False
    ) -> Iterator[Mailbox]:
        """Yield the mailboxes at a path and below; ``owner`` is that of an enclosing maildir."""
        with contextlib.suppress(OSError):
            if path.is_symlink() and not follow and path != root.path:
                self.links.append((path, root, owner))
            elif self.is_new(path):
                yield from self.at(path, root, owner)

    def is_new(self, path: Path) -> bool:
        """Return True the first time for a path that may be or contain a mailbox."""
        target = path.resolve(strict=True)
        at_top = target.parts[1] if len(target.parts) > 1 else ""
        if at_top in SYSTEM or target in self.queues or target == LOGS:
            return False
        status = target.stat()
        key = status.st_dev, status.st_ino
        first = key not in self.seen
        self.seen.add(key)
        return first

    def at(self, path: Path, root: Root, owner: str) -> Iterator[Mailbox]:
        if path.is_file():
            if _is_mbox.about(path):
                yield Mailbox(owner or _owner(path, root), "mbox", path)
        elif path.is_dir():
            inner = [path / name for name in _listing.about(path)]
            if _is_maildir(path):
                owner = owner or _owner(path, root)
                yield Mailbox(owner, "maildir", path)
                inner = [entry for entry in inner if entry.name not in ("new", "cur", "tmp")]
            for entry in inner:
                yield from self.below(entry, root, owner)


def _is_maildir(path: Path) -> bool:
    """Return True for a folder with the subfolders of a maildir (maildir(5))."""
    return (path / "new").is_dir() and (path / "cur").is_dir()


def _begins_as_mbox(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(5) == b"From "


def _names(folder: Path) -> List[str]:
    return sorted(os.listdir(folder))


_is_mbox = Remembered(_begins_as_mbox)
_listing = Remembered(_names)
# getpwall(3) takes longer than the rest of a search.
_users = Remembered(_roots_of_users)


def _messages(maildir: Path) -> Iterator[Path]:
    for state in ("new", "cur"):
        for file in sorted(maildir.glob(f"{state}/*")):
            if file.is_file() and not file.name.startswith("."):
                yield file


def _owner(path: Path, root: Root) -> str:
    """Return the mailbox's owner: USER, or USER@DOMAIN in a folder named after a domain."""
    if root.owner:
        return root.owner
    parts = list(path.relative_to(root.path).parts)
    while len(parts) > 1 and parts[-1].lower() in INNER:
        parts.pop()
    if not parts:
        return root.path.name
    *folders, user = parts
    domain = next((name for name in reversed(folders) if "." in name.strip(".")), "")
    return f"{user}@{domain}" if domain and "@" not in user else user


def _dovecot_locations() -> Set[Path]:
    found: Set[Path] = set()
    for file in _files_below(DOVECOT):
        if ".conf" not in file.name:
            continue
        for location, home in _SETS_LOCATION.findall(_COMMENT.sub("", text_of(file))):
            found.update(Path(path) for path in _LOCATION.findall(location or home))
    # A location that begins with a variable or a domain may be anywhere.
    return {path for path in found if path != Path("/")}


def _files_below(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for name in _listing.about(folder):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                yield from _files_below(path)
            else:
                yield path


def _alias_targets(files: Set[Path]) -> Set[Path]:
    """Return the files that aliases and .forward files deliver to."""
    pending = set(files)
    for home, _ in _homes():
        with contextlib.suppress(OSError):
            pending |= {home / name for name in _listing.about(home) if name[:8] == ".forward"}
    read: Set[Path] = set()
    found: Set[Path] = set()
    while pending:
        file = pending.pop()
        read.add(file)
        text = _COMMENT.sub("", text_of(file))
        found |= {Path(path) for path in _TARGET.findall(text)}
        included = {Path(path) for path in re.findall(r':include:(/[^\s,"]+)', text)}
        pending |= included - read
    return found
