"""The baseline of a mail host's files, and its restoration.

Everything that a scenario may change is kept, and every difference is restored. So nothing
needs to be known about what a scenario did. What cannot be restored is reported.
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
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

WATCHED = (
    "/dev/shm", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp",
    "/usr/local", "/var",
)  # fmt: skip
# The programs with set-id bits in that folder, and those installed with them, since links lead
# to the same files. The whole folder would take ten times the space.
PROGRAMS = ("/usr/sbin", ("post", "rmail", "sendmail"))
UNWATCHED = {"/run/maillab", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log/mail.log"}
# Every start of master(8) rewrites these files; no scenario can notice.
RUNTIME = re.compile(
    r"/var/spool/postfix/pid/|/var/lib/postfix/(master\.lock|prng_exch)$|__pycache__"
)
BASELINE = Path("/run/maillab/baseline")
# Longer than a step of the kernel's clock for file times. Two changes within a step get the
# same time.
CLOCK_STEP_NS = 50_000_000
# Inode and ctime of each folder that had no entries outside the baseline. Comparing them costs
# a tenth of reading the folder.
_unchanged: Dict[str, Tuple[int, int]] = {}


class Kept(NamedTuple):
    """One path of the baseline: its ``lstat``, and its content or link target."""

    status: Tuple[int, ...]
    content: bytes


def signature(entry: os.stat_result) -> Tuple[int, ...]:
    """Return values that change with every change of a file, or of a folder's content."""
    owner = (entry.st_mode, entry.st_uid, entry.st_gid)
    if not (stat.S_ISREG(entry.st_mode) or stat.S_ISLNK(entry.st_mode)):
        return owner
    return (*owner, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)


def walk() -> Iterator[Tuple[str, os.stat_result]]:
    """Yield the programs, the watched folders and everything in them, folders first."""
    pending = [folder for folder in WATCHED if os.path.isdir(folder)]
    for folder in pending:
        yield folder, os.lstat(folder)
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


def present() -> Dict[str, os.stat_result]:
    """Return the status of each path of the baseline that is there."""
    before = baseline()
    now: Dict[str, os.stat_result] = {}
    # Folders come before what they contain.
    for path in before:
        folder = path.rpartition("/")[0]
        # Below a link in the place of a folder are files from elsewhere.
        if folder in before and (folder not in now or not stat.S_ISDIR(now[folder].st_mode)):
            continue
        status = lstat(path)
        if status is not None:
            now[path] = status
    return now


def strangers(now: Dict[str, os.stat_result]) -> List[str]:
    """Return the paths that are not in the baseline, the deepest first.

    ``now`` has the baseline's paths that are there. A folder that has not changed since it
    had no other entries is not read again.
    """
    before = baseline()
    found = [folder for folder in WATCHED if folder not in before and os.path.isdir(folder)]
    programs, begins = PROGRAMS
    folders = [path for path, kept in before.items() if stat.S_ISDIR(kept.status[0])]
    for folder in (*folders, programs):
        # Take the status before the entries, so that a change in between is noticed next time.
        # A folder that is not in ``now`` is missing, or below a link: its entries are elsewhere.
        status = lstat(folder) if folder == programs else now.get(folder)
        if status is None or not stat.S_ISDIR(status.st_mode):
            continue
        mark = (status.st_ino, status.st_ctime_ns)
        if _unchanged.get(folder) == mark:
            continue
        looked_ns = time.time_ns()
        names = os.listdir(folder)
        if folder == programs:
            names = [name for name in names if name.startswith(begins)]
        paths = [f"{folder}/{name}" for name in names]
        new = [path for path in paths if path not in before and path not in UNWATCHED]
        found += new
        if not new and looked_ns - status.st_ctime_ns > CLOCK_STEP_NS:
            _unchanged[folder] = mark
    return sorted(found, reverse=True)


def lstat(path: str) -> Optional[os.stat_result]:
    """Return the status of a path itself, not of a link's target; None if there is none."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def content_of(path: str, mode: int) -> bytes:
    """Return a file's bytes, a link's target, or b"" for other kinds."""
    if stat.S_ISREG(mode):
        return Path(path).read_bytes()
    return os.fsencode(os.readlink(path)) if stat.S_ISLNK(mode) else b""


@functools.cache
def baseline() -> Dict[str, Kept]:
    """Return the host's baseline, recorded after its start."""
    # A later channel must not take the current state for the baseline.
    if BASELINE.exists():
        return cast("Dict[str, Kept]", pickle.loads(BASELINE.read_bytes()))
    found = {
        path: Kept(signature(status), content_of(path, status.st_mode)) for path, status in walk()
    }
    BASELINE.parent.mkdir(parents=True, exist_ok=True)
    BASELINE.write_bytes(pickle.dumps(found))
    return found


def put_back(elsewhere: Sequence[str] = ()) -> List[str]:
    """Restore the watched folders, except the paths that another container restores.

    Return what could not be restored.
    """
    before = baseline()
    now = present()
    failed = []
    for path in strangers(now):
        if path not in elsewhere:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
    for path, kept in before.items():
        status = now.get(path)
        if path in elsewhere:
            continue
        # master(8) creates sockets and pipes itself when it starts.
        if stat.S_ISSOCK(kept.status[0]) or stat.S_ISFIFO(kept.status[0]):
            continue
        if status is not None and signature(status) == kept.status:
            continue
        try:
            restore(path, kept, status)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
            continue
        before[path] = Kept(signature(os.lstat(path)), kept.content)
    return failed


def restore(path: str, kept: Kept, status: Optional[os.stat_result]) -> None:
    """Restore one path; in place, since some paths are mount points."""
    mode, uid, gid = kept.status[:3]
    if status is not None and stat.S_IFMT(status.st_mode) != stat.S_IFMT(mode):
        shutil.rmtree(path) if stat.S_ISDIR(status.st_mode) else os.unlink(path)
        status = None
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
    """Return a checksum of each watched path: kind, permissions, owner, content."""
    paths = {}
    for path, status in walk():
        if not RUNTIME.search(path):
            sum_ = hashlib.sha256(repr(signature(status)[:3]).encode())
            sum_.update(content_of(path, status.st_mode))
            paths[path] = sum_.hexdigest()
    return paths
