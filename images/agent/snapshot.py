"""The files of a mail host as they were, and putting them back.

Everything a scenario may change is kept; what differs is put back. So nothing has
to be known about what a scenario did, and what cannot be put back is named.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
import shutil
import stat
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, cast

WATCHED = ("/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr/local", "/var")
# Beside them the programs with set-id bits, and what is installed with them: links lead to
# the same ones. All of their folder would be ten times as much to keep.
PROGRAMS = ("/usr/sbin", ("post", "rmail", "sendmail"))
UNWATCHED = {"/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log/mail.log"}
# Written anew by every start of master; no scenario can tell.
RUNTIME = re.compile(
    r"/var/spool/postfix/pid/|/var/lib/postfix/(master\.lock|prng_exch)$|__pycache__"
)
BASELINE = Path("/run/maillab/baseline")


class Kept(NamedTuple):
    """One path as it was: what ``lstat`` said, and the content or link target."""

    status: Tuple[int, ...]
    content: bytes


def signature(entry: os.stat_result) -> Tuple[int, ...]:
    """What changes when anybody touches the file; folders change with their content."""
    owner = (entry.st_mode, entry.st_uid, entry.st_gid)
    if not (stat.S_ISREG(entry.st_mode) or stat.S_ISLNK(entry.st_mode)):
        return owner
    return (*owner, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)


def walk() -> Iterator[Tuple[str, os.stat_result]]:
    """The programs and all below the watched folders, folders before what is in them."""
    pending = list(WATCHED)
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.path in UNWATCHED:
                    continue
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
    folder, begins = PROGRAMS
    for name in os.listdir(folder):
        if name.startswith(begins):
            path = f"{folder}/{name}"
            yield path, os.lstat(path)


def content_of(path: str, mode: int) -> bytes:
    """A file's bytes, a link's target, nothing for the rest."""
    if stat.S_ISREG(mode):
        return Path(path).read_bytes()
    return os.fsencode(os.readlink(path)) if stat.S_ISLNK(mode) else b""


@functools.cache
def baseline() -> Dict[str, Kept]:
    """The host as it was when it came up."""
    # A channel that was opened anew must not take today's state for the first one.
    if BASELINE.exists():
        return cast("Dict[str, Kept]", pickle.loads(BASELINE.read_bytes()))
    found = {
        path: Kept(signature(status), content_of(path, status.st_mode)) for path, status in walk()
    }
    BASELINE.parent.mkdir(parents=True, exist_ok=True)
    BASELINE.write_bytes(pickle.dumps(found))
    return found


def put_back() -> List[str]:
    """Make the watched folders what they were; returns what could not be undone."""
    before = baseline()
    now = dict(walk())
    failed = []
    for path in sorted(now, reverse=True):
        if path not in before:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(now[path].st_mode):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
    for path, kept in before.items():
        there = now.get(path)
        # Sockets and pipes are made by master itself when it starts.
        if stat.S_ISSOCK(kept.status[0]) or stat.S_ISFIFO(kept.status[0]):
            continue
        if there is not None and signature(there) == kept.status:
            continue
        try:
            restore(path, kept, there)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
            continue
        before[path] = Kept(signature(os.lstat(path)), kept.content)
    return failed


def restore(path: str, kept: Kept, there: Optional[os.stat_result]) -> None:
    """Put one path back; in place, since some are mount points."""
    mode, uid, gid = kept.status[:3]
    if there is not None and stat.S_IFMT(there.st_mode) != stat.S_IFMT(mode):
        shutil.rmtree(path) if stat.S_ISDIR(there.st_mode) else os.unlink(path)
        there = None
    if stat.S_ISLNK(mode):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(kept.content, path)
        os.lchown(path, uid, gid)
        return
    if stat.S_ISDIR(mode):
        os.makedirs(path, exist_ok=True)
    else:
        Path(path).write_bytes(kept.content)
    os.chown(path, uid, gid)
    os.chmod(path, stat.S_IMODE(mode))
    if stat.S_ISREG(mode):
        os.utime(path, ns=(kept.status[4], kept.status[4]))


def sums() -> Dict[str, str]:
    """A checksum of each watched path: kind, rights, owner, content."""
    paths = {}
    for path, status in walk():
        if not RUNTIME.search(path):
            sum_ = hashlib.sha256(repr(signature(status)[:3]).encode())
            sum_.update(content_of(path, status.st_mode))
            paths[path] = sum_.hexdigest()
    return paths
