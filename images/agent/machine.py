"""What the channel can do in a mail host: Postfix, its files, its state as it was.

The first call keeps a copy of everything a scenario may change; ``reset`` walks
the same folders and puts back whatever differs. So nothing has to be known about
what a scenario did, and what cannot be put back is named.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import pickle
import re
import shutil
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, cast

import channel
import uucpspool

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
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
QUEUE_DIRECTORY = Path("/var/spool/postfix")
# The second is where scenarios have mailboxes that belong to no user.
SPOOLS = (Path("/var/mail"), Path("/var/vmail"))
# Where other instances (postmulti(1)) have theirs, beside it.
SPOOL = Path("/var/spool")
# What pickup(8) leaves alone for good is not under way.
NEVER_PICKED_UP = "maildrop, but never picked up"
MAIN_CF = Path("/etc/postfix/main.cf")
LOG = Path("/var/log/mail.log")
PRELOAD = Path("/etc/ld.so.preload")
# One file for both: inside a chroot and, by a link, outside of it.
CLOCK = QUEUE_DIRECTORY / "etc/faketimerc"
CLOCK_OUTSIDE = Path("/etc/faketimerc")
# Look at the file each time; leave the times of queue files alone, or no retry is ever due.
CLOCK_ENVIRONMENT = "FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1"
MASTER_PID = QUEUE_DIRECTORY / "pid/master.pid"
STOP_WITHIN_S = 5.0
OTHERS_LOG_WITHIN_S = 1.0
BEING_WRITTEN_S = 2.0
LOOK_AGAIN_S = 0.005
# Daemons that are at work go on until they have done.
RELOADED_WITHIN_S = 2.0
# What master is started through, such as prlimit(1).
LAUNCHER: List[str] = []


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


async def digest() -> Dict[str, Any]:
    """A checksum of each watched path: kind, rights, owner, content."""
    paths = {}
    for path, status in walk():
        if not RUNTIME.search(path):
            sum_ = hashlib.sha256(repr(signature(status)[:3]).encode())
            sum_.update(content_of(path, status.st_mode))
            paths[path] = sum_.hexdigest()
    return {"paths": paths, "processes": sorted(names().values())}


def names() -> Dict[int, str]:
    """The processes of this container but for its first and ourselves."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (1, os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(entry)] = Path(f"/proc/{entry}/comm").read_text().strip()
    return found


def master_pid(file: Optional[Path] = None) -> int:
    """The process id of a running master, or 0; the first instance's unless told otherwise."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((file or MASTER_PID).read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "master":
            return pid
    return 0


def queue_directories() -> List[Path]:
    """The queue directory, and those of other instances on this host."""
    others = sorted(path.parent for path in SPOOL.glob("*/maildrop"))
    return [QUEUE_DIRECTORY, *(path for path in others if path != QUEUE_DIRECTORY)]


def other_masters() -> List[int]:
    """The masters of other instances that run."""
    found = []
    for folder in queue_directories()[1:]:
        pid = master_pid(folder / "pid/master.pid")
        if pid:
            found.append(pid)
    return found


def master_and_daemons(master: int) -> List[int]:
    """Master's process group: it and every daemon it started."""
    found = []
    for pid in names():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == master:
                found.append(pid)
    return found


async def ended(handle: int) -> None:
    """Wait until the process behind a pidfd_open(2) handle is no more."""
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    loop.add_reader(handle, _resolve, end)
    try:
        await end
    finally:
        loop.remove_reader(handle)


def _resolve(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


async def gone(pids: List[int]) -> None:
    """Wait until none of the processes is left; kills those that outstay the bound."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append((pid, os.pidfd_open(pid)))
    for pid, handle in handles:
        try:
            await asyncio.wait_for(ended(handle), STOP_WITHIN_S)
        except asyncio.TimeoutError:  # noqa: UP041  # another class before Python 3.11
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await ended(handle)
        finally:
            os.close(handle)


async def stop() -> Dict[str, Any]:
    """Stop Postfix as ``postfix stop`` does; returns once all of it is gone."""
    master = master_pid()
    if master:
        await end(master)
    return {"was_running": bool(master)}


async def end(master: int) -> None:
    """Stop a master and its daemons."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGTERM)
    # Again and again: one forked a moment ago still has master's lock.
    while pids := master_and_daemons(master):
        for pid in pids:
            # One that a fault has stopped cannot end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await gone(pids)


async def start() -> Dict[str, Any]:
    """Start master, as ``postfix start`` does after its checks; it listens on return."""
    if master_pid():
        return {}
    clock = ["env", *CLOCK_ENVIRONMENT.split()] if PRELOAD.exists() else []
    done = await channel.run([*LAUNCHER, *clock, "/usr/lib/postfix/sbin/master", "-w"])
    if done["status"]:
        # master has no log to complain to before it runs; postfix(1) has our standard error.
        asked = await channel.run(["postfix", "status"])
        words = [line for line in asked["stderr"].splitlines() if "fatal" in line]
        tail = LOG.read_bytes()[-600:].decode(errors="replace").splitlines()[-2:]
        raise RuntimeError("master does not start: " + " / ".join(words or tail))
    return {}


async def restart() -> Dict[str, Any]:
    """Stop and start, so that no daemon keeps an old setting; a stopped Postfix stays so."""
    if (await stop())["was_running"]:
        await start()
    return {}


async def reload() -> Dict[str, Any]:
    """What ``postfix reload`` does, without its checks; no idle daemon is an old one on return."""
    master = master_pid()
    before = [pid for pid in master_and_daemons(master) if pid != master]
    os.kill(master, signal.SIGHUP)
    await left(before, RELOADED_WITHIN_S)
    return {}


async def left(pids: List[int], within_s: float) -> None:
    """Wait until the processes have ended; those at work may take longer than the bound."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    ends = [asyncio.ensure_future(ended(handle)) for handle in handles]
    if ends:
        _, working = await asyncio.wait(ends, timeout=within_s)
        for end in working:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    for handle in handles:
        os.close(handle)


async def configure(settings: Dict[str, str]) -> Dict[str, Any]:
    """Set main.cf parameters (postconf(1) -e) and restart; refuses unknown names."""
    before = MAIN_CF.read_text()
    kept = []
    dropping = False
    for line in before.removesuffix("\n").split("\n"):
        # Neither ends the logical line that it stands in (postconf(5)).
        aside = not line.strip() or line.lstrip().startswith("#")
        if not aside and not line[0].isspace():
            dropping = line.partition("=")[0].strip() in settings
        if aside or not dropping:
            kept.append(line)
    kept += [f"{name} = {value}".replace("\n", "\n ") for name, value in settings.items()]
    MAIN_CF.write_text("".join(f"{line}\n" for line in kept))
    channel.cool(MAIN_CF)
    known = set(Path("/opt/maillab/parameters").read_text().split())
    if set(settings) - known:
        # postconf knows the parameters that master.cf and other parameters bring with them.
        check = await channel.run(["postconf", "-n"])
        unused = set(re.findall(r"unused parameter: ([^\s=]+)", check["stderr"]))
        unknown = sorted(unused & set(settings))
        if unknown:
            MAIN_CF.write_text(before)
            channel.cool(MAIN_CF)
            return {"unknown": unknown}
    await restart()
    return {"unknown": []}


def clock_offset_s() -> float:
    """How far this host's clock was moved."""
    return float(CLOCK.read_text()) if CLOCK.exists() else 0.0


async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all that runs here, and have qmgr(8) look for mail that is due now.

    The first time Postfix is restarted, so that libfaketime is loaded into it;
    from then on its daemons see a new time the moment it is written.
    """
    offset_s = clock_offset_s() + seconds
    first = not PRELOAD.exists()
    running = bool(master_pid())
    if first:
        await stop()
        CLOCK.parent.mkdir(exist_ok=True)
    # In place: a file of another inode might be read half-written.
    with CLOCK.open("r+" if CLOCK.exists() else "w") as file:
        file.write(f"{offset_s:+015.1f}\n")
    if first:
        CLOCK_OUTSIDE.symlink_to(CLOCK)
        imported = (await channel.run(["postconf", "-h", "import_environment"]))["stdout"].strip()
        await configure({"import_environment": f"{imported} {CLOCK_ENVIRONMENT}"})
        PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    if running:
        await start()
        # Not a flush, which would try mail that is not due yet.
        await channel.run(["postkick", "public", "qmgr", "D"])
    return {"offset_s": offset_s}


async def mark(text: str) -> Dict[str, Any]:
    """Put a line into the mail log behind everything that was logged by now."""
    now = time.strftime("%b %e %H:%M:%S")
    line = f"{now} {socket.gethostname().split('.')[0]} maillab[1]: {text}".encode()
    await others_logged(line.replace(b"mark", b"behind", 1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        try:
            if not master_pid():
                raise ConnectionRefusedError
            log.sendto(line, str(QUEUE_DIRECTORY / "public/postlog"))
        except OSError:
            # No postlogd: nothing else writes, either.
            with LOG.open("ab", buffering=0) as file:
                file.write(line + b"\n")
    return {}


def places() -> Iterator[Tuple[str, Path]]:
    """Where mail may be stored, and whose it is: a file is an mbox, a folder a maildir."""
    for folder in SPOOLS:
        if folder.is_dir():
            yield from ((path.name, path) for path in folder.iterdir())
    for path in [*Path("/home").glob("*/*"), *Path("/root").iterdir()]:
        # home_mailbox may name any of them; a user's other files are no mail.
        if path.name in ("Mailbox", "Maildir") or (path / "new").is_dir():
            yield path.parent.name, path


async def others_logged(line: bytes) -> None:
    """Wait until the postlogd(8) of each other instance has written what it was given by now."""
    for folder in queue_directories()[1:]:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.sendto(line, str(folder / "public/postlog"))
            until = time.monotonic() + OTHERS_LOG_WITHIN_S
            while LOG.read_bytes().find(line) < 0 and time.monotonic() < until:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(LOOK_AGAIN_S)


async def collect() -> Dict[str, Any]:
    """All mailboxes and the names of all queue files."""
    mailboxes = []
    for owner, path in places():
        if path.is_dir():
            mailboxes += [
                [owner, "maildir", file.read_bytes().decode("latin-1")]
                for state in ("new", "cur")
                for file in path.glob(f"{state}/*")
            ]
        elif path.suffix != ".lock":
            # A lock says that some delivery agent is at work (mailbox_delivery_lock).
            mailboxes.append([owner, "mbox", path.read_bytes().decode("latin-1")])
    return {"mailboxes": mailboxes, "queued": queued()}


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


async def queue_lengths() -> Dict[str, Any]:
    """How many files are in each queue: cheap even when there are thousands."""
    return {
        "lengths": {
            queue: sum(len(files) for _, _, files in os.walk(QUEUE_DIRECTORY / queue))
            for queue in QUEUES
        },
        "running": bool(master_pid()),
    }


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


def due() -> bool:
    """Whether a moved clock has made deferred mail due: qmgr(8) keeps the time in its mtime."""
    if not PRELOAD.exists():
        return False
    now = time.time() + clock_offset_s()
    deferred = QUEUE_DIRECTORY / "deferred"
    return any(path.stat().st_mtime <= now for path in deferred.rglob("*") if path.is_file())


async def queue_files() -> Dict[str, Any]:
    """The queue directories alone, see ``queued``."""
    # In the order in which mail moves, or what leaves one queue might be seen in none.
    is_due = due()
    return {"queued": queued(), "running": bool(master_pid()), "due": is_due}


async def conclude(token: str) -> Dict[str, Any]:
    """Stop Postfix, mark the end of its log, and collect what it left."""
    for master in other_masters():
        await end(master)
    running = (await stop())["was_running"]
    await mark(f"mark {token}")
    return {"was_running": running, **await collect()}


async def reset(token: str) -> Dict[str, Any]:
    """Make this host what it was when it came up, Postfix running, and mark the log."""
    strays = list(names())
    for pid in strays:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await gone(strays)
    failed = put_back()
    await mark(f"mark {token}")
    await start()
    return {"failed": failed}


def prepare() -> None:
    """Before the first request: remember the host as it is now, for ``reset``."""
    baseline()


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        collect, conclude, configure, digest, mark, queue_files, queue_lengths, reload, reset,
        restart, start, stop, warp,
    )
}  # fmt: skip
